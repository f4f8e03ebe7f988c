//! A running service that has released a few meters to one gaining supplier, and everything on that supplier's disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cos_escrow::cli::demo::events::Event;
use cos_escrow::cli::demo::market::{Market, Supplier};
use cos_escrow::cli::demo::play::Play;
use cos_escrow::cli::demo::script::steps;
use cos_escrow::cli::meter::desk::{self, Desk};
use cos_escrow::cli::meter::head_end::{HeadEnd, How};
use cos_escrow::cli::meter::releases::{Loaded, SealingKeys, Source};
use cos_escrow::cli::meter::simulation::{Simulated, like};
use cos_escrow::envelope::SealingKeyPair;
use cos_escrow::identity::{Anchors, Identity, Subject, pem};
use cos_escrow::meter::profile::Profiles;
use cos_escrow::meter::secrets::Secrets;
use cos_escrow::types::{Clock as _, HandoverId, SupplyStartDate, SystemClock, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) market: Market,
    /// The files of what was released, one a meter.
    pub(super) releases: Vec<PathBuf>,
    events: Vec<Event>,
    anchors: Anchors,
}

impl World {
    /// A service that has released `count` DLMS meters, and whose clock shows the time of this machine.
    pub(super) async fn with_released(count: usize) -> Self {
        Self::with(&vec![Suite::Dlms; count]).await
    }

    /// The same with meters of these kinds.
    pub(super) async fn with(suites: &[Suite]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (now, count) = (SystemClock.now(), suites.len());
        let events = events(suites, now);
        let script = steps(&events);
        let suppliers = events.iter().flat_map(|event| [event.loser, event.gainer]);
        let suppliers: std::collections::BTreeSet<_> = suppliers.collect();
        let opening = script[0].at.before(Duration::from_secs(3_600));
        let mut market = Market::open(&folder.path().join("market"), opening, suppliers)
            .await
            .unwrap();
        let mut play = Play::new(&mut market, &events);
        play.register_losers().await.unwrap();
        for step in &script {
            play.take(step).await.unwrap();
        }
        let handed = std::mem::take(&mut play.handed);
        assert_eq!(handed.len(), count, "{:?}", play.outcomes);
        market.wait_until(SystemClock.now()).await.unwrap();
        let write = |(n, bytes): (usize, &Vec<u8>)| {
            let path = folder.path().join(format!("{n}.release"));
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let bytes = handed.iter().map(|handed| &handed.document.bytes);
        let releases = bytes.enumerate().map(write).collect();
        Self {
            anchors: anchors(&market),
            folder,
            market,
            releases,
            events,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn gainer(&self) -> &Supplier {
        &self.market.suppliers[&self.events[0].gainer]
    }

    pub(super) fn loser(&self) -> &Supplier {
        &self.market.suppliers[&self.events[0].loser]
    }

    pub(super) fn keys(&self) -> SealingKeys {
        let pair = &self.gainer().sealing;
        let secret = pair.to_secret();
        SealingKeys::only(SealingKeyPair::from_secret(pair.public().kem(), &secret).unwrap())
    }

    pub(super) fn load(&self, release: &Path) -> Loaded {
        Loaded::read(release, &self.keys()).unwrap()
    }

    /// The meters that were released, each with its handover and the keys that the losing supplier knows.
    pub(super) async fn meters(&self, faults: &[&str]) -> Vec<Wall> {
        let mut walls = Vec::new();
        for release in &self.releases {
            let loaded = self.load(release);
            let meter = like(&loaded, LOOPBACK, faults).await.unwrap();
            let known = loaded.opened.generations.iter();
            let known = known.map(|generation| generation.secrets().unwrap());
            walls.push(Wall {
                source: source(release, meter.label.address),
                handover: loaded.handover(),
                known: known.collect(),
                meter,
            });
        }
        walls
    }

    pub(super) fn desk_files(&self) -> desk::Files {
        desk::Files {
            journal: self.path("night.db"),
            journal_key: self.path("journal.key"),
        }
    }

    pub(super) async fn desk(&self) -> Desk {
        let settings = How::default().journal_settings();
        let desk = Desk::open_or_create(&self.desk_files(), settings).await;
        desk.unwrap()
    }

    pub(super) fn head_end<'a>(&'a self, desk: &'a Desk) -> HeadEnd<'a> {
        let gainer = self.gainer();
        HeadEnd {
            client: &gainer.client,
            party: gainer.party.clone(),
            signer: &gainer.signer,
            anchors: &self.anchors,
            clock: &self.market.clock,
            desk,
            profiles: Profiles::built_in(),
            how: How::default(),
            own_key: None,
        }
    }

    /// The state of a handover, as its gaining supplier sees it.
    pub(super) async fn state_of(&self, handover: HandoverId) -> String {
        let path = format!("/v1/handovers/{handover}");
        let request = cos_escrow::client::Request::get(path);
        let answer = self.gainer().client.send(request).await.unwrap();
        let view: Value = answer.json().unwrap();
        view["state"].as_str().unwrap().to_owned()
    }

    /// The generation whose word for the address of the meter led to it, as the confirmation's entry has it.
    pub(super) async fn confirmed_address_of(&self, handover: HandoverId) -> u64 {
        let path = "/v1/log/entries?kind=handover.confirmed";
        let request = cos_escrow::client::Request::get(path.to_owned());
        let answer = self.market.auditor.send(request).await.unwrap();
        let found: Value = answer.json().unwrap();
        let entry = &found["entries"][0]["disclosed"];
        assert_eq!(entry["handover"], handover.to_string());
        entry["address_of"].as_u64().unwrap()
    }

    /// What `cos-escrow` needs to be told to speak for the gaining supplier, from files.
    pub(super) fn write_configuration(&self) -> PathBuf {
        let gainer = self.gainer();
        let identity = Identity::party(gainer.party.clone());
        let now = self.market.clock.now();
        let write = |subject: &Subject, name: &str| {
            let files = self.market.write_identity(subject, name, now);
            files.unwrap().0
        };
        let cert = write(&Subject::Client(identity.clone()), "gainer.tls");
        let signing = write(&Subject::Signer(identity), "gainer.sign");
        write_key(&self.path("gainer.key"), &gainer.sealing);
        let config = format!(
            "url = \"https://localhost:{}\"\ncert = {cert:?}\nsigning_cert = {signing:?}\n\
             roots = {:?}\nlists = {:?}\nlog_key = \"{}\"\nstate_dir = \"state\"\nkeys = \"keys\"\n",
            self.market.instance.address.port(),
            self.market.root_file(),
            self.market.root_file().with_file_name("lists.pem"),
            self.market.instance.escrow.log_key(),
        );
        let path = self.path("config.toml");
        std::fs::write(&path, config).unwrap();
        path
    }
}

/// A meter on a wall.
pub(super) struct Wall {
    pub(super) source: Source,
    pub(super) handover: HandoverId,
    pub(super) meter: Simulated,
    known: Vec<Secrets>,
}

impl Wall {
    /// The meter has the keys that the journal has, not those that the losing supplier has, and no nonce came twice.
    pub(super) async fn assert_is_ours(&self, desk: &Desk) {
        let meter = &self.meter.simulator;
        let ours = desk.journal.newest_secrets(self.handover).await.unwrap();
        assert!(meter.holds(&ours));
        assert!(!self.is_untouched());
        assert_eq!(meter.nonce_reuses(), 0);
    }

    /// The meter has what the losing supplier knows, and nothing else.
    pub(super) fn is_untouched(&self) -> bool {
        let meter = &self.meter.simulator;
        self.known.iter().any(|secrets| meter.holds(secrets))
    }
}

pub(super) fn source(release: &Path, address: SocketAddr) -> Source {
    Source {
        release: release.to_owned(),
        address: Some(address),
        repoint: None,
    }
}

/// The authority that everybody in the market trusts.
fn anchors(market: &Market) -> Anchors {
    let read = |name: &str| std::fs::read(market.root_file().with_file_name(name)).unwrap();
    let roots = pem::certificates(&read("root.pem")).unwrap();
    let lists = pem::lists(&read("lists.pem")).unwrap();
    Anchors::new(&roots, &lists, market.clock.now()).unwrap()
}

/// What opens a meter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Suite {
    Dlms,
    Passwords,
}

/// Changes of supplier of such meters from one supplier to another, effective yesterday.
fn events(suites: &[Suite], now: Timestamp) -> Vec<Event> {
    let text = include_str!("../../data/cos_events.jsonl");
    let template = |suite| {
        let mut events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let fit = |event: &Value| {
            event["scenario"] == "normal"
                && event["fuel"] == "E"
                && event["security"]["suite"] == suite
        };
        events.find(fit).unwrap()
    };
    let parties = template("dlms-0");
    let start = SupplyStartDate::containing(now.before(Duration::from_secs(86_400))).unwrap();
    let start_at = start.effective_at();
    let event = |(number, suite): (usize, &Suite)| {
        let mut event = match suite {
            Suite::Dlms => template("dlms-0"),
            Suite::Passwords => template("password"),
        };
        for party in ["loser", "gainer", "requester"] {
            event[party] = parties[party].clone();
        }
        event["event_id"] = json!(format!("{number:08x}-6d29-4a85-86e5-0a8cd526b61e"));
        event["mpxn"] = json!(supply_point(number));
        event["meter"]["msn"] = json!(format!("E19B{number:06}"));
        event["meter"]["outstation_id"] = json!(format!("{number:08}"));
        match suite {
            Suite::Dlms => {
                event["security"]["system_title"] =
                    json!(format!("{:016X}", 0x4142_4300_0000_0000 + number));
            }
            // The profile of the simulated meters is for this make.
            Suite::Passwords => event["meter"]["make_model"] = json!("Simulated MC100"),
        }
        event["supply_start_date"] = json!(start);
        event["effective_utc"] = json!(start_at);
        event["gate_closure_utc"] = json!(start_at.before(Duration::from_secs(7 * 3_600)));
        event.to_string()
    };
    let lines: Vec<_> = (1..).zip(suites).map(event).collect();
    Event::read_all(&lines.join("\n")).unwrap()
}

fn supply_point(number: usize) -> String {
    let mut candidates = (0..10).map(|check| format!("98{number:010}{check}"));
    let valid = |digits: &String| digits.parse::<cos_escrow::types::SupplyPoint>().is_ok();
    candidates.find(valid).unwrap()
}

fn write_key(path: &Path, pair: &SealingKeyPair) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let text = format!(
        "cos-escrow-sealing-key 1\nkem {}\nkey-id {}\nprivate {}\n",
        pair.public().kem(),
        pair.id(),
        BASE64_URL_SAFE_NO_PAD.encode(pair.to_secret().expose())
    );
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
