//! Who comes second finds its place taken, is told by whom or why, and leaves everything as it was.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cos_escrow::client::Request;

use crate::child::command;
use crate::live::{BINARY, Live};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_under_a_running_service_is_refused_and_changes_nothing() {
    let (live, service) = Live::open().await;
    let backup = live.path("backup");
    let saved = live.run(&["db", "backup"], &[("--to", &backup)]).await;
    assert!(saved.status.success(), "{saved:?}");
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &[live.event(0)]).await.unwrap();
    let there = names(&live.path(""));
    let database = fs::metadata(live.path("escrow.db")).unwrap().ino();

    let restore = ["db", "restore", "--yes"];
    let anchor = ["db", "anchor", "--yes"];
    for (line, from) in [
        (&restore, Some(("--from", backup.as_path()))),
        (&anchor, None),
    ] {
        let from: Vec<_> = from.into_iter().collect();
        let refused = live.run(line, &from).await;
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("another process writes"), "{said}");
    }
    let second = live.spawn().listening_or_ended().await.err();
    let (status, said) = second.expect("one service has the database already");
    assert_eq!(status.code(), Some(4), "{said:?}");

    assert_eq!(names(&live.path("")), there);
    let same = fs::metadata(live.path("escrow.db")).unwrap().ino();
    assert_eq!(same, database);
    live.register(&registrar, &[live.event(1)]).await.unwrap();
    let loser = live.client(&live.loser.tls, &service);
    let list = Request::get("/v1/handovers?role=losing");
    let list: serde_json::Value = loser.send(list).await.unwrap().json().unwrap();
    assert_eq!(list["handovers"].as_array().map(Vec::len), Some(2));
    assert!(service.stop().await.success());
    let service = live.start().await;
    assert_eq!(service.probe("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_its_setting_and_a_first_start_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for setting in ["listen", "admin"] {
        let live = Live::new();
        let config = fs::read_to_string(live.path("escrow.toml")).unwrap();
        let free = format!("{setting} = \"127.0.0.1:0\"");
        let config = config.replace(&free, &format!("{setting} = \"{address}\""));
        fs::write(live.path("escrow.toml"), config).unwrap();
        let there = names(&live.path(""));
        let ended = live.spawn().listening_or_ended().await.err();
        let (status, said) = ended.expect("the address is taken");
        assert_eq!(status.code(), Some(1), "{said:?}");
        let said = said.join("\n");
        assert!(
            said.contains(&format!("`{setting}`, {address}: ")),
            "{said}"
        );
        assert!(said.contains("is a service running already"), "{said}");
        assert_eq!(names(&live.path("")), there);
    }
}

#[tokio::test]
async fn a_demo_keeps_nothing_in_a_folder_that_has_something() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "mine").unwrap();
    let mut demo = command(BINARY);
    let demo = demo.args(["demo", "--keep"]).arg(folder.path());
    let refused = demo.output().await.unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("is not empty"), "{said}");
    assert_eq!(names(folder.path()), BTreeSet::from(["mine".to_owned()]));
    assert_eq!(fs::read(folder.path().join("mine")).unwrap(), b"mine");
}

/// Everything in a folder, by name. SQLite's own files come and go.
fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect()
}
