//! The meter of `tests/peers/meter`: another language, another crypto library, no code of ours.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cos_escrow::dlms::keys::{KeyRole, Suite};
use cos_escrow::meter::secrets::KeySet;
use cos_escrow::meter::simulate::Simulator;
use tokio::process::{Child, Command};

use super::world::{World, seed};

pub(super) struct Peer {
    address: SocketAddr,
    state: PathBuf,
    log: PathBuf,
    /// Killed when this is dropped.
    _process: Child,
}

impl Peer {
    pub(super) async fn start(world: &World, suite: Suite, faults: &[&str]) -> Self {
        let (state, log) = (world.scratch("peer.json"), world.scratch("peer.log"));
        let output = std::fs::File::create(&log).unwrap();
        let process = Command::new(python())
            .arg(peers().join("metersim.py"))
            .args(["--port", "0", "--initial-ic", "500", "--state"])
            .arg(&state)
            .args(["--suite", &suite.id().to_string()])
            .args(faults.iter().flat_map(|fault| switches(fault)))
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("the Python of COS_ESCROW_TEST_PYTHON starts");
        let address = announced(&log).await;
        Self {
            address,
            state,
            log,
            _process: process,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All it said on stderr.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether these are exactly its keys.
    pub(super) fn holds(&self, set: &KeySet) -> bool {
        let names = ["guek", "gbek", "gak", "kek"];
        let roles = [KeyRole::Guek, KeyRole::Gbek, KeyRole::Gak, KeyRole::Kek];
        names.into_iter().zip(roles).all(|(name, role)| {
            set.key(role)
                .is_none_or(|key| self.bytes(name) == key.expose())
        })
    }

    /// A list of texts in its state.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let state = std::fs::read(&self.state).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let items = state[name].as_array().unwrap().iter();
        items
            .map(|item| String::from_utf8(unhex(item.as_str().unwrap())).unwrap())
            .collect()
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let state = std::fs::read(&self.state).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        unhex(state[name].as_str().unwrap())
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// The switches of `metersim.py` for a fault of ours.
fn switches(fault: &str) -> Vec<String> {
    match fault {
        "silent" | "no-ic-reset" | "answer-general" | "cse" => vec![format!("--{fault}")],
        "pdu:512" => vec!["--pdu".to_owned(), "512".to_owned()],
        transfer => vec!["--fault".to_owned(), format!("kt-{transfer}")],
    }
}

/// Waits for the line that tells the port.
pub(super) async fn announced(log: &Path) -> SocketAddr {
    for _ in 0..200 {
        let text = std::fs::read_to_string(log).unwrap();
        let address = text
            .split_once("meter on ")
            .and_then(|(_, rest)| rest.split_once(' '));
        if let Some((address, _)) = address {
            return address.parse().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "metersim.py did not start: {}",
        std::fs::read_to_string(log).unwrap()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration of their own"
)]
pub(super) fn python() -> String {
    std::env::var("COS_ESCROW_TEST_PYTHON").expect(
        "set COS_ESCROW_TEST_PYTHON to a Python 3.11 with the package `cryptography` (see tests/peers/meter/README.md)",
    )
}

pub(super) fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/meter")
}

#[tokio::test]
async fn a_foreign_client_finds_our_simulated_meter_a_meter() {
    for suite in [Suite::Zero, Suite::One, Suite::Two] {
        let mut seed = seed(suite);
        seed.last_counter = None;
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let meter = Simulator::start(bind, seed, Default::default())
            .await
            .unwrap();
        let output = Command::new(python())
            .arg(peers().join("crosscheck_dlms_cosem.py"))
            .args([meter.address().port().to_string(), suite.id().to_string()])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(text.trim_end().ends_with("OK"), "{suite:?}: {text}{errors}");
        assert!(text.contains("profile rows 40"), "{suite:?}: {text}");
    }
}
