//! Entries as an auditor is shown them: what they hide is opened against the leaf, and the leaf is proven to be in the log.
//! The audited service is believed in neither.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::{Client, ClientError, Request};
use crate::tlog::{
    Checkpoint, Hash, NodeId, OpenEntry, ProofPlan, TilePath, TreeHead, leaf_hash, root_of,
    verify_inclusion,
};

/// An entry that was opened against its leaf. Whether that is in the log is another question.
pub struct Shown {
    /// As the service sent it, but for what we derive ourselves: kind, time, and what is disclosed.
    pub document: Value,
    /// Its index, as the service has it.
    pub index: u64,
    /// The hash of its leaf.
    pub leaf_hash: Hash,
}

impl Shown {
    /// Opens what is disclosed of an entry. One disclosure that does not belong to the leaf refuses the entry.
    pub fn open(mut document: Value) -> Result<Self, ClientError> {
        let index = document["index"].as_u64();
        let index =
            index.ok_or_else(|| ClientError::Unexpected("an entry of no index".to_owned()))?;
        let wrong = |what: &dyn std::fmt::Display| {
            ClientError::Verification(format!("entry {index}: {what}"))
        };
        let leaf = serde_json_canonicalizer::to_vec(&document["leaf"]);
        let leaf = leaf.map_err(|error| wrong(&error))?;
        let leaf_hash = leaf_hash(&leaf);
        if document["leaf_hash"] != leaf_hash.to_string() {
            return Err(wrong(&"it is not the one of its hash"));
        }
        let entry = OpenEntry::read(&leaf).map_err(|error| wrong(&error))?;
        let disclosures = document["disclosures"].as_array();
        let opened = disclosures.map(|disclosures| {
            let texts: Vec<_> = disclosures.iter().filter_map(Value::as_str).collect();
            entry.open(&texts)
        });
        let opened = opened.transpose().map_err(|error| wrong(&error))?;
        if let Value::Object(fields) = &mut document {
            fields.insert("kind".to_owned(), entry.kind().into());
            fields.insert("at".to_owned(), entry.at().to_string().into());
            fields.remove("disclosed");
            if let Some(opened) = opened {
                fields.insert("disclosed".to_owned(), Value::Object(opened));
            }
        }
        Ok(Self {
            document,
            index,
            leaf_hash,
        })
    }
}

impl Client {
    /// One tile, not verified.
    pub async fn tile(&self, tile: &TilePath) -> Result<Bytes, ClientError> {
        let answer = self.send(Request::get(format!("/log/{tile}"))).await?;
        Ok(answer.body)
    }

    /// Proves that entries are in the log, under a checkpoint that continues the one seen before.
    pub async fn prove(&self, entries: &[Shown]) -> Result<(), ClientError> {
        if entries.is_empty() {
            return Ok(());
        }
        let note = self.verified_checkpoint().await?;
        let checkpoint: Checkpoint = (note.text().parse())
            .map_err(|error| ClientError::Verification(format!("the checkpoint: {error}")))?;
        let head = checkpoint.head;
        let plans: Vec<_> = entries
            .iter()
            .map(|entry| ProofPlan::inclusion(entry.index, head.size).map_err(|_| absent(entry)))
            .collect::<Result<_, _>>()?;
        let nodes = plans.iter().flat_map(ProofPlan::nodes);
        let tiles: BTreeSet<_> = nodes.filter_map(|node| tile_over(node, head)).collect();
        let tiles: BTreeMap<_, _> = stream::iter(tiles)
            .map(|tile| async move { Ok::<_, ClientError>((tile, self.tile(&tile).await?)) })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let lookup = |node| {
            let tile = tile_over(node, head)?;
            hash_in(tiles.get(&tile)?, node)
        };
        for (entry, plan) in entries.iter().zip(&plans) {
            let proof = plan.assemble(lookup).map_err(|_| absent(entry))?;
            verify_inclusion(entry.leaf_hash, entry.index, head, &proof)
                .map_err(|_| absent(entry))?;
        }
        Ok(())
    }
}

fn absent(entry: &Shown) -> ClientError {
    let index = entry.index;
    ClientError::Verification(format!(
        "entry {index} is not the one that the log has there, by its own checkpoint"
    ))
}

/// The tile whose hashes give a node: those that lie under it, on the level of a tile.
fn tile_over(node: NodeId, head: TreeHead) -> Option<TilePath> {
    let up = node.level % 8;
    let first = NodeId {
        level: node.level - up,
        index: node.index << up,
    };
    TilePath::holding(first, head.size)
}

fn hash_in(tile: &[u8], node: NodeId) -> Option<Hash> {
    let up = node.level % 8;
    let first = usize::try_from((node.index << up) % 256).ok()?;
    let (hashes, _) = tile.as_chunks::<32>();
    let under = hashes.get(first..first + (1 << up))?;
    Some(root_of(under.iter().copied().map(Hash)))
}

/// Tiles that are fetched at a time.
const AT_ONCE: usize = 8;
