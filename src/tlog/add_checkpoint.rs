//! What a log asks of a witness (C2SP tlog-witness, `add-checkpoint`), what the witness answers, and its rule.
//!
//! ```text
//! old 46666
//! 4IKTH9uyaK5ypdzyw5z613oxUh8JbHy6lZORriMTbBI=
//! … at most 63 hashes that prove that the checkpoint continues the old size …
//!
//! … the signed checkpoint …
//! ```

use std::fmt;
use std::str::FromStr;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::keys::VerifierKey;
use super::merkle::{Hash, TreeHead, empty_root};
use super::note::{Note, NoteError, Signature};
use super::proof::verify_consistency;
use super::{MAX_PROOF_HASHES, MAX_SIZE, decimal};

/// The body of a request. Nothing in it is verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness has cosigned last; 0 for none.
    pub old_size: u64,
    /// The proof that the checkpoint continues it.
    pub proof: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: Note,
}

impl AddCheckpoint {
    /// The origin that the checkpoint names: whose keys and state a witness has to look up.
    pub fn origin(&self) -> &str {
        // A note's text has at least one line.
        self.checkpoint.text().lines().next().unwrap_or_default()
    }

    /// Whether a witness that trusts these keys for the origin, and has cosigned `latest` last, may cosign.
    ///
    /// INVARIANT: the caller keeps the returned head as its latest, atomically with this check, before it answers.
    //= C2SP tlog-witness, "add-checkpoint"
    pub fn judge(
        &self,
        keys: &[VerifierKey],
        latest: Option<TreeHead>,
    ) -> Result<TreeHead, WitnessRefusal> {
        let head = self.signed_head(keys)?;
        if self.old_size > head.size {
            return Err(WitnessRefusal::OldSize);
        }
        let latest = latest.unwrap_or(TreeHead {
            size: 0,
            root: empty_root(),
        });
        if self.old_size != latest.size {
            return Err(WitnessRefusal::Conflict(latest.size));
        }
        verify_consistency(latest, head, &self.proof).map_err(|_| WitnessRefusal::Proof)?;
        Ok(head)
    }

    /// The head, if one of the keys has signed it and none is said to have without having done so.
    fn signed_head(&self, keys: &[VerifierKey]) -> Result<TreeHead, WitnessRefusal> {
        let by_any = keys
            .iter()
            .map(|key| Checkpoint::open(&self.checkpoint, key));
        let mut head = None;
        for opened in by_any {
            match opened {
                Ok(checkpoint) => head = Some(checkpoint.head),
                Err(CheckpointError::Note(NoteError::NotSigned)) => {}
                Err(_) => return Err(WitnessRefusal::Signature),
            }
        }
        head.ok_or(WitnessRefusal::Signature)
    }
}

impl FromStr for AddCheckpoint {
    type Err = InvalidAddCheckpoint;

    fn from_str(body: &str) -> Result<Self, Self::Err> {
        // Neither the old size nor the proof has an empty line.
        let (head, checkpoint) = body.split_once("\n\n").ok_or(InvalidAddCheckpoint)?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix(OLD))
            .and_then(size)
            .ok_or(InvalidAddCheckpoint)?;
        let proof = lines
            .take(MAX_PROOF_HASHES + 1)
            .map(|line| line.parse().map_err(|_| InvalidAddCheckpoint))
            .collect::<Result<Vec<_>, _>>()?;
        if proof.len() > MAX_PROOF_HASHES {
            return Err(InvalidAddCheckpoint);
        }
        let checkpoint: Note = checkpoint.parse().map_err(|_| InvalidAddCheckpoint)?;
        let says: Result<Checkpoint, _> = checkpoint.text().parse();
        says.map_err(|_| InvalidAddCheckpoint)?;
        Ok(Self {
            old_size,
            proof,
            checkpoint,
        })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{OLD}{}", self.old_size)?;
        self.proof
            .iter()
            .try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The signature lines of an answer of success.
pub fn parse_cosignatures(body: &str) -> Result<Vec<Signature>, InvalidAddCheckpoint> {
    let lines = body.strip_suffix('\n').ok_or(InvalidAddCheckpoint)?;
    let signatures: Vec<_> = lines
        .split('\n')
        .take(MAX_COSIGNATURES + 1)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| InvalidAddCheckpoint)?;
    let fits = signatures.len() <= MAX_COSIGNATURES;
    fits.then_some(signatures).ok_or(InvalidAddCheckpoint)
}

/// The body of an answer of conflict (`text/x.tlog.size`): the size that the witness has cosigned last.
pub fn parse_latest_size(body: &str) -> Result<u64, InvalidAddCheckpoint> {
    body.strip_suffix('\n')
        .and_then(size)
        .ok_or(InvalidAddCheckpoint)
}

fn size(text: &str) -> Option<u64> {
    decimal(text).filter(|size| *size <= MAX_SIZE)
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WitnessRefusal {
    /// The old size is larger than the checkpoint: 400.
    #[error("the old size is larger than that of the checkpoint")]
    OldSize,
    /// No key that is trusted for the log has signed, or one is only said to have: 403.
    #[error("no key of the log has signed the checkpoint")]
    Signature,
    /// The witness has cosigned another size last, this one: 409.
    #[error("{0} is the size that was cosigned last")]
    Conflict(u64),
    /// The checkpoint does not continue what was cosigned last: 422.
    #[error("the checkpoint does not continue the one that was cosigned last")]
    Proof,
}

/// The text is not what the protocol has at this place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not in the form of C2SP tlog-witness")]
pub struct InvalidAddCheckpoint;

const OLD: &str = "old ";
/// Signature lines in an answer: a witness has few keys.
const MAX_COSIGNATURES: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{TestLog, log_key, witness_key};
    use super::super::{LogKey, ProofPlan};
    use super::*;
    use crate::types::{Secret, Timestamp};

    fn request(log: &TestLog, old: u64, new: usize) -> AddCheckpoint {
        let head = log.heads[new];
        AddCheckpoint {
            old_size: old,
            proof: log.prove(ProofPlan::consistency(old, head.size)),
            checkpoint: Checkpoint::sign(head, &log_key()),
        }
    }

    fn judge(
        request: &AddCheckpoint,
        latest: Option<TreeHead>,
    ) -> Result<TreeHead, WitnessRefusal> {
        request.judge(&[log_key().verifier().clone()], latest)
    }

    #[test]
    fn a_log_that_only_grows_is_cosigned() {
        let log = TestLog::golden(20);
        let mut latest = None;
        for (old, new) in [(0, 0), (0, 3), (3, 3), (3, 8), (8, 20)] {
            let request = request(&log, old, new);
            let text = request.to_string();
            assert_eq!(text.parse().as_ref(), Ok(&request));
            assert_eq!(request.origin(), "escrow.example/log/1");
            latest = Some(judge(&request, latest).unwrap());
            assert_eq!(latest, Some(log.heads[new]));
        }
    }

    #[test]
    fn everything_else_has_the_answer_of_the_specification() {
        let log = TestLog::golden(20);
        let at = |size: usize| Some(log.heads[size]);
        let other = TestLog::of((0..20).map(|leaf| vec![leaf]));
        let old_above = AddCheckpoint {
            old_size: 9,
            ..request(&log, 8, 8)
        };
        assert_eq!(judge(&old_above, at(9)), Err(WitnessRefusal::OldSize));
        assert_eq!(
            judge(&request(&log, 3, 8), at(5)),
            Err(WitnessRefusal::Conflict(5))
        );
        assert_eq!(
            judge(&request(&log, 3, 8), None),
            Err(WitnessRefusal::Conflict(0))
        );
        assert_eq!(
            judge(&request(&log, 0, 8), at(5)),
            Err(WitnessRefusal::Conflict(5))
        );
        // An empty proof, one of another log, another root of the same size, a proof from nothing.
        let bare = AddCheckpoint {
            proof: Vec::new(),
            ..request(&log, 3, 8)
        };
        assert_eq!(judge(&bare, at(3)), Err(WitnessRefusal::Proof));
        assert_eq!(
            judge(&request(&other, 3, 8), at(3)),
            Err(WitnessRefusal::Proof)
        );
        assert_eq!(
            judge(&request(&other, 8, 8), at(8)),
            Err(WitnessRefusal::Proof)
        );
        let surplus = AddCheckpoint {
            proof: vec![empty_root()],
            ..request(&log, 0, 8)
        };
        assert_eq!(judge(&surplus, None), Err(WitnessRefusal::Proof));
        let empty = TreeHead {
            size: 0,
            root: log.heads[1].root,
        };
        let no_tree = AddCheckpoint {
            checkpoint: Checkpoint::sign(empty, &log_key()),
            ..request(&log, 0, 0)
        };
        assert_eq!(judge(&no_tree, None), Err(WitnessRefusal::Proof));
    }

    #[test]
    fn only_the_keys_of_the_log_count() {
        let log = TestLog::golden(8);
        let name = log_key().verifier().name().clone();
        let other = LogKey::from_seed(name, &Secret::new(vec![8; 32])).unwrap();
        let mut request = request(&log, 0, 8);
        let by_other = request.judge(&[other.verifier().clone()], None);
        assert_eq!(by_other, Err(WitnessRefusal::Signature));
        assert_eq!(request.judge(&[], None), Err(WitnessRefusal::Signature));
        // During a rotation both keys are trusted, and one signature that fails spoils the note.
        let both = [log_key().verifier().clone(), other.verifier().clone()];
        assert!(request.judge(&both, None).is_ok());
        request.checkpoint.add(other.sign("lie\n")).unwrap();
        assert!(request.judge(&both[..1], None).is_ok());
        assert_eq!(request.judge(&both, None), Err(WitnessRefusal::Signature));
    }

    #[test]
    fn a_signed_note_that_is_no_checkpoint_is_refused() {
        for text in [
            "escrow.example/log/1\n8\n",
            "\nescrow.example/log/1\n8\n",
            "n\n",
        ] {
            let checkpoint = Note::new(text.to_owned(), log_key().sign(text)).unwrap();
            let request = AddCheckpoint {
                old_size: 0,
                proof: Vec::new(),
                checkpoint,
            };
            assert_eq!(judge(&request, None), Err(WitnessRefusal::Signature));
            let parsed = request.to_string().parse::<AddCheckpoint>();
            assert_eq!(parsed, Err(InvalidAddCheckpoint));
        }
    }

    #[test]
    fn other_text_is_no_request() {
        let good = request(&TestLog::golden(8), 3, 8).to_string();
        assert!(good.parse::<AddCheckpoint>().is_ok());
        let hash = empty_root().to_string() + "\n";
        for wrong in [
            String::new(),
            good.replace("old 3", "old 03"),
            good.replace("old 3", "old +3"),
            good.replace("old 3", "old -3"),
            good.replace("old 3", "old  3"),
            good.replace("old 3", "Old 3"),
            good.replace("old 3", "old 9223372036854775808"),
            good.replace("old 3\n", ""),
            good.replacen("\n\n", "\n", 1),
            good.replacen("\n\n", "\n\n\n", 1),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
            good.clone() + "\n",
            good.replace("=\n", "\n"),
            good.replacen("\n\n", &format!("\n{}\n", hash.repeat(62)), 1),
        ] {
            assert_eq!(
                wrong.parse::<AddCheckpoint>(),
                Err(InvalidAddCheckpoint),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let line = witness_key()
            .cosign("text\n", Timestamp::default())
            .to_string()
            + "\n";
        assert_eq!(parse_cosignatures(&line.repeat(16)).unwrap().len(), 16);
        for wrong in [
            String::new(),
            "\n".to_owned(),
            line.repeat(17),
            line.clone() + "\n",
            line[..60].to_owned(),
        ] {
            assert!(parse_cosignatures(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(parse_latest_size("70000\n"), Ok(70_000));
        for wrong in [
            "",
            "70000",
            "070000\n",
            "7\n\n",
            " 7\n",
            "9223372036854775808\n",
        ] {
            assert_eq!(
                parse_latest_size(wrong),
                Err(InvalidAddCheckpoint),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_the_same(
            head in "old [0-9+]{1,3}\n([A-Za-d0-9+/]{43}=\n){0,3}",
            tail in "\n(\\PC|\n){0,20}",
        ) {
            let checkpoint = Checkpoint::sign(TestLog::golden(1).head(), &log_key());
            for text in [format!("{head}\n{checkpoint}"), format!("{head}{tail}")] {
                if let Ok(request) = text.parse::<AddCheckpoint>() {
                    prop_assert_eq!(request.to_string(), text);
                }
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "(\\PC|\n){0,60}") {
            let _ = text.parse::<AddCheckpoint>();
            let _ = parse_cosignatures(&text);
            let _ = parse_latest_size(&text);
        }
    }
}
