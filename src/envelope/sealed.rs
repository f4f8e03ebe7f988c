//! The envelope: a sealed payload (the body) and the stanzas that open it.
//!
//! ```text
//! magic           [5]        "cosE" 0x01
//! body            bytes32    see `body`
//! stanzas         u8 n       1 to 8, then n times bytes16 (see `stanza`), whose digests are those of the body
//! ```

use crate::types::{Digest, KeyId, Random, Secret};

use super::body::{Body, MAX_BODY_BYTES, MAX_STANZAS, OpenError, SealError};
use super::header::Header;
use super::payload::Dek;
use super::sealing_key::{SealingKeyPair, SealingPublicKey};
use super::signature::Signature;
use super::stanza::{MAX_STANZA_BYTES, Recipient, Stanza};
use super::wire::{Decoder, Encoder, FormatError};

/// A sealed package or read with the stanzas that open it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    pub(super) body: Body,
    pub(super) stanzas: Vec<Stanza>,
}

/// An envelope that still needs its depositor's signature.
pub struct Draft(Envelope);

impl Draft {
    /// Seals content under a new key, with a stanza for each recipient.
    pub fn seal(
        content: &[u8],
        header: Header,
        recipients: &[(Recipient, SealingPublicKey)],
        random: &dyn Random,
    ) -> Result<Self, SealError> {
        if !(1..=MAX_STANZAS).contains(&recipients.len()) {
            return Err(SealError::Recipients);
        }
        let (mut body, dek) = Body::seal(content, header, random)?;
        let digest = body.header.digest();
        let stanzas = recipients
            .iter()
            .map(|(recipient, key)| Stanza::seal(&dek, &digest, recipient, key, random))
            .collect::<Result<Vec<_>, _>>()?;
        body.stanza_digests = stanzas.iter().map(Stanza::digest).collect();
        Ok(Self(Envelope { body, stanzas }))
    }

    /// Has the depositor sign it: `sign` gets the bytes to sign.
    pub fn sign<E>(
        mut self,
        sign: impl FnOnce(&[u8]) -> Result<Signature, E>,
    ) -> Result<Envelope, E> {
        self.0.body.signature = Some(sign(&self.0.body.signing_input())?);
        Ok(self.0)
    }
}

impl Envelope {
    /// The part that stays.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The stanzas, in the order of their digests.
    pub fn stanzas(&self) -> &[Stanza] {
        &self.stanzas
    }

    /// Body and stanzas apart.
    pub fn into_parts(self) -> (Body, Vec<Stanza>) {
        (self.body, self.stanzas)
    }

    /// The stanza that is sealed to this key.
    pub fn stanza_for(&self, key: KeyId) -> Option<&Stanza> {
        self.stanzas.iter().find(|stanza| stanza.key_id() == key)
    }

    /// Opens the stanza for this key and gives the key of the payload, checked against it.
    pub fn dek(&self, key: &SealingKeyPair) -> Result<Dek, OpenError> {
        let stanza = self.stanza_for(key.id()).ok_or(OpenError::NoStanza)?;
        let dek = stanza.open(&self.body.header.digest(), key)?;
        self.body.check(&dek)?;
        Ok(dek)
    }

    /// Opens the content with a recipient's key. The signature is the caller's to verify first.
    pub fn open(&self, key: &SealingKeyPair) -> Result<Secret, OpenError> {
        let stanza = self.stanza_for(key.id()).ok_or(OpenError::NoStanza)?;
        self.body.open_with(stanza, key)
    }

    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::with_magic(MAGIC)
            .bytes32(&self.body.encode())
            .count(self.stanzas.len())
            .each(&self.stanzas, |e, stanza| e.bytes16(&stanza.encode()))
            .finish()
    }

    /// Reads the one encoding, whose stanzas are those that the body names.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, MAGIC)?;
        let body = Body::decode(fields.bytes32("body", MAX_BODY_BYTES)?)?;
        let stanzas = fields.list("stanzas", MAX_STANZAS, |f| {
            Stanza::decode(f.bytes16("stanzas", MAX_STANZA_BYTES)?)
        })?;
        fields.finish()?;
        let named = body.stanza_digests.iter().copied();
        if stanzas.is_empty() || !named.eq(stanzas.iter().map(Stanza::digest)) {
            return Err(FormatError::StanzaMismatch);
        }
        Ok(Self { body, stanzas })
    }

    /// SHA-256 of the encoding.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

const MAGIC: &[u8] = b"cosE\x01";
