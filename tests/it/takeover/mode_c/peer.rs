//! The foreign ends: the client of PyPI `iec62056-21`, and the meter of `tests/peers/meter/modec_sim.py`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use cos_escrow::meter::simulate::iec62056_21::{Faults, MeterSeed, Simulator};
use cos_escrow::types::{Digest, Secret};
use tokio::process::{Child, Command};

use super::meter::{PASSWORDS, Seen};
use crate::child::command;
use crate::takeover::peer::{announced, peers, python};
use crate::takeover::world::World;

/// A running `modec_sim.py`.
pub(super) struct Peer {
    address: SocketAddr,
    state: PathBuf,
    /// Killed when this is dropped.
    _process: Child,
}

impl Peer {
    pub(super) async fn start(world: &World, name: &str, faults: &[&str]) -> Self {
        let state = world.scratch(&format!("{name}.json"));
        let log = world.scratch(&format!("{name}.log"));
        let output = std::fs::File::create(&log).unwrap();
        let process = command(python())
            .arg(peers().join("modec_sim.py"))
            .args(["--port", "0", "--state"])
            .arg(&state)
            .args(faults.iter().flat_map(|fault| switches(fault)))
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .expect("the Python of COS_ESCROW_TEST_PYTHON starts");
        Self {
            address: announced(&log).await,
            state,
            _process: process,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn seen(&self) -> Seen {
        let state = std::fs::read(&self.state).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        let number = |name: &str| u32::try_from(state[name].as_u64().unwrap()).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let levels = ["1", "2", "3"];
        Seen {
            passwords: levels.map(|level| Digest::of(text(&state["pw"][level]).as_bytes())),
            passwords_seen: levels.map(|level| state["seen"][level].as_array().unwrap().len()),
            most_failures: number("most_wrong"),
            failures_in_all: number("wrong_in_all"),
            locks: number("locks"),
            logins: number("logins"),
            writes: number("writes"),
            apn: text(&state["reg"]["C090.APN"]),
            destination: text(&state["reg"]["C091.DST"]),
        }
    }
}

/// The switches of `modec_sim.py` for a fault of ours.
fn switches(fault: &str) -> Vec<String> {
    match fault.strip_prefix("lock-out:") {
        Some(lock) => {
            let (failures, seconds) = lock.split_once('/').unwrap();
            ["--lockout", failures, seconds].map(str::to_owned).to_vec()
        }
        None => vec!["--fault".to_owned(), fault.to_owned()],
    }
}

#[tokio::test]
async fn a_foreign_client_finds_our_simulated_mode_c_meter_a_meter() {
    let passwords = PASSWORDS.map(|text| Secret::new(text.as_bytes().to_vec()));
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let seed = MeterSeed::new("A012345678", passwords);
    let meter = Simulator::start(bind, seed, Faults::default())
        .await
        .unwrap();
    let output = Command::new(python())
        .arg(peers().join("crosscheck_iec62056_21.py"))
        .args([&meter.address().port().to_string(), "A012345678"])
        .args(PASSWORDS)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.trim_end().ends_with("OK"), "{text}{errors}");
    let state = meter.state();
    assert!(state.has(1, b"NEWPASS1") && state.has(3, b"FEDC0003"));
    assert_eq!(
        (state.apn.as_str(), state.failures_in_all),
        ("other.apn", 2)
    );
}
