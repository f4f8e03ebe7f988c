//! Checkpoints (C2SP tlog-checkpoint): the head of a log as three lines, signed as a note.

use std::fmt;
use std::str::FromStr;

use super::keys::{KeyKind, KeyName, LogKey, VerifierKey};
use super::merkle::TreeHead;
use super::note::{Note, NoteError};
use super::{MAX_SIZE, decimal};

/// What a log says of itself: `<origin>\n<size>\n<root>\n`. Extension lines are refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Which log; also the name of the key that signs.
    pub origin: KeyName,
    /// The size and the root at that size.
    pub head: TreeHead,
}

impl Checkpoint {
    /// Signs `head` as the checkpoint of the log whose key this is.
    ///
    /// The same head always gives the same bytes, so that signing again is harmless.
    pub fn sign(head: TreeHead, key: &LogKey) -> Note {
        let origin = key.verifier().name().clone();
        let text = Self { origin, head }.to_string();
        let signature = key.sign(&text);
        Note::new(text, signature).expect("three short lines are the text of a note")
    }

    /// Reads the checkpoint of the log whose key this is; what others have signed is not looked at.
    pub fn open(note: &Note, log: &VerifierKey) -> Result<Self, CheckpointError> {
        if log.kind() != KeyKind::Log {
            return Err(CheckpointError::NotALogKey);
        }
        note.verify(std::slice::from_ref(log))?;
        let checkpoint: Self = note.text().parse()?;
        if checkpoint.origin != *log.name() {
            return Err(CheckpointError::Origin);
        }
        Ok(checkpoint)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lines = text.strip_suffix('\n').ok_or(CheckpointError::Form)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Form);
        };
        let size = decimal(size).filter(|size| *size <= MAX_SIZE);
        Ok(Self {
            origin: origin.parse().map_err(|_| CheckpointError::Form)?,
            head: TreeHead {
                size: size.ok_or(CheckpointError::Form)?,
                root: root.parse().map_err(|_| CheckpointError::Form)?,
            },
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, self.head.root)
    }
}

/// Why a checkpoint is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not origin, size and root.
    #[error("not a checkpoint of origin, size and root")]
    Form,
    /// The note cannot be read, or the log did not sign it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The log signed a checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// The caller's key is a cosigner's.
    #[error("the key is not the key of a log")]
    NotALogKey,
    /// The log signed it, but too few witnesses have cosigned it.
    #[error("fewer witnesses have cosigned the checkpoint than the policy demands")]
    Quorum,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::log_key;
    use super::super::merkle::{Hash, empty_root};
    use super::*;

    #[test]
    fn a_signed_checkpoint_opens() {
        let head = TreeHead {
            size: 0,
            root: empty_root(),
        };
        let note = Checkpoint::sign(head, &log_key());
        let opened = Checkpoint::open(&note, log_key().verifier()).unwrap();
        assert_eq!(
            (opened.origin.as_str(), opened.head),
            ("escrow.example/log/1", head)
        );
    }

    #[test]
    fn other_texts_are_no_checkpoint() {
        let root = empty_root();
        for text in [
            String::new(),
            format!("log\n1\n{root}"),
            format!("log\n1\n{root}\n\n"),
            format!("log\n1\n{root}\nextension\n"),
            format!("\n1\n{root}\n"),
            format!("l g\n1\n{root}\n"),
            format!("log\n01\n{root}\n"),
            format!("log\n+1\n{root}\n"),
            format!("log\n-1\n{root}\n"),
            format!("log\n\n{root}\n"),
            format!("log\n9223372036854775808\n{root}\n"),
            "log\n1\nAAAA\n".to_owned(),
        ] {
            assert_eq!(
                text.parse::<Checkpoint>(),
                Err(CheckpointError::Form),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_checkpoint_of_another_origin_is_refused() {
        let text = format!("escrow.example/log/2\n0\n{}\n", empty_root());
        let note = Note::new(text.clone(), log_key().sign(&text)).unwrap();
        let opened = Checkpoint::open(&note, log_key().verifier());
        assert_eq!(opened, Err(CheckpointError::Origin));
    }

    #[test]
    fn a_cosigner_cannot_speak_for_the_log() {
        let log = log_key();
        let name = log.verifier().name().clone();
        let cosigner = VerifierKey::new(name, KeyKind::Cosigner, *log.verifier().public());
        let note = Checkpoint::sign(
            TreeHead {
                size: 0,
                root: empty_root(),
            },
            &log,
        );
        let opened = Checkpoint::open(&note, &cosigner);
        assert_eq!(opened, Err(CheckpointError::NotALogKey));
    }

    proptest! {
        #[test]
        fn a_checkpoint_parses_what_it_prints(size in 0..=MAX_SIZE, root: [u8; 32]) {
            let head = TreeHead { size, root: Hash(root) };
            let checkpoint = Checkpoint { origin: "log".parse().unwrap(), head };
            prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        }

        #[test]
        fn whatever_parses_prints_the_same(text in "\\PC{1,3}\n[0-9+]{1,3}\n[A-Za-f0+/]{43}=\n") {
            if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }
    }
}
