//! The key encapsulation mechanisms that sealing keys may have.

use std::fmt;
use std::str::FromStr;

use hpke::Kem as _;
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256, XWing};

use super::wire::FormatError;

/// How a key is encapsulated to a recipient.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kem {
    /// ML-KEM-768 with X25519: stays closed to a quantum computer. The default.
    XWing,
    /// X25519.
    X25519,
    /// NIST P-256.
    P256,
}

impl Kem {
    /// Every KEM, the preferred first.
    pub const ALL: [Self; 3] = [Self::XWing, Self::X25519, Self::P256];

    /// The identifier of the HPKE registry.
    pub fn id(self) -> u16 {
        match self {
            Self::XWing => XWing::KEM_ID,
            Self::X25519 => X25519HkdfSha256::KEM_ID,
            Self::P256 => DhP256HkdfSha256::KEM_ID,
        }
    }

    /// The KEM with this identifier.
    pub fn of_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kem| kem.id() == id)
    }

    /// The word used in documents and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::XWing => "x-wing",
            Self::X25519 => "x25519",
            Self::P256 => "p256",
        }
    }

    /// The length of a public key in bytes.
    pub fn public_bytes(self) -> usize {
        match self {
            Self::XWing => 1216,
            Self::X25519 => 32,
            Self::P256 => 65,
        }
    }

    /// The length of an encapsulated key in bytes.
    pub fn enc_bytes(self) -> usize {
        match self {
            Self::XWing => 1120,
            Self::X25519 => 32,
            Self::P256 => 65,
        }
    }
}

impl fmt::Display for Kem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kem {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kem| kem.as_str() == text)
            .ok_or(FormatError::UnknownSuite)
    }
}

impl serde::Serialize for Kem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Kem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
