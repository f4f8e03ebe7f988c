//! A copy of the log, verified by nobody's help, and what was done to it named.

use std::collections::HashMap;
use std::fs;

use cos_escrow::tlog::{
    Checkpoint, Frontier, LogKey, NodeId, TileKind, TilePath, TreeHead, encode_entries, leaf_hash,
    tiles,
};
use cos_escrow::types::Secret;

use super::desk::{Desk, files_below};

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
    let mut nodes = HashMap::new();
    let mut frontier = Frontier::default();
    for entry in entries {
        frontier.append(leaf_hash(entry), |node, hash| {
            nodes.insert(node, hash);
        });
    }
    for tile in tiles(frontier.size()) {
        let first = tile.first_node().unwrap();
        let indices = first.index..first.index + u64::from(tile.width());
        let bytes = match tile.kind() {
            TileKind::Entries => {
                let entry = |index| entries[usize::try_from(index).unwrap()].as_slice();
                encode_entries(indices.map(entry)).unwrap()
            }
            TileKind::Hashes { .. } => indices
                .flat_map(|index| nodes[&NodeId { index, ..first }].0)
                .collect(),
        };
        desk.write(&format!("{dir}/{tile}"), bytes);
    }
    write_checkpoint(desk, &format!("{dir}/checkpoint"), frontier.head());
    frontier.head()
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
    assert_eq!(ended.stdout, "");
    let error = ended.stderr.lines().find(|line| line.starts_with("error:"));
    error.unwrap().to_owned()
}

#[test]
fn an_untouched_copy_verifies() {
    let (desk, head) = desk();
    let shown = desk.json(VERIFY);
    assert_eq!(shown["verdict"], "verified");
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
fn a_missing_tile_is_named() {
    let (desk, _) = desk();
    fs::remove_file(desk.path("mirror/tile/0/001.p/44")).unwrap();
    let ended = desk.run(VERIFY);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(
        ended.stderr.contains("`tile/0/001.p/44` cannot be read"),
        "{ended:?}"
    );
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
    assert_eq!(desk.run(&against).code, 5);
}

#[test]
fn a_checkpoint_of_another_key_is_refused() {
    let (desk, head) = desk();
    let name = "escrow.example/log".parse().unwrap();
    let other = LogKey::from_seed(name, &Secret::new(vec![8; 32])).unwrap();
    let note = Checkpoint::sign(head, &other).to_string();
    desk.write("mirror/checkpoint", note);
    assert_eq!(desk.run(VERIFY).code, 5);
}

#[test]
fn a_folder_without_a_checkpoint_is_no_copy() {
    let desk = Desk::new();
    desk.write("log.vkey", vkey());
    assert_eq!(desk.run(VERIFY).code, 3);
    let tile: TilePath = "tile/0/000.p/1".parse().unwrap();
    desk.write(&format!("mirror/{tile}"), [0; 32]);
    assert_eq!(desk.run(VERIFY).code, 3);
}
