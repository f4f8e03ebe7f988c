//! The meter of `tests/peers/meter`: another language, another crypto library, no code of ours.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cos_escrow::dlms::keys::{KeyRole, Suite};
use cos_escrow::meter::escrow::Report;
use cos_escrow::meter::secrets::KeySet;
use cos_escrow::meter::simulate::Simulator;
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::{Clock as _, Secret, SystemClock};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::subject::Seen;
use super::world::{OURS, World, released_keys, seed};
use crate::child::command;

pub(super) struct Peer {
    address: SocketAddr,
    state: PathBuf,
    /// Killed when this is dropped.
    _process: Child,
}

impl Peer {
    pub(super) async fn start(world: &World, suite: Suite, faults: &[&str]) -> Self {
        let (state, log) = (world.scratch("peer.json"), world.scratch("peer.log"));
        let output = std::fs::File::create(&log).unwrap();
        let process = command(python())
            .arg(peers().join("metersim.py"))
            .args(["--port", "0", "--initial-ic", "500", "--state"])
            .arg(&state)
            .args(["--suite", &suite.id().to_string()])
            .args(faults.iter().flat_map(|fault| switches(fault)))
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the Python of COS_ESCROW_TEST_PYTHON starts");
        let address = announced(&log).await;
        Self {
            address,
            state,
            _process: process,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
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
        let state = self.state();
        let items = state[name].as_array().unwrap().iter();
        items
            .map(|item| String::from_utf8(unhex(item.as_str().unwrap())).unwrap())
            .collect()
    }

    pub(super) fn is_locked(&self) -> bool {
        let until = Duration::from_secs_f64(self.state()["locked_until"].as_f64().unwrap());
        u128::from(SystemClock.now().as_millis()) < until.as_millis()
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        let ours: String = OURS.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let attempts = state["attempts"].as_array().unwrap();
        let attempts = attempts.iter().filter(|attempt| attempt[0] == ours);
        let roles = ["guek", "gbek", "gak", "kek"];
        Seen {
            attempts: attempts.map(|attempt| attempt[1] == "in").collect(),
            nonce_reuses: state["nonce_reuses"].as_u64().unwrap(),
            keys_seen: roles.map(|role| state["keys_seen"][role].as_u64().unwrap()),
            last_counter: u32::try_from(state["ic_rx"].as_i64().unwrap()).ok(),
        }
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        unhex(self.state()[name].as_str().unwrap())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&self.state).unwrap()).unwrap()
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// The switches of `metersim.py` for a fault of ours.
fn switches(fault: &str) -> Vec<String> {
    let (name, argument) = fault.split_once(':').unwrap_or((fault, ""));
    let switch = format!("--{name}");
    match name {
        "silent" | "mute" | "no-ic-reset" | "no-gbek" | "one-association" | "answer-general"
        | "cse" => vec![switch],
        "busy" | "forged-counter" | "forged-exception" | "clock-back" | "hostile" | "pdu" => {
            vec![switch, argument.to_owned()]
        }
        "lock-out" => {
            let both = argument.split('/').map(str::to_owned);
            ["--lockout".to_owned()].into_iter().chain(both).collect()
        }
        _ => vec!["--fault".to_owned(), format!("kt-{fault}")],
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

#[tokio::test]
async fn a_foreign_client_reads_a_meter_that_we_took_over_and_only_with_the_new_keys() {
    for suite in [Suite::Zero, Suite::One, Suite::Two] {
        let world = World::new().await;
        let meter = world.meter(seed(suite), &[]).await;
        let released = world.released(&meter, vec![released_keys(suite)]);
        let outcome = world.take_over(&released, Settings::default()).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{suite:?}: {outcome:?}"
        );
        let (old, new) = (
            released_keys(suite),
            world.newest_keys(released.handover).await,
        );
        let job = serde_json::json!({
            "port": meter.address().port(),
            "suite": suite.id(),
            "keys": pair(&new, &new),
            "refused": [pair(&old, &old), pair(&new, &old), pair(&old, &new)],
        });
        let text = read_with_a_foreign_client(&job).await;
        assert!(
            text.contains("serial A012345678 1.8.0 123456789 rows 40"),
            "{suite:?}: {text}"
        );
        assert_eq!(text.matches("refused:").count(), 3, "{suite:?}: {text}");
    }
}

fn pair(guek: &KeySet, gak: &KeySet) -> serde_json::Value {
    let hex = |key: &Secret| -> String {
        let bytes = key.expose().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    };
    serde_json::json!({ "guek": hex(guek.guek()), "gak": hex(gak.gak()) })
}

/// What it prints; its last line must be OK.
async fn read_with_a_foreign_client(job: &serde_json::Value) -> String {
    let mut process = command(python())
        .arg(peers().join("foreign_reader.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(job.to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = process.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.trim_end().ends_with("OK"), "{text}{errors}");
    text
}
