//! A release that the service handed out, opened and verified by code that shares nothing with ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cos_escrow::cli::demo::events::css;
use cos_escrow::cli::demo::market::Market;
use cos_escrow::client::seal_package;
use cos_escrow::envelope::package::Package;
use cos_escrow::envelope::{Kem, Recipient};
use cos_escrow::identity::pem;
use cos_escrow::types::{Clock as _, Digest, HandoverId, SupplyPoint, Timestamp};
use serde_json::{Value, json};

const POINT: &str = "9693016118873";

#[tokio::test]
async fn a_release_opens_with_an_implementation_that_nobody_here_wrote_for_it() {
    for (kem, name) in [(Kem::XWing, "x-wing"), (Kem::X25519, "x25519")] {
        let folder = tempfile::tempdir().unwrap();
        let package = package();
        let files = released(folder.path(), kem, &package).await;
        let opened = python(&files, name);
        assert_eq!(opened["ok"], true, "{opened}");
        let content = opened["items"][0]["content_sha256"].as_str().unwrap();
        assert_eq!(content, hexadecimal(package.to_json().expose()), "{opened}");

        let mut bytes = std::fs::read(&files.release).unwrap();
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        std::fs::write(&files.release, bytes).unwrap();
        assert_eq!(python(&files, name)["ok"], false);
    }
}

struct Files {
    release: PathBuf,
    key: PathBuf,
    root: PathBuf,
}

/// Plays one handover and writes what its gaining supplier has afterwards.
async fn released(folder: &Path, kem: Kem, package: &Package) -> Files {
    let opening: Timestamp = "2025-06-20T12:00:00Z".parse().unwrap();
    let mpids = ["LOSE", "GAIN"].map(|mpid| mpid.parse().unwrap());
    let mut market = Market::open_with(folder, opening, mpids, kem)
        .await
        .unwrap();
    let prior = [
        "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned(),
        format!("P1,{POINT},LOSE,2020-01-01"),
    ];
    market.register(true, &prior).await.unwrap();
    let start: Timestamp = "2025-06-30T23:00:00Z".parse().unwrap();
    market
        .wait_until(start.before(Duration::from_secs(7 * 3_600)))
        .await
        .unwrap();
    let (point, id): (SupplyPoint, _) = (POINT.parse().unwrap(), "R1".parse().unwrap());
    for what in [
        ("RegistrationPendingNotification", "Pending"),
        ("RegistrationSecuredActiveNotification", "SecuredActive"),
    ] {
        let data = json!({ "supplierMpid": "GAIN", "supplyStartDate": "2025-07-01" });
        let line = css((&point, &id), what, market.clock.now(), data).to_string();
        market.register(false, &[line]).await.unwrap();
    }
    let handover = HandoverId::of(&point, &id);
    let loser = &market.suppliers[&"LOSE".parse().unwrap()];
    let key = loser.client.escrow_key(Kem::XWing).await.unwrap().key;
    let depositor = loser.depositor(market.clock.now());
    let envelope = seal_package(package, None, &[(Recipient::Escrow, key)], &depositor).unwrap();
    loser
        .client
        .deposit(Some(handover), &[envelope], "d")
        .await
        .unwrap();
    market
        .wait_until(start.after(Duration::from_secs(60)))
        .await
        .unwrap();

    let gainer = &market.suppliers[&"GAIN".parse().unwrap()];
    let request = json!({ "meter_serial": "E19B762798" });
    let released = gainer
        .client
        .release(handover, &request, "r")
        .await
        .unwrap();
    let files = Files {
        release: folder.join("meter.release"),
        key: folder.join("sealing.key"),
        root: folder.join("root.der"),
    };
    std::fs::write(&files.release, &released.bytes).unwrap();
    std::fs::write(&files.key, gainer.sealing.to_secret().expose()).unwrap();
    let root = pem::certificates(&std::fs::read(market.root_file()).unwrap()).unwrap();
    std::fs::write(&files.root, &root[0]).unwrap();
    files
}

#[expect(
    clippy::disallowed_methods,
    reason = "`tests/run` names the interpreter"
)]
fn python(files: &Files, kem: &str) -> Value {
    let python = std::env::var("COS_ESCROW_TEST_PYTHON")
        .expect("COS_ESCROW_TEST_PYTHON names a Python with `cryptography`: run tests/run");
    let done = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/python/open_release.py"
        ))
        .args([&files.release, &files.key])
        .args(["--kem", kem, "--root"])
        .arg(&files.root)
        .output()
        .unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn package() -> Package {
    let json = json!({
        "format": "cos-escrow/package/1", "supply_point": POINT,
        "meter": { "serial": "E19B762798", "make": "test" }, "comms": {},
        "credentials": [{ "password": { "levels": [{ "level": 1, "password": "FIRSTPASSWORD" }] } }],
    });
    Package::parse(json.to_string().as_bytes()).unwrap()
}
