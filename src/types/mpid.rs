use std::fmt;
use std::str::FromStr;

/// A market participant's identifier: four capital letters or digits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Mpid([u8; 4]);

impl Mpid {
    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("only ASCII passes `from_str`")
    }
}

impl FromStr for Mpid {
    type Err = InvalidMpid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; 4] = text.as_bytes().try_into().map_err(|_| InvalidMpid)?;
        let valid = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        bytes
            .iter()
            .all(valid)
            .then_some(Self(bytes))
            .ok_or(InvalidMpid)
    }
}

impl fmt::Display for Mpid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a market participant does under one of its identifiers, by the industry's role codes.
#[derive(
    Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
pub enum Role {
    /// Supplier.
    #[serde(rename = "X")]
    Supplier,
    /// Meter operator.
    #[serde(rename = "M")]
    MeterOperator,
}

impl Role {
    /// The role code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supplier => "X",
            Self::MeterOperator => "M",
        }
    }
}

impl FromStr for Role {
    type Err = InvalidMpid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "X" => Ok(Self::Supplier),
            "M" => Ok(Self::MeterOperator),
            _ => Err(InvalidMpid),
        }
    }
}

super::serde_as_text!(Mpid);

/// The text is not a market participant identifier or role.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an MPID is four capital letters or digits, a role is `X` or `M`")]
pub struct InvalidMpid;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let id: Mpid = "LOSE".parse().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_other_text() {
        for text in ["", "LOS", "LOSER", "lose", "LÖS", "LO E"] {
            assert_eq!(text.parse::<Mpid>(), Err(InvalidMpid), "{text:?}");
        }
    }
}
