//! DLMS/COSEM on the wire, as far as taking a meter over and simulating one need it: bytes in, values out.
//!
//! `axdr`, `obis`, `objects` and `keys` serve both ends. `acse` and `service` are the meter's end; the client's end of
//! the same messages is `dlms-cosem-rs`, behind `meter::link`, so that the two ends check each other.

use std::fmt;

pub mod acse;
pub mod axdr;
pub mod ciphering;
pub mod clock;
pub mod keys;
pub mod obis;
pub mod objects;
mod reader;
pub mod service;
#[cfg(test)]
mod vectors;
pub mod wrapper;

/// The eight bytes that name a DLMS device: the manufacturer's three letters, then what the manufacturer chose.
///
/// Half of every nonce the device sends under, so no two devices that share a key may share a title.
#[derive(
    Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct SystemTitle(pub [u8; 8]);

impl SystemTitle {
    /// A title off the wire: exactly eight bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Malformed> {
        bytes.try_into().map(Self).map_err(|_| Malformed::Length)
    }

    /// A title from 16 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Malformed> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed::Length);
        }
        u64::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| Malformed::Length)
    }
}

impl TryFrom<String> for SystemTitle {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::from_hex(&text)
    }
}

impl From<SystemTitle> for String {
    fn from(title: SystemTitle) -> Self {
        title.to_string()
    }
}

impl fmt::Display for SystemTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for SystemTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes are not what the peer should have sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The message ends inside a field.
    #[error("the bytes end too early")]
    Truncated,
    /// A length is in no known form, or not the one this field has.
    #[error("a length cannot be right")]
    Length,
    /// No such choice exists here.
    #[error("tag `{0:#04x}` is not known here")]
    Tag(u8),
    /// Values inside values inside values.
    #[error("values are nested too deeply")]
    Depth,
    /// More bytes than the message has.
    #[error("bytes are left over")]
    Trailing,
    /// A value of another type than this place takes.
    #[error("the value is not of the type expected here")]
    Type,
    /// Not the wrapper of IEC 62056-47, or a later one.
    #[error("wrapper version `{0}` is not known")]
    Version(u16),
    /// The peer announces more than it may send.
    #[error("a frame of `{0}` bytes is longer than allowed")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_parses_what_it_prints() {
        let title = SystemTitle(*b"MMM\0\0\xbcaN");
        assert_eq!(title.to_string(), "4D4D4D0000BC614E");
        assert_eq!(SystemTitle::from_hex("4D4D4D0000BC614E"), Ok(title));
        for text in ["", "+D4D4D0000BC614E", "4D4D4D0000BC614E00"] {
            assert_eq!(SystemTitle::from_hex(text), Err(Malformed::Length));
        }
    }
}
