//! Receipts (C2SP tlog-proof): that a log has an entry, verifiable offline.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 23333
//! xuXLye2WAsPrMDG2q6RFXIHYUhrVvY5G2d+aun+V0ys=
//! … one line a hash, the leaf's sibling first …
//!
//! … the signed checkpoint …
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::keys::VerifierKey;
use super::merkle::{Hash, leaf_hash};
use super::note::{Note, NoteError};
use super::proof::{ProofError, verify_inclusion};
use super::{MAX_PROOF_HASHES, decimal};

/// An entry's index, its inclusion proof and the checkpoint that this proof leads to. Nothing in it is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: Note,
    extra: Option<Vec<u8>>,
}

impl Receipt {
    /// The receipt of entry `index`.
    pub fn new(index: u64, hashes: Vec<Hash>, checkpoint: Note) -> Self {
        Self {
            index,
            hashes,
            checkpoint,
            extra: None,
        }
    }

    /// The index of the entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The inclusion proof, the leaf's sibling first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The signed checkpoint, whose cosignatures can be verified or added to.
    pub fn checkpoint(&self) -> &Note {
        &self.checkpoint
    }

    /// Whether this log has these bytes as the entry of this index; returns the checkpoint that says so.
    pub fn verify(&self, leaf: &[u8], log: &VerifierKey) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, log)?;
        verify_inclusion(leaf_hash(leaf), self.index, checkpoint.head, &self.hashes)?;
        Ok(checkpoint)
    }
}

impl FromStr for Receipt {
    type Err = ReceiptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Neither the head of a receipt nor its proof has an empty line.
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ReceiptError::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(VERSION) {
            return Err(ReceiptError::Form);
        }
        let extra = lines
            .next_if(|line| line.starts_with(EXTRA))
            .map(|line| BASE64_STANDARD.decode(&line[EXTRA.len()..]))
            .transpose()
            .map_err(|_| ReceiptError::Form)?;
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix(INDEX))
            .and_then(decimal);
        let hashes = lines
            .take(MAX_PROOF_HASHES + 1)
            .map(|line| line.parse().map_err(|_| ReceiptError::Form))
            .collect::<Result<Vec<_>, _>>()?;
        if hashes.len() > MAX_PROOF_HASHES {
            return Err(ReceiptError::Form);
        }
        Ok(Self {
            index: index.ok_or(ReceiptError::Form)?,
            hashes,
            checkpoint: checkpoint.parse()?,
            extra,
        })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{VERSION}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "{EXTRA}{}", BASE64_STANDARD.encode(extra))?;
        }
        writeln!(f, "{INDEX}{}", self.index)?;
        self.hashes
            .iter()
            .try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// Why a receipt is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReceiptError {
    /// The text is not a receipt.
    #[error("not a receipt in the form of `{VERSION}`")]
    Form,
    /// The checkpoint is not one of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log does not have this entry there.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl From<NoteError> for ReceiptError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}

const VERSION: &str = "c2sp.org/tlog-proof@v1";
/// Carries what the maker likes; nothing authenticates it, so nothing here reads it.
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";
