//! What parties sign: key statements, retirements, confirmations and deposit attestations (in a `document`).
//!
//! | kind | payload |
//! |---|---|
//! | `key-statement` | `key_id kem not_after not_before party public_key sequence` |
//! | `key-retirement` | `at key_id party` |
//! | `confirmation` | `address_of? at generation? handover outcome party`; the outcome is `rotated not_rotatable meter_exchanged` or `not_wanted` |
//! | `deposit-attestation` | `at component package party read? supply_point` |
//!
//! All fields but those with `?` are required: `generation` is absent where none opens the meter, `address_of` where the
//! gaining supplier knew the address by itself, `read` where none comes with the package.
//! `party` is the URN of a party or of the escrow, a time is RFC 3339 with milliseconds, a digest or key unpadded
//! base64url.

use serde::{Deserialize, Serialize};

use crate::types::{Component, Digest, HandoverId, KeyId, SupplyPoint, Timestamp};

use super::document::Statement;
use super::kem::Kem;
use super::sealing_key::{SealingKeyError, SealingPublicKey};
use super::stanza::Recipient;

/// A party says which sealing key is its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// Whose key.
    pub party: Recipient,
    /// How keys are encapsulated to it.
    pub kem: Kem,
    /// The key itself.
    #[serde(with = "base64url")]
    pub public_key: Vec<u8>,
    /// Its name.
    pub key_id: KeyId,
    /// From when it is used.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Rises with each statement of the party.
    pub sequence: u32,
}

impl Statement for KeyStatement {
    const KIND: &'static str = "key-statement";
}

impl KeyStatement {
    /// The key, if it is one, bears its own name, and its times are in order.
    pub fn key(&self) -> Result<SealingPublicKey, SealingKeyError> {
        let key = SealingPublicKey::from_bytes(self.kem, &self.public_key)?;
        if key.id() == self.key_id && self.not_before < self.not_after {
            Ok(key)
        } else {
            Err(SealingKeyError::PublicKey)
        }
    }
}

/// A party says that one of its sealing keys is no longer to be used.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRetirement {
    /// Whose key.
    pub party: Recipient,
    /// Which key.
    pub key_id: KeyId,
    /// From when it is not used.
    pub at: Timestamp,
}

impl Statement for KeyRetirement {
    const KIND: &'static str = "key-retirement";
}

/// The gaining supplier says how the handover ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Which handover.
    pub handover: HandoverId,
    /// Who confirms.
    pub party: Recipient,
    /// How it ended.
    pub outcome: Outcome,
    /// The generation that opens the meter now, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The released generation whose word for the meter's address led to it, where it was a depositor's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_of: Option<u32>,
    /// When, by the clock of the party.
    pub at: Timestamp,
}

impl Statement for Confirmation {
    const KIND: &'static str = "confirmation";
}

/// How a handover ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// New keys work and the old ones are refused.
    Rotated,
    /// The meter's keys cannot be changed.
    NotRotatable,
    /// Another meter hangs there now.
    MeterExchanged,
    /// The gaining supplier does not want the meter.
    NotWanted,
}

impl Outcome {
    /// The word used in documents, columns and entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::NotRotatable => "not_rotatable",
            Self::MeterExchanged => "meter_exchanged",
            Self::NotWanted => "not_wanted",
        }
    }
}

/// A depositor vouches for a plain package, and the closing read beside it, that the service seals for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DepositAttestation {
    /// Who deposits.
    pub party: Recipient,
    /// For which supply point.
    pub supply_point: SupplyPoint,
    /// Keys or read.
    pub component: Component,
    /// SHA-256 of the package as it was sent.
    pub package: Digest,
    /// SHA-256 of the closing read that was sent with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Digest>,
    /// When, by the clock of the party.
    pub at: Timestamp,
}

impl Statement for DepositAttestation {
    const KIND: &'static str = "deposit-attestation";
}

/// Bytes as unpadded base64url text.
mod base64url {
    use std::borrow::Cow;

    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        BASE64_URL_SAFE_NO_PAD
            .decode(text.as_bytes())
            .map_err(de::Error::custom)
    }
}
