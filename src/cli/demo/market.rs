//! A throw-away market: an authority, a running service, and everybody who talks to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::cli::instance::Instance;
use crate::cli::settings::Settings;
use crate::client::{Client, Depositor, Endpoint, LogView, Request};
use crate::envelope::{Kem, SealingKeyPair};
use crate::identity::{Authority, Identity, Issued, SigningIdentity, Subject, pem};
use crate::tls::{Files, Material, PostQuantum, client_config};
use crate::types::{Clock, ManualClock, Mpid, PartyId, Secret, SystemRandom, Timestamp};

/// Everybody, with the clock that all of them go by.
pub struct Market {
    /// Where everything lies.
    pub folder: PathBuf,
    /// The time that everybody goes by.
    pub clock: ManualClock,
    /// The service.
    pub instance: Instance,
    /// Suppliers by their MPID.
    pub suppliers: BTreeMap<Mpid, Supplier>,
    /// Keeps the directory.
    pub operator: Client,
    /// Brings registrations.
    pub registrar: Client,
    /// Reads the log.
    pub auditor: Client,
    authority: Authority,
    issued_at: Timestamp,
}

/// A supplier with all that it signs, opens and connects with.
pub struct Supplier {
    /// Its id.
    pub party: PartyId,
    /// Its connection.
    pub client: Client,
    /// Its signing leaf.
    pub signer: SigningIdentity,
    /// What packages for it are sealed to.
    pub sealing: SealingKeyPair,
}

impl Supplier {
    /// The supplier as it signs now.
    pub fn depositor(&self, now: Timestamp) -> Depositor<'_> {
        Depositor {
            party: self.party.clone(),
            signer: &self.signer,
            random: &SystemRandom,
            now,
        }
    }
}

impl Market {
    /// Opens the market in an empty folder at an instant: the service runs, the suppliers take part and have keys.
    pub async fn open(
        folder: &Path,
        now: Timestamp,
        suppliers: impl IntoIterator<Item = Mpid>,
    ) -> Result<Self, Failure> {
        Self::open_with(folder, now, suppliers, Kem::XWing).await
    }

    /// The same, with sealing keys of this KEM.
    pub async fn open_with(
        folder: &Path,
        now: Timestamp,
        suppliers: impl IntoIterator<Item = Mpid>,
        kem: Kem,
    ) -> Result<Self, Failure> {
        let clock = ManualClock::at(now);
        let authority = Authority::create("demo", now).map_err(Failure::failed)?;
        fs::create_dir_all(folder.join("pki")).map_err(Failure::failed)?;
        write_service_files(folder, &authority, now)?;
        fs::write(folder.join("escrow.toml"), SETTINGS).map_err(Failure::failed)?;
        let settings = Settings::load(&folder.join("escrow.toml"))?;
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
            .build_recorder()
            .handle();
        let instance = Instance::start(
            settings,
            Arc::new(clock.clone()),
            Arc::new(SystemRandom),
            metrics,
        )
        .await?;
        let connect = |kind: &str| {
            let identity = format!("urn:cos-escrow:{kind}:demo").parse();
            let identity: Identity = identity.expect("a valid identity");
            connect(&authority, &clock, &instance, identity)
        };
        let mut market = Self {
            folder: folder.to_owned(),
            operator: connect("operator")?,
            registrar: connect("registrar")?,
            auditor: connect("auditor")?,
            suppliers: BTreeMap::new(),
            clock,
            instance,
            authority,
            issued_at: now,
        };
        for mpid in suppliers {
            market.join(mpid, kem).await?;
        }
        Ok(market)
    }

    /// Adds a supplier: the operator names it and its MPID, it publishes its first sealing key.
    async fn join(&mut self, mpid: Mpid, kem: Kem) -> Result<(), Failure> {
        let party: PartyId = mpid
            .as_str()
            .to_lowercase()
            .parse()
            .map_err(Failure::failed)?;
        let add = json!({ "id": party, "name": format!("Supplier {mpid}") });
        let hold = json!({ "mpid": mpid, "role": "X", "at": "2010-01-01T00:00:00.000Z" });
        let mpids = format!("/v1/parties/{party}/mpids");
        for (path, body) in [("/v1/parties", add), (mpids.as_str(), hold)] {
            let request = Request::post(path, body.to_string());
            self.operator.acknowledged(request).await?;
        }
        let supplier = Supplier {
            client: self.connect(Identity::party(party.clone()))?,
            signer: self.signer(&party)?,
            sealing: SealingKeyPair::generate(kem, &SystemRandom),
            party,
        };
        let now = self.clock.now();
        let valid = (now, now.after(Duration::from_secs(2 * 366 * 86_400)));
        supplier
            .client
            .publish_key(&supplier.sealing, valid, 1, &supplier.depositor(now))
            .await?;
        self.suppliers.insert(mpid, supplier);
        Ok(())
    }

    /// Moves the clock on; certificates and revocation lists are renewed when their time comes.
    pub async fn wait_until(&mut self, at: Timestamp) -> Result<(), Failure> {
        while self.clock.now() < at {
            let next = self.issued_at.after(RENEWAL).min(at);
            self.clock.set(next.max(self.clock.now()));
            if self.clock.now() >= self.issued_at.after(RENEWAL) {
                self.renew().await?;
            }
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        self.issued_at = now;
        write_service_files(&self.folder, &self.authority, now)?;
        let settings = Settings::load(&self.folder.join("escrow.toml"))?;
        self.instance.reload(&settings).await?;
        let named = |kind: &str| {
            let identity = format!("urn:cos-escrow:{kind}:demo").parse::<Identity>();
            self.connect(identity.expect("a valid identity"))
        };
        let staff = (named("operator")?, named("registrar")?, named("auditor")?);
        (self.operator, self.registrar, self.auditor) = staff;
        let mut renewed = Vec::new();
        for (mpid, supplier) in &self.suppliers {
            let client = self.connect(Identity::party(supplier.party.clone()))?;
            renewed.push((*mpid, client, self.signer(&supplier.party)?));
        }
        for (mpid, client, signer) in renewed {
            if let Some(supplier) = self.suppliers.get_mut(&mpid) {
                (supplier.client, supplier.signer) = (client, signer);
            }
        }
        Ok(())
    }

    /// A client with a fresh certificate of this identity.
    pub fn connect(&self, identity: Identity) -> Result<Client, Failure> {
        connect(&self.authority, &self.clock, &self.instance, identity)
    }

    /// The service, and a fresh certificate of this identity to speak to it with.
    pub fn endpoint(&self, identity: Identity) -> Result<Endpoint, Failure> {
        endpoint(&self.authority, &self.clock, &self.instance, identity)
    }

    /// Sends registration records, one a line; a line that was refused is a failure.
    pub async fn register(&self, csv: bool, lines: &[String]) -> Result<(), Failure> {
        let kind = if csv {
            "text/csv"
        } else {
            "application/x-ndjson"
        };
        let request =
            Request::post("/v1/registrations", lines.join("\n")).header("content-type", kind);
        let answer = self.registrar.send(request).await?;
        for line in answer.body.split(|byte| *byte == b'\n') {
            let Ok(result) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if result.get("code").is_some() {
                return Err(Failure::failed(format!(
                    "a registration was refused: {result}"
                )));
            }
        }
        Ok(())
    }

    /// The service's own TLS files.
    pub fn service_files(&self) -> Files {
        let pki = self.folder.join("pki");
        Files {
            chain: pki.join("server.pem"),
            key: pki.join("server.key"),
            roots: pki.join("root.pem"),
            lists: pki.join("lists.pem"),
        }
    }

    /// The service's certificate authority, as PEM files that `curl` takes.
    pub fn root_file(&self) -> PathBuf {
        self.folder.join("pki/root.pem")
    }

    /// Writes a certificate and key of an identity, valid from `now`, for use outside this process.
    pub fn write_identity(
        &self,
        subject: &Subject,
        name: &str,
        now: Timestamp,
    ) -> Result<(PathBuf, PathBuf), Failure> {
        let issued = self
            .authority
            .issue(subject, 90, now)
            .map_err(Failure::failed)?;
        let folder = self.folder.join("pki");
        let files = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        write_issued(&issued, &files.0, &files.1)?;
        Ok(files)
    }

    /// Writes the service's certificate and lists anew, valid from `now`.
    pub fn write_service_files(&self, now: Timestamp) -> Result<(), Failure> {
        write_service_files(&self.folder, &self.authority, now)
    }

    fn signer(&self, party: &PartyId) -> Result<SigningIdentity, Failure> {
        let subject = Subject::Signer(Identity::party(party.clone()));
        let issued = self.authority.issue(&subject, 365, self.clock.now());
        let issued = issued.map_err(Failure::failed)?;
        let key = own_key(&issued)?;
        SigningIdentity::new(issued.chain, &key).map_err(Failure::failed)
    }
}

fn connect(
    authority: &Authority,
    clock: &ManualClock,
    instance: &Instance,
    identity: Identity,
) -> Result<Client, Failure> {
    let endpoint = endpoint(authority, clock, instance, identity)?;
    let view = LogView::fresh(instance.escrow.log_key().clone());
    Ok(Client::new(endpoint, Some(view)))
}

fn endpoint(
    authority: &Authority,
    clock: &ManualClock,
    instance: &Instance,
    identity: Identity,
) -> Result<Endpoint, Failure> {
    let now = clock.now();
    let issued = authority
        .issue(&Subject::Client(identity), 90, now)
        .map_err(Failure::failed)?;
    let lists = authority
        .lists(now, now.after(LISTS_VALID))
        .map_err(Failure::failed)?;
    let material = Material {
        key: own_key(&issued)?,
        chain: issued.chain,
        roots: vec![authority.root().clone()],
        lists: lists.into(),
    };
    let tls = client_config(&material, PostQuantum::Preferred, Arc::new(clock.clone()))
        .map_err(Failure::failed)?;
    Ok(Endpoint {
        host: "localhost".to_owned(),
        port: instance.address.port(),
        tls: Arc::new(tls),
    })
}

fn own_key(issued: &Issued) -> Result<Secret, Failure> {
    let key = issued.key.as_ref();
    key.map(|key| Secret::new(key.expose().to_vec()))
        .ok_or_else(|| Failure::failed("a certificate without its key"))
}

fn write_service_files(
    folder: &Path,
    authority: &Authority,
    now: Timestamp,
) -> Result<(), Failure> {
    let folder = folder.join("pki");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issued = authority
        .issue(&Subject::Server(names), 90, now)
        .map_err(Failure::failed)?;
    write_issued(
        &issued,
        &folder.join("server.pem"),
        &folder.join("server.key"),
    )?;
    let root = pem::of_certificates([authority.root()]);
    let lists = authority
        .lists(now, now.after(LISTS_VALID))
        .map_err(Failure::failed)?;
    fs::write(folder.join("root.pem"), root).map_err(Failure::failed)?;
    fs::write(folder.join("lists.pem"), pem::of_lists(&lists)).map_err(Failure::failed)
}

fn write_issued(issued: &Issued, chain: &Path, key: &Path) -> Result<(), Failure> {
    let text = issued
        .key_pem()
        .ok_or_else(|| Failure::failed("a certificate without its key"))?;
    fs::write(chain, issued.chain_pem()).map_err(Failure::failed)?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(key)
        .map_err(Failure::failed)?;
    file.write_all(text.expose()).map_err(Failure::failed)
}

/// The configuration of the demo's service: everything on loopback, on ports that are free.
pub(super) const SETTINGS: &str = r#"# The demo's service. `cos-escrow serve --config` reads this; `config show` explains each value.
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
store = "escrow.db"
keys = "keys"
origin = "demo.cos-escrow.example/log/1"
anchor = "anchor"

[tls]
chain = "pki/server.pem"
key = "pki/server.key"
roots = "pki/root.pem"
lists = "pki/lists.pem"
"#;
/// After which time certificates and lists are issued anew.
const RENEWAL: Duration = Duration::from_secs(30 * 86_400);
/// For how long a revocation list is current.
const LISTS_VALID: Duration = Duration::from_secs(40 * 86_400);
