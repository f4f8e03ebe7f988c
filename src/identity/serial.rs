//! The number of a certificate at its issuer.

use std::fmt;
use std::str::FromStr;

use super::rules::Violation;

/// The number of a certificate at its issuer: 1 to 20 bytes, positive. As text lower-case hexadecimal.
#[derive(
    Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The bytes, most significant first, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The content bytes of the shortest DER integer.
    pub(super) fn to_der(&self) -> Vec<u8> {
        let negative = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let sign = if negative { &[0][..] } else { &[] };
        [sign, &self.0].concat()
    }

    /// The content bytes of a DER integer.
    pub(super) fn from_der(content: &[u8]) -> Result<Self, Violation> {
        if content.len() > MAX_SERIAL_BYTES || content.first().is_some_and(|b| b & 0x80 != 0) {
            return Err(Violation::Serial);
        }
        Self::from_bytes(content).ok_or(Violation::Serial)
    }

    /// `None` for zero.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let first = bytes.iter().position(|byte| *byte != 0)?;
        Some(Self(bytes[first..].to_vec()))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = Violation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) || digits.len() > 2 * MAX_SERIAL_BYTES {
            return Err(Violation::Serial);
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(Violation::Serial),
        };
        let bytes = digits
            .chunks_exact(2)
            .map(|pair| Ok(nibble(pair[0])? << 4 | nibble(pair[1])?))
            .collect::<Result<Vec<u8>, Violation>>()?;
        Self::from_bytes(&bytes).ok_or(Violation::Serial)
    }
}

impl TryFrom<String> for Serial {
    type Error = Violation;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

const MAX_SERIAL_BYTES: usize = 20;
