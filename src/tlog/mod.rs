//! The formats of the tamper-evident log: RFC 6962 hashing, and tiles, notes, checkpoints, receipts, cosignatures and
//! trust policies as C2SP writes them.
//!
//! Nothing here reads a file, a clock or a database: bytes and hashes go in, values come out. What a proof needs is
//! planned first ([`ProofPlan`]) and assembled when the caller has fetched it.

mod add_checkpoint;
mod audit;
mod checkpoint;
#[cfg(test)]
mod differential;
mod draft;
mod entry;
mod field;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
mod keys;
mod merkle;
mod note;
mod policy;
mod proof;
mod receipt;
mod tile;

pub use add_checkpoint::{
    AddCheckpoint, InvalidAddCheckpoint, WitnessRefusal, parse_cosignatures, parse_latest_size,
};
pub use audit::{AuditError, verify_log};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use draft::{Draft, Entry};
pub use entry::{EntryError, OpenEntry};
pub use keys::{CosignerKey, InvalidKey, KeyKind, KeyName, LogKey, VerifierKey};
pub use merkle::{
    Frontier, Hash, InvalidFrontier, InvalidHash, MissingNode, NodeId, TreeHead, empty_root,
    leaf_hash, node_hash, root_of,
};
pub use note::{Note, NoteError, Signature, Verified};
pub use policy::{PolicyError, PolicyMistake, TrustPolicy, Trusted, TrustedLog, Witness};
pub use proof::{ProofError, ProofPlan, verify_consistency, verify_inclusion};
pub use receipt::{Receipt, ReceiptError};
pub use tile::{
    InvalidEntries, InvalidTilePath, TileKind, TilePath, decode_entries, encode_entries, tiles,
};

/// A decimal number without sign and leading zeros, as every C2SP format wants it.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The most leaves that a log can have: what fits a signed 64-bit column.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

/// The most hashes that a proof in a tree of at most [`MAX_SIZE`] leaves can have.
const MAX_PROOF_HASHES: usize = 63;
