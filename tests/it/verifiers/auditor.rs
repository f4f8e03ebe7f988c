//! What an auditor hands on, and what a monitor tells.

use std::fs;

use cos_escrow::envelope::Kem;
use serde_json::Value;

use super::tools::auditor;
use super::{Verifier, World};
use crate::live::{deposit_of, release_of};

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_without_us_and_says_what_happened() {
    let World { live, service, old } = World::open().await;
    let dir = live.path("export");
    let export = ["log", "export", dir.to_str().unwrap(), "-o", "json"];
    let done = auditor(&live, &service, &export).await;
    assert!(done.status.success(), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    for verifier in Verifier::all() {
        let verdict = verifier.verify(&dir.join("log"), &dir.join("log.vkey"), &old);
        assert_eq!(verdict, Ok(()), "{verifier:?}");
    }
    let entries = fs::read_to_string(dir.join("entries.jsonl")).unwrap();
    assert_eq!(said["entries"], entries.lines().count());
    let first: Value = serde_json::from_str(entries.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["index"], &first["kind"]),
        (&0.into(), &"log.genesis".into())
    );
    assert!(
        entries.contains("\"disclosed\""),
        "an auditor sees what is hidden"
    );
    let summary = fs::read_to_string(dir.join("summary.html")).unwrap();
    assert!(
        summary.contains("<td>registration.recorded<td"),
        "{summary}"
    );
    let readme = fs::read_to_string(dir.join("README.md")).unwrap();
    assert!(readme.contains(&service.log_key.to_string()), "{readme}");
    // What was handed on is never overwritten.
    let again = auditor(&live, &service, &export).await;
    assert_eq!(again.status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_tells_what_happened_once_and_finds_a_rewound_log() {
    let World { live, service, .. } = World::open().await;
    let loser = live.client(&live.loser.tls, &service);
    let gainer = live.client(&live.gainer.tls, &service);
    let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
    let event = live.event(0);
    loser
        .send(deposit_of(&event, &live.loser, &escrow))
        .await
        .unwrap();
    gainer.send(release_of(&event)).await.unwrap();

    let look = ["log", "monitor", "--once"];
    let first = auditor(&live, &service, &look).await;
    assert!(
        first.status.success(),
        "an honest release is no alarm: {first:?}"
    );
    let told = alarms(&first.stdout);
    assert!(told.iter().any(|alarm| alarm["rule"] == "key"), "{told:?}");
    assert!(
        told.iter().all(|alarm| alarm["severity"] == "notice"),
        "{told:?}"
    );
    let second = auditor(&live, &service, &look).await;
    assert_eq!(alarms(&second.stdout), Vec::<Value>::new());

    assert!(service.stop().await.success());
    let backup = live.path("backup");
    let restored = live
        .run(&["db", "restore", "--yes"], &[("--from", &backup)])
        .await;
    assert!(restored.status.success(), "{restored:?}");
    fs::remove_file(live.path("anchor")).unwrap();
    let adopted = live.run(&["db", "anchor", "--yes"], &[]).await;
    assert!(adopted.status.success(), "{adopted:?}");
    let service = live.start().await;
    let rewound = auditor(&live, &service, &look).await;
    assert_eq!(rewound.status.code(), Some(5), "{rewound:?}");
    let told = alarms(&rewound.stdout);
    assert!(
        told.iter().any(|alarm| alarm["rule"] == "inconsistent"),
        "{told:?}"
    );
}

fn alarms(stdout: &[u8]) -> Vec<Value> {
    let text = str::from_utf8(stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
