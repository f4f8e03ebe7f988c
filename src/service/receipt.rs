//! Receipts: an entry, its proof and the checkpoint, in one answer.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};

use super::{Failure, Shared};
use crate::tlog::{self, Hash, NodeId, Note, ProofPlan, node_hash};

/// Proof that an entry is in the log: what the party keeps.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The entry's index.
    pub index: u64,
    /// The leaf's bytes, in base64url.
    #[serde(serialize_with = "base64url")]
    pub leaf: Vec<u8>,
    /// What the entry hides from others.
    pub disclosures: Vec<String>,
    /// `c2sp.org/tlog-proof@v1`: index, inclusion proof, signed checkpoint.
    pub proof: String,
}

fn base64url<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

impl Shared {
    /// The receipt of an entry of any age, against a checkpoint of `size` entries.
    pub(super) async fn receipt_at(
        &self,
        index: u64,
        size: u64,
        note: &Note,
    ) -> Result<Receipt, Failure> {
        let entries = self.store.entries(index, index + 1).await?;
        let entry = entries
            .into_iter()
            .next()
            .ok_or_else(|| Failure::Broken(format!("entry {index} is missing")))?;
        let hashes = self.proof(ProofPlan::inclusion(index, size)).await?;
        let disclosures = self.disclosures(&entry).await?.unwrap_or_default();
        Ok(Receipt {
            index,
            leaf: entry.leaf,
            disclosures,
            proof: tlog::Receipt::new(index, hashes, note.clone()).to_string(),
        })
    }

    /// Proof that an entry is in the log, without what it hides; none while its head is not anchored, or nothing is signed.
    pub(super) async fn proof_of(&self, index: u64) -> Result<Option<Receipt>, Failure> {
        let Ok(note) = self.checkpoint() else {
            return Ok(None);
        };
        let size = self.size_of(&note)?;
        if index >= size {
            return Ok(None);
        }
        let receipt = self.receipt_at(index, size, &note).await?;
        Ok(Some(Receipt {
            disclosures: Vec::new(),
            ..receipt
        }))
    }

    /// Reads the nodes that a plan asks for and puts the proof together.
    pub(super) async fn proof(
        &self,
        plan: Result<ProofPlan, tlog::ProofError>,
    ) -> Result<Vec<Hash>, Failure> {
        let plan = plan.map_err(|error| Failure::Broken(error.to_string()))?;
        let nodes = self.nodes(plan.nodes()).await?;
        plan.assemble(|node| nodes.get(&node).copied())
            .map_err(|error| Failure::Broken(error.to_string()))
    }

    /// The hashes of complete subtrees.
    pub(super) async fn nodes(
        &self,
        wanted: impl Iterator<Item = NodeId>,
    ) -> Result<HashMap<NodeId, Hash>, Failure> {
        let mut nodes = HashMap::new();
        for node in wanted {
            nodes.insert(node, self.node(node).await?);
        }
        Ok(nodes)
    }

    /// The hash of a complete subtree: stored at levels 8, 16 …, hashed from at most 128 stored ones elsewhere.
    async fn node(&self, node: NodeId) -> Result<Hash, Failure> {
        let height = node.level % 8;
        let level = node.level - height;
        let width = 1_u64 << height;
        let (from, until) = (node.index * width, (node.index + 1) * width);
        let stored = if level == 0 {
            self.store.leaf_hashes(from, until).await?
        } else {
            self.store.nodes(level, from, until).await?
        };
        if stored.len() as u64 != width {
            return Err(Failure::Broken(format!(
                "the log lacks nodes {from} to {until} of level {level}"
            )));
        }
        let mut row: Vec<Hash> = stored.into_iter().map(Hash).collect();
        while row.len() > 1 {
            row = row
                .chunks_exact(2)
                .map(|pair| node_hash(pair[0], pair[1]))
                .collect();
        }
        Ok(row[0])
    }
}
