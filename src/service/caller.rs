use std::time::Duration;

use super::Escrow;
use crate::identity::{Identity, Kind};
use crate::store::Directory;
use crate::types::{Code, Digest, PartyId};

/// Who asks, as the connection proved it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What the certificate says.
    pub identity: Identity,
    /// SHA-256 of the certificate.
    pub certificate: Digest,
    /// The request's id: the same in log line, problem document and entry.
    pub request_id: String,
}

impl Caller {
    /// The organisation, if the identity is one.
    pub fn party(&self) -> Result<&PartyId, Failure> {
        self.require(Kind::Party)?;
        Ok(&self.identity.id)
    }

    /// Refuses identities of another kind.
    pub fn require(&self, kind: Kind) -> Result<(), Failure> {
        if self.identity.kind == kind {
            Ok(())
        } else {
            Err(Failure::refused(Code::WrongRole))
        }
    }
}

impl Caller {
    /// Check 2: a party that is suspended, or takes no part, does nothing.
    pub(super) fn check_live(&self, directory: &Directory) -> Result<(), Failure> {
        let party = &self.identity.id;
        match directory.party(party) {
            _ if self.identity.kind != Kind::Party => Ok(()),
            Some(_) if directory.is_live(party) => Ok(()),
            Some(_) => Err(Failure::refused(Code::PartySuspended)),
            None => Err(Failure::refused(Code::PartyUnknown)),
        }
    }
}

impl Escrow {
    /// Refuses a caller that may not act at all. Whatever is written checks it again inside its transaction.
    pub async fn admit(&self, caller: &Caller) -> Result<(), Failure> {
        match caller.identity.kind {
            Kind::Party => caller.check_live(&*self.shared.store.directory().await?),
            _ => Ok(()),
        }
    }
}

/// Why a use case gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Refused, with the code that the requester may see.
    #[error("{}{}", code.title(), detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Refused {
        /// The stable code.
        code: Code,
        /// What exactly, if that helps and discloses nothing.
        detail: Option<String>,
        /// Whether an entry of its own records it; if not, it is counted.
        recorded: bool,
        /// When asking again may help, where that is known.
        retry_after: Option<Duration>,
    },
    /// The store or a key cannot be reached now; nothing was changed, or what was changed can be asked for again.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Something that must hold does not.
    #[error("broken: {0}")]
    Broken(String),
}

impl Failure {
    /// A refusal without more words than its code has.
    pub fn refused(code: Code) -> Self {
        Self::Refused {
            code,
            detail: None,
            recorded: false,
            retry_after: None,
        }
    }

    /// A refusal that an entry records.
    pub(super) fn recorded(code: Code) -> Self {
        Self::Refused {
            code,
            detail: None,
            recorded: true,
            retry_after: None,
        }
    }

    /// A refusal that says what exactly is wrong.
    pub fn because(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused {
            code,
            detail: Some(detail.into()),
            recorded: false,
            retry_after: None,
        }
    }

    /// A refusal of now, not of the thing itself: asking again after `wait` may help.
    pub fn for_now(code: Code, wait: Duration) -> Self {
        Self::Refused {
            code,
            detail: None,
            recorded: false,
            retry_after: Some(wait),
        }
    }

    /// The same, now that an entry records it.
    pub(super) fn entered(mut self) -> Self {
        if let Self::Refused { recorded, .. } = &mut self {
            *recorded = true;
        }
        self
    }

    /// The code, if it refuses for what the requester did.
    pub(super) fn blames(&self) -> Option<Code> {
        match self {
            Self::Refused {
                code: Code::ClockBack | Code::Fenced | Code::Unavailable,
                ..
            }
            | Self::Unavailable(_)
            | Self::Broken(_) => None,
            Self::Refused { code, .. } => Some(*code),
        }
    }

    /// The code, if the requester is to blame and no entry says so: such refusals are counted.
    pub fn unrecorded(&self) -> Option<Code> {
        match self {
            Self::Refused { recorded: true, .. } => None,
            _ => self.blames(),
        }
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match error {
            // It would fail the same way again.
            error if error.is_of_one_request() => Self::Broken(error.to_string()),
            StoreError::Corrupt { .. } | StoreError::Schema(_) => Self::Broken(error.to_string()),
            StoreError::Database(_) | StoreError::File(_) => Self::Unavailable(error.to_string()),
        }
    }
}
