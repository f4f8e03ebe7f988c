//! The real binary in real time: its files, a throw-away PKI, two suppliers, and as many handovers as a test wants.

mod mirror;
mod parties;
mod service;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cos_escrow::cli::demo::events::Event;
use cos_escrow::client::{Client, Endpoint, LogView, Request};
use cos_escrow::identity::{Authority, Issued, Serial, Subject, pem};
use cos_escrow::tls::{Material, PostQuantum, client_config};
use cos_escrow::types::{Clock as _, Secret, SupplyStartDate, SystemClock, Timestamp};
use serde_json::json;
use tempfile::TempDir;

pub(crate) use mirror::{Log, Mirror};
pub(crate) use parties::{
    Acknowledged, Supplier, What, confirmation, deposit_body, deposit_of, release_of,
};
pub(crate) use service::{BINARY, Service, Starting};

/// Everything on disk, and the authority that everybody trusts.
pub(crate) struct Live {
    folder: TempDir,
    authority: Mutex<Authority>,
    pub(crate) loser: Supplier,
    pub(crate) gainer: Supplier,
    template: Event,
}

impl Live {
    /// The files of a service that has not run yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Old enough to have issued what has expired by now.
        let authority = Authority::create("live", now().before(200 * DAY)).unwrap();
        fs::create_dir(folder.path().join("pki")).unwrap();
        fs::write(folder.path().join("escrow.toml"), SETTINGS).unwrap();
        let events = Event::read_all(include_str!("../../data/cos_events.jsonl")).unwrap();
        let template = events.into_iter().find(Event::is_dlms).unwrap();
        let live = Self {
            loser: Supplier::new(template.loser, &authority),
            gainer: Supplier::new(template.gainer, &authority),
            authority: Mutex::new(authority),
            folder,
            template,
        };
        let server = Subject::Server(vec!["localhost".to_owned()]);
        let server = live.authority.lock().unwrap().issue(&server, 30, now());
        live.write_issued("server", &server.unwrap());
        let root = pem::of_certificates([live.authority.lock().unwrap().root()]);
        fs::write(live.pki("root.pem"), root).unwrap();
        let issuing = pem::of_certificates([live.authority.lock().unwrap().issuing()]);
        fs::write(live.pki("issuing.pem"), issuing).unwrap();
        live.write_lists();
        live
    }

    /// A running service with both suppliers in its directory, each with a sealing key.
    pub(crate) async fn open() -> (Self, Service) {
        let live = Self::new();
        let service = live.start().await;
        live.join(&service).await;
        (live, service)
    }

    /// Both suppliers enter the directory, each with a sealing key.
    pub(crate) async fn join(&self, service: &Service) {
        let operator = self.staff("operator", service);
        for supplier in [&self.loser, &self.gainer] {
            supplier.join(&operator).await;
            let client = self.client(&supplier.tls, service);
            supplier.publish_key(&client).await;
        }
    }

    /// Puts the keys and the anchor into folders of their own, as on other volumes than the database.
    pub(crate) fn separate(&self) {
        let settings = SETTINGS
            .replace("\"keys\"", "\"vault/keys\"")
            .replace("\"anchor\"", "\"aside/anchor\"");
        fs::write(self.path("escrow.toml"), settings).unwrap();
        for folder in ["vault", "aside"] {
            fs::create_dir(self.path(folder)).unwrap();
        }
    }

    pub(crate) async fn start(&self) -> Service {
        self.spawn().listening().await
    }

    /// A service that may not listen yet.
    pub(crate) fn spawn(&self) -> Starting {
        self.spawn_with(&[])
    }

    /// A service that may not listen yet, with more in its environment.
    pub(crate) fn spawn_with(&self, environment: &[(&str, PathBuf)]) -> Starting {
        Starting::spawn(self.folder.path(), environment)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.folder.path().join("pki").join(name)
    }

    /// Runs another command of the binary on the same configuration.
    pub(crate) async fn run(&self, command: &[&str], arguments: &[(&str, &Path)]) -> Output {
        let mut process = tokio::process::Command::new(BINARY);
        process
            .args(command)
            .arg("--config")
            .arg(self.path("escrow.toml"));
        for (name, value) in arguments {
            process.arg(name).arg(value);
        }
        process.output().await.unwrap()
    }

    /// A certificate of a client, issued at an instant.
    pub(crate) fn issue(&self, identity: &str, at: Timestamp) -> Issued {
        let subject = Subject::Client(identity.parse().unwrap());
        let authority = self.authority.lock().unwrap();
        authority.issue(&subject, 30, at).unwrap()
    }

    /// Puts a certificate on the list that the service reads when it is told to.
    pub(crate) fn revoke(&self, serial: &Serial) {
        let mut authority = self.authority.lock().unwrap();
        authority.revoke(serial.clone(), now());
        drop(authority);
        self.write_lists();
    }

    /// A client that remembers nothing when it is dropped.
    pub(crate) fn client(&self, issued: &Issued, service: &Service) -> Client {
        let view = LogView::fresh(service.log_key.clone());
        self.client_with(issued, service, view)
    }

    /// A client that remembers the log under a name, from one process of the service to the next.
    pub(crate) fn pinned(&self, issued: &Issued, service: &Service, name: &str) -> Client {
        let view = LogView::kept(service.log_key.clone(), &self.path(name)).unwrap();
        self.client_with(issued, service, view)
    }

    fn client_with(&self, issued: &Issued, service: &Service, view: LogView) -> Client {
        let tls = client_config(
            &self.material(issued),
            PostQuantum::Preferred,
            Arc::new(SystemClock),
        );
        let endpoint = Endpoint {
            host: "localhost".to_owned(),
            port: service.address.port(),
            tls: Arc::new(tls.unwrap()),
        };
        Client::new(endpoint, Some(view))
    }

    pub(crate) fn material(&self, issued: &Issued) -> Material {
        let authority = self.authority.lock().unwrap();
        Material {
            chain: issued.chain.clone(),
            key: Secret::new(issued.key.as_ref().unwrap().expose().to_vec()),
            roots: vec![authority.root().clone()],
            lists: authority.lists(now(), now().after(DAY)).unwrap().into(),
        }
    }

    /// An operator, a registrar or an auditor.
    pub(crate) fn staff(&self, kind: &str, service: &Service) -> Client {
        let issued = self.issue(&format!("urn:cos-escrow:{kind}:live"), now());
        self.client(&issued, service)
    }

    /// The change of supplier of this number.
    pub(crate) fn event(&self, number: u64) -> Event {
        let supply_start_date = SupplyStartDate::containing(now().before(2 * DAY)).unwrap();
        let mut event = self.template.clone();
        event.mpxn = supply_point(number);
        event.event_id = format!("{number:08}-drill");
        event.supply_start_date = supply_start_date;
        event.effective_utc = supply_start_date.effective_at();
        event
    }

    /// Registers the loser, and secures the gainer, for these changes. Repeating it changes nothing.
    pub(crate) async fn register(
        &self,
        registrar: &Client,
        events: &[Event],
    ) -> Result<(), cos_escrow::client::ClientError> {
        let header = "registration_id,mpxn,supplier_mpid,supply_start_date,supply_end_date,status,meter_serial";
        let snapshot = events.iter().map(|event| {
            let (id, point, loser) = (event.registration_id(), &event.mpxn, event.loser);
            format!("P-{id},{point},{loser},2020-01-01,,SecuredActive,")
        });
        let snapshot: Vec<_> = [header.to_owned()].into_iter().chain(snapshot).collect();
        let switches = events.iter().flat_map(|event| {
            [
                ("RegistrationPendingNotification", "Pending"),
                ("RegistrationSecuredActiveNotification", "SecuredActive"),
            ]
            .map(|(kind, status)| event.css(kind, status, event.effective_utc).to_string())
        });
        let switches: Vec<_> = switches.collect();
        for (kind, lines) in [("text/csv", snapshot), ("application/x-ndjson", switches)] {
            let request = Request::post("/v1/registrations", lines.join("\n"));
            let answer = registrar.send(request.header("content-type", kind)).await?;
            let text = String::from_utf8_lossy(&answer.body);
            assert!(
                !text.contains("\"code\""),
                "a registration was refused: {text}"
            );
        }
        Ok(())
    }

    /// Writes a certificate and its key for tools that read files.
    pub(crate) fn write_issued(&self, name: &str, issued: &Issued) {
        fs::write(self.pki(&format!("{name}.pem")), issued.chain_pem()).unwrap();
        let mut key = fs::OpenOptions::new();
        key.write(true).create(true).truncate(true).mode(0o600);
        let mut key = key.open(self.pki(&format!("{name}.key"))).unwrap();
        key.write_all(issued.key_pem().unwrap().expose()).unwrap();
    }

    fn write_lists(&self) {
        let authority = self.authority.lock().unwrap();
        let lists = authority.lists(now(), now().after(7 * DAY)).unwrap();
        fs::write(self.pki("lists.pem"), pem::of_lists(&lists)).unwrap();
    }
}

/// The time, as the service sees it too.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// A supply point of this number: the check digit is the one that fits.
fn supply_point(number: u64) -> cos_escrow::types::SupplyPoint {
    let fitting = (0..10).find_map(|check| {
        format!("{:012}{check}", 960_000_000_000 + number)
            .parse()
            .ok()
    });
    fitting.expect("one digit fits")
}

/// What a supplier asks a release with.
pub(crate) fn release_request(event: &Event) -> serde_json::Value {
    json!({ "meter_serial": event.serial() })
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
const SETTINGS: &str = r#"listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
store = "escrow.db"
keys = "keys"
origin = "live.cos-escrow.example/log/1"
anchor = "anchor"

[tls]
chain = "pki/server.pem"
key = "pki/server.key"
roots = "pki/root.pem"
lists = "pki/lists.pem"
"#;
