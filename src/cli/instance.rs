//! A running service: opened, checked, bound, and stopped in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::settings::Settings;
use super::sole;
use crate::custody::Custody;
use crate::http::{self, Doors};
use crate::identity::Anchors;
use crate::lock::Lock;
use crate::policy::Engine;
use crate::service::{Caller, Escrow, Foundation, Rules, may_begin};
use crate::store::{Store, StoreOptions};
use crate::tls::{LiveTls, Material};
use crate::types::{Clock, Random};

/// A service that accepts connections.
pub struct Instance {
    /// Where suppliers and auditors connect.
    pub address: SocketAddr,
    /// Where probes connect.
    pub admin: SocketAddr,
    /// The use cases, for what runs in the same process.
    pub escrow: Escrow,
    tls: Arc<LiveTls>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    sole: Lock,
}

impl Instance {
    /// Takes its addresses, opens everything, then listens: a service that cannot work does not listen, and one that
    /// could not listen leaves nothing behind.
    pub async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: PrometheusHandle,
    ) -> Result<Self, Failure> {
        let material = Material::load(&settings.tls)?;
        let hybrid = settings.post_quantum.into();
        let tls = LiveTls::new(&material, hybrid, Arc::clone(&clock)).map_err(Failure::failed)?;
        let tls = Arc::new(tls);
        let anchors = Arc::clone(tls.trust().anchors());
        let witnessing = match &settings.witnesses {
            Some(witnesses) => Some(witnesses.open(&clock)?),
            None => None,
        };
        let listen = Place::take("listen", settings.listen)?;
        let admin = Place::take("admin", settings.admin)?;
        // ORDER: before this, nothing is made or changed.
        let sole = sole::writer_of(&settings.store)?;
        let may_be_first = Start::MayBeFirst;
        let mut foundation =
            foundation(&settings, may_be_first, anchors, Arc::clone(&clock), random).await?;
        foundation.witnessing = witnessing;
        let escrow = Escrow::start(foundation).await.map_err(Failure::failed)?;
        let doors = Doors {
            escrow: escrow.clone(),
            tls: Arc::clone(&tls),
            clock,
        };
        let (listener, address) = listen.listen()?;
        let (admin_listener, admin) = admin.listen()?;
        let stop = CancellationToken::new();
        let mut tasks = vec![tokio::spawn(http::listen::serve(
            listener,
            Arc::clone(&tls),
            http::api(doors.clone()),
            settings.limits.to_limits(),
            stop.clone(),
        ))];
        let routes = http::admin(doors, metrics);
        let stopped = stop.clone().cancelled_owned();
        tasks.push(tokio::spawn(async move {
            let serving = http::serve_admin(admin_listener, routes, stopped).await;
            if let Err(error) = serving {
                tracing::error!(%error, "the admin listener ended");
            }
        }));
        tasks.push(tokio::spawn(housekeeping(escrow.clone(), stop.clone())));
        Ok(Self {
            address,
            admin,
            escrow,
            tls,
            stop,
            tasks,
            sole,
        })
    }

    /// Reads certificates, revocation lists, roots and policies again, where the settings now say. What is not
    /// acceptable changes nothing. Addresses, store, keys and limits stay as they were until the next start.
    pub async fn reload(&self, settings: &Settings) -> Result<(), Failure> {
        let material = Material::load(&settings.tls)?;
        // ORDER: the rules are read before the trust is replaced, so that a bad policy leaves both as they were.
        rules(settings, Arc::clone(self.tls.trust().anchors()))?;
        self.tls.reload(&material).map_err(Failure::failed)?;
        let anchors = Arc::clone(self.tls.trust().anchors());
        let rules = rules(settings, anchors)?;
        self.escrow
            .replace_rules(Caller::service(), rules)
            .await
            .map_err(Failure::failed)
    }

    /// Accepts nothing more, lets running requests finish, and returns when all is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has been logged; the others still have to end.
            let _ = task.await;
        }
        if let Err(error) = self.escrow.write_last_summaries().await {
            tracing::error!(%error, "counted refusals were not written");
        }
        drop(self.sole);
    }
}

/// Whether keys may have to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// They may, for a log that has never begun.
    MayBeFirst,
    /// They may not: somebody works on what a service has left.
    Later,
}

/// What the use cases stand on: the database, the keys and the rules that the settings name.
pub(super) async fn foundation(
    settings: &Settings,
    start: Start,
    anchors: Arc<Anchors>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<Foundation, Failure> {
    let rules = rules(settings, anchors)?;
    let origin = settings.origin.parse().map_err(|_| {
        Failure::new(
            Exit::Usage,
            "`origin` must be a name without spaces and `+`",
        )
    })?;
    let options = StoreOptions {
        path: settings.store.clone(),
        readers: settings.readers,
    };
    let store = Store::open(&options).await.map_err(Failure::failed)?;
    let head = store.head().await.map_err(Failure::failed)?;
    // New keys beside a log that has begun would sign it in another name and open none of its records; and the old ones
    // sign no second log.
    let begins = start == Start::MayBeFirst && head.size == 0 && {
        let has_root_key = Custody::has_root_key(&settings.keys).map_err(Failure::failed)?;
        let begins = may_begin(&settings.anchor, has_root_key).await;
        begins.map_err(Failure::failed)?
    };
    let custody = match begins {
        true => Custody::open_or_create(&settings.keys, clock.now(), &*random),
        false => Custody::open(&settings.keys),
    };
    Ok(Foundation {
        store,
        custody: custody.map_err(Failure::failed)?,
        rules,
        origin,
        anchor: settings.anchor.clone(),
        witnessing: None,
        clock,
        random,
    })
}

/// Policies, terms and trust as the settings now say.
fn rules(settings: &Settings, anchors: Arc<Anchors>) -> Result<Rules, Failure> {
    let operator = match &settings.policies {
        Some(folder) => operator_policies(folder)?,
        None => Vec::new(),
    };
    Ok(Rules {
        policy: Engine::with_operator(&operator).map_err(Failure::failed)?,
        terms: settings.terms.clone(),
        anchors,
        seal_server: settings.seal_server,
    })
}

/// Every `*.cedar` file of a folder, by name.
fn operator_policies(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
    let mut policies = Vec::new();
    for file in std::fs::read_dir(folder).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = std::fs::read_to_string(&path).map_err(failed)?;
            policies.push((name.into_owned(), text));
        }
    }
    policies.sort();
    Ok(policies)
}

/// An address that is ours, and on which nothing listens yet.
struct Place {
    setting: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

impl Place {
    /// Takes the address that a setting names.
    fn take(setting: &'static str, address: SocketAddr) -> Result<Self, Failure> {
        let take = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // Connections of a former process may still be ending.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        let socket = take().map_err(|error| unusable(setting, address, &error))?;
        Ok(Self {
            setting,
            address,
            socket,
        })
    }

    fn listen(self) -> Result<(TcpListener, SocketAddr), Failure> {
        let listen = || {
            let listener = self.socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        listen().map_err(|error| unusable(self.setting, self.address, &error))
    }
}

fn unusable(setting: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    let failure = Failure::failed(format!("`{setting}`, {address}: {error}"));
    match error.kind() {
        std::io::ErrorKind::AddrInUse => failure.hint(format!(
            "is a service running already? Otherwise name another address for `{setting}`"
        )),
        _ => failure,
    }
}

/// What is due from time to time: counted refusals are written, confirmed handovers closed.
async fn housekeeping(escrow: Escrow, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        if escrow.fenced().is_some() {
            continue;
        }
        let done = [
            ("counted refusals", escrow.write_summaries().await),
            ("late handovers", escrow.mark_overdue().await.map(drop)),
            (
                "confirmed handovers",
                escrow.close_confirmed().await.map(drop),
            ),
            ("epochs of keys", escrow.roll_epochs().await.map(drop)),
            ("old answers", escrow.forget_answers().await),
        ];
        for (what, result) in done {
            if let Err(error) = result {
                tracing::error!(what, %error, "housekeeping failed; the next round tries again");
            }
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// How often housekeeping runs.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
