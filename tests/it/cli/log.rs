//! A copy of the log, verified by nobody's help, and what was done to it named.

use std::fs;

use cos_escrow::tlog::{Checkpoint, CosignerKey, LogKey, TilePath, TreeHead};
use cos_escrow::types::{Secret, Timestamp};

use super::desk::{Desk, files_below};
use crate::tree::write_tiles;

const VERIFY: &str = "log verify --dir mirror --log-key log.vkey";

fn log_key() -> LogKey {
    let name = "escrow.example/log".parse().unwrap();
    LogKey::from_seed(name, &Secret::new(vec![7; 32])).unwrap()
}

/// The log's key as it is handed out.
pub(super) fn vkey() -> String {
    format!("{}\n", log_key().verifier())
}

fn entries(size: u64) -> Vec<Vec<u8>> {
    let entry = |n: u64| format!(r#"{{"n":{n}}}"#).into_bytes();
    (0..size).map(entry).collect()
}

/// Writes a log of these entries as static files.
fn write_log(desk: &Desk, dir: &str, entries: &[Vec<u8>]) -> TreeHead {
    let head = write_tiles(&desk.path(dir), entries);
    write_checkpoint(desk, &format!("{dir}/checkpoint"), head);
    head
}

fn write_checkpoint(desk: &Desk, name: &str, head: TreeHead) {
    desk.write(name, Checkpoint::sign(head, &log_key()).to_string());
}

/// A desk with a log of 300 entries and its key.
fn desk() -> (Desk, TreeHead) {
    let desk = Desk::new();
    desk.write("log.vkey", vkey());
    let head = write_log(&desk, "mirror", &entries(300));
    (desk, head)
}

/// Changes a tile; the first words of the error that this gives.
fn verdict_after(tile: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (desk, _) = desk();
    let path = format!("mirror/{tile}");
    let mut bytes = desk.read(&path);
    change(&mut bytes);
    desk.write(&path, bytes);
    let ended = desk.run(VERIFY);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stdout.contains("invalid"), "{ended:?}");
    let error = ended.stderr.lines().find(|line| line.starts_with("error:"));
    error.unwrap().to_owned()
}

#[test]
fn an_untouched_copy_verifies() {
    let (desk, head) = desk();
    let shown = desk.json(VERIFY);
    assert_eq!(shown["verdict"], "valid");
    assert_eq!(shown["size"], 300);
    assert_eq!(shown["root"], head.root.to_string());
    let key = vkey();
    assert_eq!(
        desk.run(&format!("log verify --dir mirror --log-key {}", key.trim()))
            .code,
        0
    );
}

#[test]
fn the_first_wrong_entry_is_named() {
    let changed = verdict_after("tile/entries/000", |bytes| {
        // Behind 100 entries of two bytes of length each: 10 of 7 bytes, 90 of 8.
        bytes[10 * 9 + 90 * 10 + 2 + 6] ^= 1;
    });
    assert_eq!(
        changed,
        "error: entry 100 is not the one whose hash is in `tile/0/000`"
    );
    let cut = verdict_after("tile/entries/001.p/44", |bytes| {
        bytes.truncate(bytes.len() - 1)
    });
    assert_eq!(cut, "error: entry 299 is missing or cut off");
}

#[test]
fn a_changed_tile_of_hashes_is_named() {
    let changed = verdict_after("tile/1/000.p/1", |bytes| bytes[0] ^= 1);
    assert_eq!(
        changed,
        "error: `tile/1/000.p/1` is not what the entries below it give"
    );
}

#[test]
fn a_missing_tile_is_named_and_is_no_proof_of_tampering() {
    let (desk, _) = desk();
    fs::remove_file(desk.path("mirror/tile/0/001.p/44")).unwrap();
    let ended = desk.run(&format!("{VERIFY} -o json"));
    assert_eq!(ended.code, 7, "{ended:?}");
    let verdict: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(verdict["verdict"], "unverifiable");
    assert_eq!(verdict["tile"], "tile/0/001.p/44");
    assert!(
        ended.stderr.contains("`tile/0/001.p/44` cannot be read"),
        "{ended:?}"
    );
}

#[test]
fn a_verdict_names_the_entry() {
    let (desk, head) = desk();
    let mut bytes = desk.read("mirror/tile/entries/001.p/44");
    bytes[2] ^= 1;
    desk.write("mirror/tile/entries/001.p/44", bytes);
    let ended = desk.run(&format!("{VERIFY} -o json"));
    assert_eq!(ended.code, 5, "{ended:?}");
    let verdict: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(verdict["verdict"], "invalid");
    assert_eq!(
        (&verdict["entry"], &verdict["size"]),
        (&256.into(), &head.size.into())
    );
}

#[test]
fn a_policy_demands_cosignatures() {
    let (desk, head) = desk();
    let cosigner = |seed| {
        let name = format!("witness.example/{seed}").parse().unwrap();
        CosignerKey::from_seed(name, &Secret::new(vec![seed; 32])).unwrap()
    };
    let mut policy = format!("log {}", vkey());
    for seed in [1, 2, 3] {
        policy += &format!("witness w{seed} {}\n", cosigner(seed).verifier());
    }
    desk.write("two.policy", policy + "group two 2 w1 w2 w3\nquorum two\n");
    let verify = "log verify --dir mirror --policy two.policy";

    let mut note = Checkpoint::sign(head, &log_key());
    let at = Timestamp::from_seconds(1_790_000_000);
    let signature = cosigner(1).cosign(note.text(), at);
    note.add(signature).unwrap();
    desk.write("mirror/checkpoint", note.to_string());
    let ended = desk.run(verify);
    assert_eq!(ended.code, 7, "one is not enough: {ended:?}");
    assert!(ended.stdout.contains("unverifiable"), "{ended:?}");

    let signature = cosigner(3).cosign(note.text(), at);
    note.add(signature).unwrap();
    desk.write("mirror/checkpoint", note.to_string());
    let shown = desk.json(verify);
    assert_eq!(shown["verdict"], "valid");
    assert_eq!(shown["witnesses"][1]["name"], "w3");

    let signature = cosigner(2).cosign("another text\n", at);
    note.add(signature).unwrap();
    desk.write("mirror/checkpoint", note.to_string());
    let ended = desk.run(verify);
    assert_eq!(
        ended.code, 5,
        "a cosignature that fails is no missing one: {ended:?}"
    );

    desk.write("bad.policy", "quorum w1\n");
    let ended = desk.run("log verify --dir mirror --policy bad.policy");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("line 1"), "{ended:?}");
}

#[test]
fn every_file_of_a_copy_counts() {
    let (desk, _) = desk();
    for file in files_below(&desk.path("mirror")) {
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&file, bad).unwrap();
        assert_eq!(desk.run(VERIFY).code, 5, "{}", file.display());
        fs::write(&file, good).unwrap();
    }
    assert_eq!(desk.run(VERIFY).code, 0);
}

#[test]
fn another_history_under_the_same_key_is_found_by_an_older_checkpoint() {
    let desk = Desk::new();
    desk.write("log.vkey", vkey());
    let old = write_log(&desk, "old", &entries(260));
    write_log(&desk, "mirror", &entries(300));
    let against = format!("{VERIFY} --against old/checkpoint");
    assert_eq!(desk.run(&against).code, 0);

    let mut rewritten = entries(300);
    rewritten[17] = b"rewritten".to_vec();
    write_log(&desk, "mirror", &rewritten);
    assert_eq!(desk.run(VERIFY).code, 0, "it is a good log by itself");
    let ended = desk.run(&against);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains(&format!("the first {} entries", old.size))
    );

    let ahead = TreeHead { size: 301, ..old };
    write_checkpoint(&desk, "old/checkpoint", ahead);
    assert_eq!(desk.run(&against).code, 7, "an older copy is no alarm");
}

#[test]
fn a_checkpoint_of_another_key_cannot_be_verified() {
    let (desk, head) = desk();
    let name = "escrow.example/log".parse().unwrap();
    let other = LogKey::from_seed(name, &Secret::new(vec![8; 32])).unwrap();
    let note = Checkpoint::sign(head, &other).to_string();
    desk.write("mirror/checkpoint", note);
    assert_eq!(desk.run(VERIFY).code, 7);
}

#[test]
fn a_folder_without_a_checkpoint_is_no_copy() {
    let desk = Desk::new();
    desk.write("log.vkey", vkey());
    assert_eq!(desk.run(VERIFY).code, 2);
    let tile: TilePath = "tile/0/000.p/1".parse().unwrap();
    desk.write(&format!("mirror/{tile}"), [0; 32]);
    assert_eq!(desk.run(VERIFY).code, 2);
}
