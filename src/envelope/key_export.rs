//! Keys of meters on their way to a head end: one document, sealed to one sealing key.
//!
//! ```text
//! magic        [5]       "cosK" 0x01
//! profile      u8        form of the content: 1 JSON, 2 CSV (see `cli::meter::export`)
//! created at   u64       milliseconds since 1970
//! key id       [32]      SHA-256 of the public key it is sealed to
//! kem          u16       see `sealing_key`; this ends the header
//! enc          bytes16   encapsulated key, as long as the KEM says
//! sealed dek   [48]      HPKE SealBase of the 32 bytes of the DEK, with empty AAD and
//!                        info = text8 "cos-escrow/key-export/1" ‖ H(header) [32]
//! commitment   [32]      see `payload`, which encrypts the content under the DEK with the header as AAD
//! ciphertext   bytes32
//! ```
//! The vector is `tests/vectors/envelope/key-export.json`. A document is not signed: that it opens says to whom it was
//! sealed, and nothing about who made it.

use crate::types::{Digest, KeyId, Random, Secret, Timestamp};

use super::kem::Kem;
use super::payload::{self, Dek, TAG_BYTES};
use super::sealing_key::{Purpose, Sealed, SealingKeyError, SealingKeyPair, SealingPublicKey};
use super::wire::{Decoder, Encoder, FormatError};
use super::{OpenError, SealError};

/// The form of the content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExportProfile {
    /// One JSON document.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

/// Keys of meters, sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyExport {
    profile: ExportProfile,
    created_at: Timestamp,
    key_id: KeyId,
    kem: Kem,
    sealed: Sealed,
    commitment: Digest,
    ciphertext: Vec<u8>,
}

impl KeyExport {
    /// Seals content to a key.
    pub fn seal(
        content: &Secret,
        profile: ExportProfile,
        key: &SealingPublicKey,
        created_at: Timestamp,
        random: &dyn Random,
    ) -> Result<Self, SealError> {
        if content.expose().len() > MAX_CONTENT_BYTES {
            return Err(SealError::TooLarge);
        }
        let (key_id, kem) = (key.id(), key.kem());
        let header = header(profile, created_at, &key_id, kem);
        let dek = Dek::random(random);
        let sealed = with_purpose(&header, |purpose| key.seal(purpose, dek.expose(), random))?;
        let (commitment, ciphertext) = payload::seal(&dek, &header, content.expose());
        Ok(Self {
            profile,
            created_at,
            key_id,
            kem,
            sealed,
            commitment,
            ciphertext,
        })
    }

    /// Opens the content.
    pub fn open(&self, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        if key.id() != self.key_id || key.public().kem() != self.kem {
            return Err(OpenError::NoStanza);
        }
        let header = header(self.profile, self.created_at, &self.key_id, self.kem);
        let dek = with_purpose(&header, |purpose| key.open(purpose, &self.sealed))?;
        let dek = Dek::from_secret(&dek)?;
        let content = payload::open(&dek, &header, &self.commitment, &self.ciphertext)?;
        Ok(content)
    }

    /// The form of the content.
    pub fn profile(&self) -> ExportProfile {
        self.profile
    }

    /// To which key it is sealed.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::default()
            .raw(&header(
                self.profile,
                self.created_at,
                &self.key_id,
                self.kem,
            ))
            .bytes16(&self.sealed.enc)
            .raw(&self.sealed.ciphertext)
            .raw(self.commitment.as_bytes())
            .bytes32(&self.ciphertext)
            .finish()
    }

    /// Reads the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, MAGIC)?;
        let profile = match fields.u8()? {
            1 => ExportProfile::Json,
            2 => ExportProfile::Csv,
            _ => return Err(FormatError::Field("profile")),
        };
        let created_at = Timestamp::from_millis(fields.u64()?);
        let key_id = KeyId(Digest(fields.array()?));
        let kem = Kem::of_id(fields.u16()?).ok_or(FormatError::UnknownSuite)?;
        let enc = fields.bytes16("enc", kem.enc_bytes())?.to_vec();
        if enc.len() != kem.enc_bytes() {
            return Err(FormatError::Field("enc"));
        }
        let sealed = Sealed {
            enc,
            ciphertext: fields.take(DEK_BYTES + TAG_BYTES)?.to_vec(),
        };
        let commitment = Digest(fields.array()?);
        let ciphertext = fields.bytes32("ciphertext", MAX_CONTENT_BYTES + TAG_BYTES)?;
        let ciphertext = ciphertext.to_vec();
        fields.finish()?;
        Ok(Self {
            profile,
            created_at,
            key_id,
            kem,
            sealed,
            commitment,
            ciphertext,
        })
    }
}

fn header(profile: ExportProfile, created_at: Timestamp, key_id: &KeyId, kem: Kem) -> Vec<u8> {
    let profile = match profile {
        ExportProfile::Json => 1,
        ExportProfile::Csv => 2,
    };
    Encoder::with_magic(MAGIC)
        .u8(profile)
        .u64(created_at.as_millis())
        .raw(key_id.0.as_bytes())
        .u16(kem.id())
        .finish()
}

fn with_purpose<T>(
    header: &[u8],
    work: impl FnOnce(&Purpose<'_>) -> Result<T, SealingKeyError>,
) -> Result<T, SealingKeyError> {
    let info = Encoder::default()
        .text8("cos-escrow/key-export/1")
        .raw(Digest::of(header).as_bytes())
        .finish();
    work(&Purpose {
        info: &info,
        aad: b"",
    })
}

const MAGIC: &[u8] = b"cosK\x01";
const DEK_BYTES: usize = 32;
/// Enough for a hundred thousand meters.
const MAX_CONTENT_BYTES: usize = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemRandom;

    fn sealed(kem: Kem) -> (SealingKeyPair, KeyExport) {
        let key = SealingKeyPair::generate(kem, &SystemRandom);
        let content = Secret::new(b"keys".to_vec());
        let at = Timestamp::from_seconds(1_790_000_000);
        let export = KeyExport::seal(
            &content,
            ExportProfile::Csv,
            key.public(),
            at,
            &SystemRandom,
        );
        (key, export.unwrap())
    }

    #[test]
    fn what_is_sealed_to_a_key_opens_with_it_and_no_other() {
        for kem in Kem::ALL {
            let (key, export) = sealed(kem);
            let back = KeyExport::decode(&export.encode()).unwrap();
            assert_eq!(back, export);
            assert_eq!(back.open(&key).unwrap().expose(), b"keys");
            let (other, _) = sealed(kem);
            assert!(back.open(&other).is_err());
        }
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let (key, export) = sealed(Kem::X25519);
        let good = export.encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let opened = KeyExport::decode(&bad).map(|export| export.open(&key).is_ok());
            assert_ne!(opened, Ok(true), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(KeyExport::decode(&good[..length]).is_err(), "{length}");
        }
        assert!(KeyExport::decode(&[&good[..], b"x"].concat()).is_err());
    }
}
