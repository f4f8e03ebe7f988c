//! The body of an envelope: all but the stanzas.
//!
//! ```text
//! magic           [5]        "cosB" 0x01
//! header          bytes16    at most 8192 bytes (see `header`)
//! commitment      [32]       see `payload`
//! ciphertext      bytes32    at most 262,144 bytes (see `payload`)
//! stanza digests  u8 n       0 to 8, then n times [32]: SHA-256 of each stanza, in their order
//! signed          u8         0, or 1 followed by chain and signature (see `signature`)
//!
//! signing input:
//!   text8 "cos-escrow/envelope/1" ‖ bytes16 header ‖ [32] commitment ‖ [32] SHA-256(ciphertext)
//!   ‖ u8 n ‖ n times [32] stanza digest
//! ```
//! The body is what the service keeps: it verifies without the stanzas, which a release replaces. A body without stanza
//! digests and without signature is one that the service sealed itself, for a depositor that sent a plain package.

use crate::types::{Digest, PartyId, Random, Secret};

use super::header::Header;
use super::payload::{self, Dek, PayloadError, TAG_BYTES};
use super::sealing_key::{SealingKeyError, SealingKeyPair};
use super::signature::{Signature, SignatureError, SignerChain};
use super::stanza::Stanza;
use super::wire::{Decoder, Encoder, FormatError};

/// A sealed package or read without its stanzas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Body {
    pub(super) header: Header,
    commitment: Digest,
    ciphertext: Vec<u8>,
    pub(super) stanza_digests: Vec<Digest>,
    pub(super) signature: Option<Signature>,
}

impl Body {
    /// Seals content for nobody but the holder of the returned key: what the service does with a plain package.
    pub fn seal(
        content: &[u8],
        header: Header,
        random: &dyn Random,
    ) -> Result<(Self, Dek), SealError> {
        if content.len() > MAX_CIPHERTEXT_BYTES - TAG_BYTES {
            return Err(SealError::TooLarge);
        }
        let dek = Dek::random(random);
        let (commitment, ciphertext) = payload::seal(&dek, &header.encode(), content);
        let body = Self {
            header,
            commitment,
            ciphertext,
            stanza_digests: Vec::new(),
            signature: None,
        };
        Ok((body, dek))
    }

    /// What can be known without opening.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The commitment to the key.
    pub fn commitment(&self) -> &Digest {
        &self.commitment
    }

    /// The digests of the stanzas that it was sealed with.
    pub fn stanza_digests(&self) -> &[Digest] {
        &self.stanza_digests
    }

    /// The depositor's signature, if it sealed the envelope itself.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// The bytes that the depositor signs.
    pub fn signing_input(&self) -> Vec<u8> {
        Encoder::default()
            .text8("cos-escrow/envelope/1")
            .bytes16(&self.header.encode())
            .raw(self.commitment.as_bytes())
            .raw(Digest::of(&self.ciphertext).as_bytes())
            .count(self.stanza_digests.len())
            .each(&self.stanza_digests, |e, digest| e.raw(digest.as_bytes()))
            .finish()
    }

    /// Verifies the signature: `verify` gets chain, signed bytes and signature and says whose it is; it must be the
    /// depositor's.
    pub fn verify<E>(
        &self,
        verify: impl FnOnce(&SignerChain, &[u8], &[u8]) -> Result<PartyId, E>,
    ) -> Result<(), SignatureError<E>> {
        let signature = self.signature.as_ref().ok_or(SignatureError::Unsigned)?;
        let signer = verify(
            signature.chain(),
            &self.signing_input(),
            signature.as_bytes(),
        )
        .map_err(SignatureError::Refused)?;
        if signer == self.header.depositor {
            Ok(())
        } else {
            Err(SignatureError::OtherParty(signer))
        }
    }

    /// Opens the content.
    pub fn open(&self, dek: &Dek) -> Result<Secret, PayloadError> {
        let header = self.header.encode();
        payload::open(dek, &header, &self.commitment, &self.ciphertext)
    }

    /// Checks that the content would open, and lets nobody see it.
    pub fn check(&self, dek: &Dek) -> Result<(), PayloadError> {
        self.open(dek).map(drop)
    }

    /// Opens the content with a stanza, of the envelope itself or made later for a release.
    pub fn open_with(&self, stanza: &Stanza, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        let dek = stanza.open(&self.header.digest(), key)?;
        Ok(self.open(&dek)?)
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        let encoder = Encoder::with_magic(MAGIC)
            .bytes16(&self.header.encode())
            .raw(self.commitment.as_bytes())
            .bytes32(&self.ciphertext)
            .count(self.stanza_digests.len())
            .each(&self.stanza_digests, |e, digest| e.raw(digest.as_bytes()));
        match &self.signature {
            None => encoder.u8(0),
            Some(signature) => signature.encode(encoder.u8(1)),
        }
        .finish()
    }

    /// Reads the one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, MAGIC)?;
        let body = Self {
            header: Header::decode(fields.bytes16("header", MAX_HEADER_BYTES)?)?,
            commitment: Digest(fields.array()?),
            ciphertext: fields.bytes32("ciphertext", MAX_CIPHERTEXT_BYTES)?.to_vec(),
            stanza_digests: fields
                .list("stanza_digests", MAX_STANZAS, |f| f.array().map(Digest))?,
            signature: match fields.present("signed")? {
                false => None,
                true => Some(Signature::decode(&mut fields)?),
            },
        };
        fields.finish()?;
        Ok(body)
    }

    /// SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// Why something cannot be sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealError {
    /// The content is too long for an envelope.
    #[error("the content is larger than an envelope holds")]
    TooLarge,
    /// There must be 1 to 8 recipients.
    #[error("an envelope has 1 to 8 recipients")]
    Recipients,
    /// A recipient's key cannot be sealed to.
    #[error(transparent)]
    Key(#[from] SealingKeyError),
}

/// Why an envelope does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// No stanza is sealed to this key.
    #[error("no stanza is sealed to this key")]
    NoStanza,
    /// The stanza does not open.
    #[error(transparent)]
    Stanza(#[from] SealingKeyError),
    /// The payload does not open.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

/// The most that a body's encoding can take.
pub(super) const MAX_BODY_BYTES: usize = MAX_CIPHERTEXT_BYTES + 32 * 1024;
pub(super) const MAX_CIPHERTEXT_BYTES: usize = 256 * 1024;
pub(super) const MAX_STANZAS: usize = 8;
const MAX_HEADER_BYTES: usize = 8192;
const MAGIC: &[u8] = b"cosB\x01";
