//! An auditor's copy of the log, fetched over HTTP and verified from entry 0.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cos_escrow::client::{Client, Request};
use cos_escrow::tlog::{
    Checkpoint, Frontier, Hash, Note, TilePath, TreeHead, VerifierKey, leaf_hash, tiles, verify_log,
};

/// The tiles fetched so far. Full ones are never fetched again.
#[derive(Default)]
pub(crate) struct Mirror {
    tiles: HashMap<TilePath, Vec<u8>>,
}

/// The log as it verified.
pub(crate) struct Log {
    pub(crate) head: TreeHead,
    pub(crate) leaves: Vec<Vec<u8>>,
    note: Note,
    roots: OnceCell<Vec<Hash>>,
}

impl Mirror {
    /// Brings the copy up to date and verifies all of it.
    pub(crate) async fn fetch(&mut self, auditor: &Client, key: &VerifierKey) -> Log {
        let answer = auditor.send(Request::get("/log/checkpoint")).await.unwrap();
        let note: Note = str::from_utf8(&answer.body).unwrap().parse().unwrap();
        let head = Checkpoint::open(&note, key).unwrap().head;
        let missing: Vec<_> = tiles(head.size)
            .filter(|tile| !self.tiles.contains_key(tile))
            .collect();
        for tile in missing {
            let answer = auditor.send(Request::get(format!("/log/{tile}"))).await;
            self.tiles.insert(tile, answer.unwrap().body.to_vec());
        }
        let mut leaves = Vec::new();
        let mut source = |tile: &TilePath| self.tiles.get(tile).cloned().ok_or(());
        verify_log(head, &mut source, |_, leaf| leaves.push(leaf.to_vec())).unwrap();
        Log {
            head,
            leaves,
            note,
            roots: OnceCell::new(),
        }
    }

    /// Writes a log as tlog-tiles lays it out.
    pub(crate) fn write(&self, log: &Log, folder: &Path) {
        for tile in tiles(log.head.size) {
            let path = folder.join(tile.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &self.tiles[&tile]).unwrap();
        }
        fs::write(folder.join("checkpoint"), log.note.to_string()).unwrap();
    }
}

impl Log {
    /// The root that the log had at a size.
    pub(crate) fn root_at(&self, size: u64) -> Option<Hash> {
        let roots = self.roots.get_or_init(|| {
            let mut tree = Frontier::default();
            let mut roots = vec![tree.root()];
            roots.extend(self.leaves.iter().map(|leaf| {
                tree.append(leaf_hash(leaf), |_, _| {});
                tree.root()
            }));
            roots
        });
        roots.get(usize::try_from(size).ok()?).copied()
    }
}
