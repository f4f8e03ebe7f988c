//! The three results of a verification: valid, invalid, and that it cannot be told.

use std::fmt;
use std::io;
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::tlog::{AuditError, CheckpointError, NoteError, TilePath};

/// What a verification comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// All of it holds.
    Valid,
    /// Something was changed, or the log contradicts itself.
    Invalid,
    /// Something is missing without which nothing can be said: a file, a key, a cosignature.
    Unverifiable,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unverifiable => "unverifiable",
        })
    }
}

/// Why a copy, or a checkpoint, is not valid.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    /// The first entry that is wrong or missing, where that is known.
    pub(super) entry: Option<u64>,
    /// The tile that shows it.
    pub(super) tile: Option<TilePath>,
    hint: Option<&'static str>,
}

impl Finding {
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Invalid,
            reason: reason.into(),
            entry: None,
            tile: None,
            hint: None,
        }
    }

    pub(super) fn unverifiable(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Unverifiable,
            ..Self::invalid(reason)
        }
    }

    /// What is wrong with the checkpoint in a file.
    pub(super) fn of_checkpoint(file: &Path, error: CheckpointError) -> Self {
        let reason = format!("`{}`: {error}", file.display());
        match error {
            CheckpointError::Note(NoteError::NotSigned) => Self::unverifiable(reason)
                .hint("the key in `--log-key` or the policy may be that of another log, or of another time"),
            CheckpointError::Quorum => Self::unverifiable(reason)
                .hint("`cos-escrow log mirror` fetches what witnesses have cosigned since"),
            _ => Self::invalid(reason),
        }
    }

    /// What is wrong with the tiles of a copy.
    pub(super) fn of_audit(error: &AuditError<io::Error>) -> Self {
        let (entry, tile) = match *error {
            AuditError::Entry { index, tile } => (Some(index), Some(tile)),
            AuditError::MissingEntry { index } => (Some(index), None),
            AuditError::Unreadable { tile, .. }
            | AuditError::Surplus { tile }
            | AuditError::Tile { tile } => (None, Some(tile)),
            AuditError::Root => (None, None),
        };
        let finding = match error {
            AuditError::Unreadable { tile, source } => {
                Self::unverifiable(format!("`{tile}` cannot be read: {source}"))
                    .hint("`cos-escrow log mirror` fetches what is missing")
            }
            error => Self::invalid(error.to_string()).hint(
                "keep this copy; compare it with another one, or remove the tile and mirror it again",
            ),
        };
        Self {
            entry,
            tile,
            ..finding
        }
    }

    pub(super) fn hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        let exit = match finding.verdict {
            Verdict::Unverifiable => Exit::Unverifiable,
            Verdict::Valid | Verdict::Invalid => Exit::Unverified,
        };
        let failure = Self::new(exit, finding.reason);
        match finding.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
