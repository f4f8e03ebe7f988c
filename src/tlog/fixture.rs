//! What the tests share: a log in memory, its key, an entry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;

use super::{
    CosignerKey, Draft, Frontier, Hash, LogKey, NodeId, ProofError, ProofPlan, TileKind, TilePath,
    TreeHead, encode_entries, leaf_hash,
};
use crate::types::{Random, Secret, Timestamp};

pub(super) struct TestLog {
    pub(super) leaves: Vec<Vec<u8>>,
    /// The head at every size.
    pub(super) heads: Vec<TreeHead>,
    nodes: HashMap<NodeId, Hash>,
}

impl TestLog {
    pub(super) fn of(leaves: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut frontier = Frontier::default();
        let mut log = Self {
            leaves: leaves.collect(),
            heads: vec![frontier.head()],
            nodes: HashMap::new(),
        };
        for leaf in &log.leaves {
            frontier.append(leaf_hash(leaf), |node, hash| {
                log.nodes.insert(node, hash);
            });
            log.heads.push(frontier.head());
        }
        log
    }

    /// The log of the golden vector.
    pub(super) fn golden(size: u32) -> Self {
        let leaf = |seq| format!(r#"{{"seq":{seq},"type":"release","v":"cos-escrow/log/1"}}"#);
        Self::of((0..size).map(|seq| leaf(seq).into_bytes()))
    }

    pub(super) fn head(&self) -> TreeHead {
        self.heads[self.leaves.len()]
    }

    pub(super) fn hashes(&self) -> Vec<Hash> {
        self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect()
    }

    pub(super) fn prove(&self, plan: Result<ProofPlan, ProofError>) -> Vec<Hash> {
        let lookup = |node: NodeId| self.nodes.get(&node).copied();
        plan.unwrap().assemble(lookup).unwrap()
    }

    /// The content of a tile.
    pub(super) fn tile(&self, tile: &TilePath) -> Vec<u8> {
        let first = tile.first_node().unwrap();
        let indices = first.index..first.index + u64::from(tile.width());
        match tile.kind() {
            TileKind::Hashes { .. } => indices
                .flat_map(|index| self.nodes[&NodeId { index, ..first }].0)
                .collect(),
            TileKind::Entries => {
                let entry = |index| &self.leaves[usize::try_from(index).unwrap()][..];
                encode_entries(indices.map(entry)).unwrap()
            }
        }
    }
}

/// The key of the log of the golden vector.
pub(super) fn log_key() -> LogKey {
    let name = "escrow.example/log/1".parse().unwrap();
    LogKey::from_seed(name, &Secret::new(vec![7; 32])).unwrap()
}

/// The key of the witness of the golden vector.
pub(super) fn witness_key() -> CosignerKey {
    let name = "witness.example/w1".parse().unwrap();
    CosignerKey::from_seed(name, &Secret::new(vec![9; 32])).unwrap()
}

/// Fills with 1, then with 2, and so on.
#[derive(Default)]
pub(super) struct Counting(AtomicU8);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0.fetch_add(1, Ordering::SeqCst) + 1);
    }
}

/// An entry with one shown and two hidden fields.
pub(super) fn draft() -> Draft {
    Draft::new("release.granted", Timestamp::from_millis(1_790_000_000_123))
        .show("release", "digest")
        .hide("supply_point", "2499999999991")
        .hide("actor", json!({"party": "gainer", "seq": 93}))
}
