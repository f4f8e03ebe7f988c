//! A stanza: the key of one envelope, sealed to one recipient.
//!
//! ```text
//! recipient   text8      urn:cos-escrow:escrow or urn:cos-escrow:party:<party id>
//! key id      [32]       SHA-256 of the recipient's public sealing key
//! kem         u16        see `sealing_key`
//! enc         bytes16    encapsulated key, as long as the KEM says
//! ciphertext  [48]       HPKE SealBase of the 32 bytes of the DEK, with empty AAD and
//!                        info = text8 "cos-escrow/stanza/1" ‖ H(header) [32] ‖ recipient text8 ‖ key id [32]
//! ```
//! A stanza's digest is SHA-256 of these bytes.

use std::fmt;
use std::str::FromStr;

use crate::types::{Digest, KeyId, PartyId, Random};

use super::kem::Kem;
use super::payload::{Dek, TAG_BYTES};
use super::sealing_key::{Purpose, Sealed, SealingKeyError, SealingKeyPair, SealingPublicKey};
use super::wire::{Decoder, Encoder, FormatError};

/// To whom something is sealed, or whose sealing key it is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Recipient {
    /// The service.
    Escrow,
    /// A party.
    Party(PartyId),
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escrow => f.write_str(ESCROW),
            Self::Party(party) => write!(f, "{PARTY}{party}"),
        }
    }
}

impl FromStr for Recipient {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == ESCROW {
            return Ok(Self::Escrow);
        }
        text.strip_prefix(PARTY)
            .and_then(|party| party.parse().ok())
            .map(Self::Party)
            .ok_or(FormatError::Field("recipient"))
    }
}

impl serde::Serialize for Recipient {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Recipient {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The key of one envelope, sealed to one recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stanza {
    recipient: Recipient,
    key_id: KeyId,
    kem: Kem,
    sealed: Sealed,
}

impl Stanza {
    /// Seals the key of the envelope with this header.
    pub fn seal(
        dek: &Dek,
        header: &Digest,
        recipient: &Recipient,
        key: &SealingPublicKey,
        random: &dyn Random,
    ) -> Result<Self, SealingKeyError> {
        let info = info(header, recipient, &key.id());
        let purpose = Purpose {
            info: &info,
            aad: b"",
        };
        Ok(Self {
            recipient: recipient.clone(),
            key_id: key.id(),
            kem: key.kem(),
            sealed: key.seal(&purpose, dek.expose(), random)?,
        })
    }

    /// Opens the key of the envelope with this header.
    pub fn open(&self, header: &Digest, key: &SealingKeyPair) -> Result<Dek, SealingKeyError> {
        if key.id() != self.key_id || key.public().kem() != self.kem {
            return Err(SealingKeyError::DoesNotOpen);
        }
        let info = info(header, &self.recipient, &self.key_id);
        let purpose = Purpose {
            info: &info,
            aad: b"",
        };
        let secret = key.open(&purpose, &self.sealed)?;
        Dek::from_secret(&secret).map_err(|_| SealingKeyError::DoesNotOpen)
    }

    /// To whom it is sealed.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// To which of the recipient's keys.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// How the key is encapsulated.
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::default()
            .text8(&self.recipient.to_string())
            .raw(self.key_id.0.as_bytes())
            .u16(self.kem.id())
            .bytes16(&self.sealed.enc)
            .raw(&self.sealed.ciphertext)
            .finish()
    }

    /// Reads the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, b"")?;
        let recipient = fields.parsed("recipient")?;
        let key_id = KeyId(Digest(fields.array()?));
        let kem = Kem::of_id(fields.u16()?).ok_or(FormatError::UnknownSuite)?;
        let enc = fields.bytes16("enc", kem.enc_bytes())?.to_vec();
        if enc.len() != kem.enc_bytes() {
            return Err(FormatError::Field("enc"));
        }
        let ciphertext = fields.take(DEK_BYTES + TAG_BYTES)?.to_vec();
        fields.finish()?;
        Ok(Self {
            recipient,
            key_id,
            kem,
            sealed: Sealed { enc, ciphertext },
        })
    }

    /// What the body of an envelope and its signature name the stanza by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

fn info(header: &Digest, recipient: &Recipient, key_id: &KeyId) -> Vec<u8> {
    Encoder::default()
        .text8("cos-escrow/stanza/1")
        .raw(header.as_bytes())
        .text8(&recipient.to_string())
        .raw(key_id.0.as_bytes())
        .finish()
}

/// The most that a stanza's encoding can take.
pub(super) const MAX_STANZA_BYTES: usize = 1400;
const DEK_BYTES: usize = 32;
const ESCROW: &str = "urn:cos-escrow:escrow";
const PARTY: &str = "urn:cos-escrow:party:";
