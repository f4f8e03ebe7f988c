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
use super::policy::{TrustPolicy, Trusted};
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
        self.verify_inclusion(leaf, &checkpoint)?;
        Ok(checkpoint)
    }

    /// As [`Receipt::verify`] for a log that the policy names, whose witnesses must have cosigned the checkpoint.
    pub fn verify_by<'p>(
        &self,
        leaf: &[u8],
        policy: &'p TrustPolicy,
    ) -> Result<Trusted<'p>, ReceiptError> {
        let trusted = policy.open(&self.checkpoint, None)?;
        self.verify_inclusion(leaf, &trusted.checkpoint)?;
        Ok(trusted)
    }

    fn verify_inclusion(&self, leaf: &[u8], checkpoint: &Checkpoint) -> Result<(), ProofError> {
        verify_inclusion(leaf_hash(leaf), self.index, checkpoint.head, &self.hashes)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{TestLog, log_key, witness_key};
    use super::super::{KeyKind, ProofPlan, empty_root};
    use super::*;
    use crate::types::Timestamp;

    fn receipt(log: &TestLog, index: u64) -> Receipt {
        let hashes = log.prove(ProofPlan::inclusion(index, log.head().size));
        Receipt::new(index, hashes, Checkpoint::sign(log.head(), &log_key()))
    }

    fn verify(text: &str, leaf: &[u8]) -> Result<Checkpoint, ReceiptError> {
        let receipt: Receipt = text.parse()?;
        receipt.verify(leaf, log_key().verifier())
    }

    #[test]
    fn every_entry_of_a_log_has_a_receipt() {
        let log = TestLog::golden(20);
        for (index, leaf) in (0..).zip(&log.leaves) {
            let text = receipt(&log, index).to_string();
            assert_eq!(verify(&text, leaf).unwrap().head, log.head());
        }
    }

    #[test]
    fn a_receipt_with_any_byte_changed_is_refused() {
        let log = TestLog::golden(20);
        let good = receipt(&log, 7).to_string();
        for at in 0..good.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= flip;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                assert!(
                    verify(&changed, &log.leaves[7]).is_err(),
                    "byte {at}: {changed}"
                );
            }
        }
    }

    #[test]
    fn a_receipt_cut_short_or_continued_is_refused() {
        let log = TestLog::golden(20);
        let good = receipt(&log, 7).to_string();
        for at in (0..good.len()).filter(|at| good.is_char_boundary(*at)) {
            assert!(verify(&good[..at], &log.leaves[7]).is_err(), "{at}");
        }
        assert!(verify(&(good + "\n"), &log.leaves[7]).is_err());
    }

    #[test]
    fn a_receipt_is_for_one_entry_of_one_log() {
        let log = TestLog::golden(20);
        let receipt = receipt(&log, 7);
        let key = log_key();
        let other_leaf = receipt.verify(&log.leaves[8], key.verifier());
        assert_eq!(other_leaf, Err(ReceiptError::Proof(ProofError::Root)));
        let name = "escrow.example/log/2".parse().unwrap();
        let other_key = VerifierKey::new(name, KeyKind::Log, *key.verifier().public());
        let other_log = receipt.verify(&log.leaves[7], &other_key);
        assert_eq!(other_log, Err(NoteError::NotSigned.into()));
    }

    #[test]
    fn a_receipt_can_demand_witnesses() {
        let log = TestLog::golden(20);
        let hashes = log.prove(ProofPlan::inclusion(7, 20));
        let mut note = Checkpoint::sign(log.head(), &log_key());
        let policy = format!(
            "log {}\nwitness w {}\nquorum w\n",
            log_key().verifier(),
            witness_key().verifier()
        );
        let policy: TrustPolicy = policy.parse().unwrap();
        let verify = |note: &Note, leaf: usize| {
            let receipt = Receipt::new(7, hashes.clone(), note.clone()).to_string();
            let receipt: Receipt = receipt.parse().unwrap();
            let trusted = receipt.verify_by(&log.leaves[leaf], &policy);
            trusted.map(|trusted| trusted.checkpoint.head)
        };
        assert_eq!(verify(&note, 7), Err(CheckpointError::Quorum.into()));
        note.add(witness_key().cosign(note.text(), Timestamp::default()))
            .unwrap();
        assert_eq!(verify(&note, 7), Ok(log.head()));
        assert_eq!(verify(&note, 8), Err(ProofError::Root.into()));
    }

    #[test]
    fn the_extra_line_is_kept_and_means_nothing() {
        let log = TestLog::golden(20);
        let text = receipt(&log, 7)
            .to_string()
            .replace("\nindex", "\nextra Zm9v\nindex");
        let parsed: Receipt = text.parse().unwrap();
        assert_eq!(parsed.to_string(), text);
        assert!(parsed.verify(&log.leaves[7], log_key().verifier()).is_ok());
        for wrong in ["extra Zm9v\nextra Zm9v", "extra Zm9", "extra", "Extra Zm9v"] {
            let text = text.replace("extra Zm9v", wrong);
            assert_eq!(text.parse::<Receipt>(), Err(ReceiptError::Form), "{wrong}");
        }
    }

    #[test]
    fn a_proof_has_at_most_63_hashes() {
        let log = TestLog::golden(1);
        let checkpoint = Checkpoint::sign(log.head(), &log_key());
        for (hashes, is_read) in [(63, true), (64, false)] {
            let hashes = vec![empty_root(); hashes];
            let text = Receipt::new(0, hashes, checkpoint.clone()).to_string();
            assert_eq!(text.parse::<Receipt>().is_ok(), is_read);
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_the_same(
            head in "c2sp.org/tlog-proof@v1\n(extra [A-Za-f]{0,5}={0,2}\n)?index [0-9+]{1,3}\n([A-Za-d0-9+/]{43}=\n){0,3}",
            tail in "\n(\\PC|\n){0,20}",
        ) {
            let checkpoint = Checkpoint::sign(TestLog::golden(1).head(), &log_key());
            for text in [format!("{head}\n{checkpoint}"), format!("{head}{tail}")] {
                if let Ok(receipt) = text.parse::<Receipt>() {
                    prop_assert_eq!(receipt.to_string(), text);
                }
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            let _ = text.parse::<Receipt>();
        }
    }
}
