//! The one name of a certificate that counts.

use std::fmt;
use std::str::FromStr;

use crate::types::{InvalidPartyId, PartyId};

/// What an identity is for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An organisation that deposits, takes over, or acts for one that does.
    Party,
    /// The source of registrations.
    Registrar,
    /// Reads the log and everything that it commits to.
    Auditor,
    /// Runs the service.
    Operator,
    /// Cosigns checkpoints.
    Witness,
    /// The service itself, in entries that nobody asked for. No certificate names it.
    Service,
}

impl Kind {
    /// Every kind that a certificate may name.
    pub const ALL: [Self; 5] = [
        Self::Party,
        Self::Registrar,
        Self::Auditor,
        Self::Operator,
        Self::Witness,
    ];

    /// The word used in the URN.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Party => "party",
            Self::Registrar => "registrar",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Witness => "witness",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(InvalidIdentity)
    }
}

/// Who a certificate speaks for. As text the one URI of the certificate: `urn:cos-escrow:<kind>:<id>`.
#[derive(
    Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    /// What it is for.
    pub kind: Kind,
    /// Its name among those of its kind.
    pub id: PartyId,
}

impl Identity {
    /// The party with this id.
    pub fn party(id: PartyId) -> Self {
        Self {
            kind: Kind::Party,
            id,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{URN}{}:{}", self.kind, self.id)
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, id) = text
            .strip_prefix(URN)
            .and_then(|rest| rest.split_once(':'))
            .ok_or(InvalidIdentity)?;
        Ok(Self {
            kind: kind.parse()?,
            id: id.parse().map_err(|InvalidPartyId| InvalidIdentity)?,
        })
    }
}

impl TryFrom<String> for Identity {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

/// The text does not name an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an identity of the form `urn:cos-escrow:<kind>:<id>`")]
pub struct InvalidIdentity;

pub(super) const URN: &str = "urn:cos-escrow:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_parses_what_it_prints() {
        for kind in Kind::ALL {
            let text = format!("urn:cos-escrow:{kind}:north-energy");
            let identity: Identity = text.parse().unwrap();
            assert_eq!((identity.kind, identity.to_string()), (kind, text));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for text in [
            "",
            "urn:cos-escrow:party",
            "urn:cos-escrow:party:",
            "urn:cos-escrow:king:north",
            "urn:cos-escrow:party:north:south",
            "urn:cos-escrow:Party:north",
            "URN:cos-escrow:party:north",
            "urn:cos-escrow:party:north ",
            "https://north.example/",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(InvalidIdentity), "{text:?}");
        }
    }
}
