use std::fmt;
use std::str::FromStr;

/// An organisation that takes part: 1 to 40 lower-case letters, digits and inner hyphens.
///
/// A party is not an MPID: it holds a dated set of them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartyId(String);

impl PartyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PartyId {
    type Err = InvalidPartyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=40).contains(&text.len())
            && text.bytes().all(valid)
            && !text.starts_with('-')
            && !text.ends_with('-');
        fits.then(|| Self(text.to_owned())).ok_or(InvalidPartyId)
    }
}

impl fmt::Display for PartyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::serde_as_text!(PartyId);

/// The text is not a party id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a party id is 1 to 40 lower-case letters, digits and inner hyphens")]
pub struct InvalidPartyId;
