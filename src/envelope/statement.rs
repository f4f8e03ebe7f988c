//! Signed documents: key statements, retirements, confirmations and deposit attestations.
//!
//! The payload is RFC 8785 (JCS) JSON, kept as the bytes that were signed. What is signed is
//!
//! ```text
//! "cos-escrow/" kind "/1" 0x00 payload
//! ```
//! with ECDSA P-256 and SHA-256, so that a document of one kind never passes for another. On the wire a document is
//! `{"chain":[…],"kind":"…","payload":"…","signature":"…"}`, all but the kind in unpadded base64url: the certificates
//! as DER, leaf first, without the root; the payload; the signature as DER.
//!
//! | kind | payload |
//! |---|---|
//! | `key-statement` | `key_id kem not_after not_before party public_key sequence` |
//! | `key-retirement` | `at key_id party` |
//! | `confirmation` | `at generation handover outcome party` |
//! | `deposit-attestation` | `at component package party supply_point` |
//!
//! `party` is the URN of a party or of the escrow, a time is RFC 3339 with milliseconds, a digest or key unpadded
//! base64url.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::types::{Component, Digest, HandoverId, KeyId, SupplyPoint, Timestamp};

use super::sealing_key::{Kem, SealingKeyError, SealingPublicKey};
use super::signature::{Signature, SignerChain};
use super::stanza::Recipient;
use super::wire::FormatError;

/// What a document of one kind says.
pub trait Statement: Serialize + DeserializeOwned {
    /// The kind, as it is signed.
    const KIND: &'static str;
}

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

/// A depositor vouches for a plain package that the service seals for it.
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
    /// When, by the clock of the party.
    pub at: Timestamp,
}

impl Statement for DepositAttestation {
    const KIND: &'static str = "deposit-attestation";
}

/// A statement with the signature of whoever makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedDocument {
    kind: String,
    payload: Vec<u8>,
    signature: Signature,
}

/// Why a document is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentError<E> {
    /// It is of another kind than expected.
    #[error("the document is of another kind")]
    OtherKind,
    /// The payload is not the canonical JSON of such a statement.
    #[error("the payload is not the canonical JSON of such a statement")]
    Payload,
    /// The signature does not hold.
    #[error("the signature does not verify: {0}")]
    Signature(E),
}

impl SignedDocument {
    /// Has a statement signed: `sign` gets the bytes to sign.
    pub fn sign<S: Statement, E>(
        statement: &S,
        sign: impl FnOnce(&[u8]) -> Result<Signature, E>,
    ) -> Result<Self, E> {
        let payload = canonical(statement);
        let signature = sign(&signing_input(S::KIND, &payload))?;
        Ok(Self {
            kind: S::KIND.to_owned(),
            payload,
            signature,
        })
    }

    /// Verifies the signature and reads the statement: `verify` gets chain, signed bytes and signature and says whose
    /// it is. The signer may be an agent, so whether it may speak for the party named inside is the caller's check.
    pub fn verify<S: Statement, W, E>(
        &self,
        verify: impl FnOnce(&SignerChain, &[u8], &[u8]) -> Result<W, E>,
    ) -> Result<(S, W), DocumentError<E>> {
        if self.kind != S::KIND {
            return Err(DocumentError::OtherKind);
        }
        let input = signing_input(S::KIND, &self.payload);
        let signer = verify(self.signature.chain(), &input, self.signature.as_bytes())
            .map_err(DocumentError::Signature)?;
        let statement: S =
            serde_json::from_slice(&self.payload).map_err(|_| DocumentError::Payload)?;
        if canonical(&statement) == self.payload {
            Ok((statement, signer))
        } else {
            Err(DocumentError::Payload)
        }
    }

    /// The kind, as it says itself.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The bytes that were signed, without the kind.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The JSON that travels.
    pub fn to_json(&self) -> Vec<u8> {
        canonical(&Wire {
            chain: (self.signature.chain().certificates().iter())
                .map(|der| BASE64_URL_SAFE_NO_PAD.encode(der))
                .collect(),
            kind: self.kind.clone(),
            payload: BASE64_URL_SAFE_NO_PAD.encode(&self.payload),
            signature: BASE64_URL_SAFE_NO_PAD.encode(self.signature.as_bytes()),
        })
    }

    /// Reads the JSON that travels, at most 64 KiB.
    pub fn from_json(json: &[u8]) -> Result<Self, FormatError> {
        if json.len() > MAX_JSON_BYTES {
            return Err(FormatError::TooLarge("document"));
        }
        let wire: Wire =
            serde_json::from_slice(json).map_err(|_| FormatError::Field("document"))?;
        Self::try_from(wire)
    }

    /// SHA-256 of the JSON that travels: what an entry of the log commits to.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }
}

impl TryFrom<Wire> for SignedDocument {
    type Error = FormatError;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let decode = |field, text: &str| {
            BASE64_URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| FormatError::Field(field))
        };
        let chain = (wire.chain.iter())
            .map(|der| decode("chain", der))
            .collect::<Result<_, _>>()?;
        let signature = decode("signature", &wire.signature)?;
        Ok(Self {
            payload: decode("payload", &wire.payload)?,
            signature: Signature::from_parts(SignerChain::from_der(chain)?, signature)?,
            kind: wire.kind,
        })
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    chain: Vec<String>,
    kind: String,
    payload: String,
    signature: String,
}

fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("statements have only text keys and integers")
}

fn signing_input(kind: &str, payload: &[u8]) -> Vec<u8> {
    [b"cos-escrow/", kind.as_bytes(), b"/1\0", payload].concat()
}

impl Serialize for Kem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kem {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
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

const MAX_JSON_BYTES: usize = 64 * 1024;
