//! The foreign ends: the client of PyPI `iec62056-21`, and the meter of `tests/peers/meter/modec_sim.py`.

use std::net::SocketAddr;

use cos_escrow::meter::simulate::iec62056_21::{Faults, MeterSeed, Simulator};
use cos_escrow::types::Secret;
use tokio::process::Command;

use crate::takeover::peer::{peers, python};

#[tokio::test]
async fn a_foreign_client_finds_our_simulated_mode_c_meter_a_meter() {
    let texts = ["FEDC0001", "FEDC0002", "FEDC0003"];
    let passwords = texts.map(|text| Secret::new(text.as_bytes().to_vec()));
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let seed = MeterSeed::new("A012345678", passwords);
    let meter = Simulator::start(bind, seed, Faults::default())
        .await
        .unwrap();
    let output = Command::new(python())
        .arg(peers().join("crosscheck_iec62056_21.py"))
        .args([&meter.address().port().to_string(), "A012345678"])
        .args(texts)
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
