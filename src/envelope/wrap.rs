//! Keys and records at rest: everything that the service keeps is encrypted for one place only.
//!
//! ```text
//! context     text8 label, then for each piece: text8 name ‖ bytes32 value
//! key         HKDF-SHA256(salt = "cos-escrow/at-rest/1", KEK, info = context), 32 bytes
//! sealed      u8 1 ‖ [12] random nonce ‖ AES-256-GCM(key, nonce, AAD = context, content) ‖ tag of 16 bytes
//! ```
//! The context says where the record belongs, so that one moved to another row does not open. A wrapping key serves
//! one context, so that the limit of random nonces is out of reach however many records a KEK protects.

use zeroize::Zeroizing;

use crate::types::{Component, Digest, EnvelopeId, HandoverId, Random, Secret, SupplyPoint};

use super::payload::{Dek, decrypt, encrypt, hkdf_sha256};
use super::wire::Encoder;

/// A key that encrypts keys and records. Zeroized when dropped.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// A new key.
    pub fn random(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut *bytes);
        Self(bytes)
    }

    /// The key with these bytes, exactly 32.
    pub fn from_secret(secret: &Secret) -> Result<Self, WrapError> {
        let mut bytes = Zeroizing::new([0; 32]);
        if secret.expose().len() != bytes.len() {
            return Err(WrapError::Key);
        }
        bytes.copy_from_slice(secret.expose());
        Ok(Self(bytes))
    }

    /// The bytes. Every call is a place to look at in a review.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for what is stored beside the envelope of `dek` and must die with it: releases, stanzas.
    pub fn of_record(dek: &Dek) -> Self {
        Self(hkdf_sha256(RECORD_SALT, dek.expose(), &[]))
    }

    /// Encrypts content for one place.
    pub fn seal_at_rest(&self, context: &Context, content: &[u8], random: &dyn Random) -> Vec<u8> {
        let mut nonce = [0; 12];
        random.fill(&mut nonce);
        let ciphertext = encrypt(&self.key_for(context), &nonce, &context.0, content);
        [&[FORMAT], &nonce[..], &ciphertext].concat()
    }

    /// Decrypts what was encrypted for this place.
    pub fn open_at_rest(&self, context: &Context, sealed: &[u8]) -> Result<Secret, WrapError> {
        let (&[format], rest) = sealed.split_first_chunk().ok_or(WrapError::Format)?;
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(WrapError::Format)?;
        if format != FORMAT {
            return Err(WrapError::Format);
        }
        decrypt(&self.key_for(context), nonce, &context.0, ciphertext).ok_or(WrapError::DoesNotOpen)
    }

    /// Wraps the key of an envelope for its record.
    pub fn wrap_dek(&self, context: &WrapContext<'_>, dek: &Dek, random: &dyn Random) -> Vec<u8> {
        self.seal_at_rest(&context.to_context(), dek.expose(), random)
    }

    /// Unwraps the key of the record's envelope.
    pub fn unwrap_dek(&self, context: &WrapContext<'_>, wrapped: &[u8]) -> Result<Dek, WrapError> {
        let secret = self.open_at_rest(&context.to_context(), wrapped)?;
        Dek::from_secret(&secret).map_err(|_| WrapError::Key)
    }

    fn key_for(&self, context: &Context) -> Zeroizing<[u8; 32]> {
        hkdf_sha256(SALT, self.expose(), &[&context.0])
    }
}

/// Where something at rest belongs: a label and named pieces, in one encoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context(Vec<u8>);

impl Context {
    /// The context of one kind of record. The label is at most 255 bytes, as is the name of each piece.
    pub fn new(label: &'static str) -> Self {
        Self(Encoder::default().text8(label).finish())
    }

    /// Binds one more piece.
    #[must_use]
    pub fn with(self, name: &'static str, value: &[u8]) -> Self {
        let encoder = Encoder::with_magic(&self.0).text8(name).bytes32(value);
        Self(encoder.finish())
    }
}

/// What the wrapped key of an envelope is bound to: the columns of its record that no signature covers, and the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WrapContext<'a> {
    /// The KEK that wraps it.
    pub kek_id: &'a str,
    /// The envelope.
    pub envelope_id: EnvelopeId,
    /// `H(header)` of the envelope.
    pub header_digest: Digest,
    /// Where the meter is.
    pub supply_point: &'a SupplyPoint,
    /// Keys or read.
    pub component: Component,
    /// The number that the service gave it.
    pub generation: u32,
    /// The change of supplier that it was deposited for, if for one.
    pub handover: Option<HandoverId>,
}

impl WrapContext<'_> {
    fn to_context(self) -> Context {
        let context = Context::new("cos-escrow/dek/1")
            .with("kek", self.kek_id.as_bytes())
            .with("envelope", self.envelope_id.as_bytes())
            .with("header", self.header_digest.as_bytes())
            .with("supply_point", self.supply_point.as_str().as_bytes())
            .with("component", self.component.as_str().as_bytes())
            .with("generation", &self.generation.to_be_bytes());
        match self.handover {
            None => context,
            Some(handover) => context.with("handover", handover.as_bytes()),
        }
    }
}

/// Why something at rest does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WrapError {
    /// The key is not 32 bytes.
    #[error("a key has 32 bytes")]
    Key,
    /// The bytes are not of this format.
    #[error("this is not a record sealed by this version")]
    Format,
    /// It was sealed under another key or for another place, or was changed.
    #[error("it does not open here")]
    DoesNotOpen,
}

const FORMAT: u8 = 1;
const SALT: &[u8] = b"cos-escrow/at-rest/1";
const RECORD_SALT: &[u8] = b"cos-escrow/record/1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::{self, Counter};

    fn context(supply_point: &SupplyPoint) -> WrapContext<'_> {
        WrapContext {
            kek_id: "2026-w48",
            envelope_id: EnvelopeId([1; 16]),
            header_digest: Digest([2; 32]),
            supply_point,
            component: Component::Credentials,
            generation: 3,
            handover: Some(HandoverId([4; 16])),
        }
    }

    #[test]
    fn a_key_unwraps_only_in_its_own_record() {
        let (point, other) = (testing::header().supply_point, "1312345678907");
        let other: SupplyPoint = other.parse().unwrap();
        let random = Counter::seeded(1);
        let (kek, dek, here) = (Kek::random(&random), Dek::random(&random), context(&point));
        let wrapped = kek.wrap_dek(&here, &dek, &random);
        assert_eq!(
            kek.unwrap_dek(&here, &wrapped).map(|d| *d.expose()),
            Ok(*dek.expose())
        );
        let elsewhere = [
            WrapContext {
                kek_id: "2026-w49",
                ..here
            },
            WrapContext {
                envelope_id: EnvelopeId([9; 16]),
                ..here
            },
            WrapContext {
                header_digest: Digest([9; 32]),
                ..here
            },
            WrapContext {
                supply_point: &other,
                ..here
            },
            WrapContext {
                component: Component::Read,
                ..here
            },
            WrapContext {
                generation: 4,
                ..here
            },
            WrapContext {
                handover: Some(HandoverId([9; 16])),
                ..here
            },
            WrapContext {
                handover: None,
                ..here
            },
        ];
        for place in elsewhere {
            let opened = kek.unwrap_dek(&place, &wrapped).map(|_| ());
            assert_eq!(opened, Err(WrapError::DoesNotOpen), "{place:?}");
        }
    }

    #[test]
    fn a_changed_record_or_another_key_does_not_open() {
        let random = Counter::seeded(2);
        let kek = Kek::random(&random);
        let context = Context::new("test").with("row", b"1");
        let sealed = kek.seal_at_rest(&context, b"stored", &random);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(kek.open_at_rest(&context, &changed).is_err(), "{at}");
        }
        for length in 0..sealed.len() {
            assert!(kek.open_at_rest(&context, &sealed[..length]).is_err());
        }
        let other = Kek::random(&random);
        assert_eq!(
            other.open_at_rest(&context, &sealed).map(|_| ()),
            Err(WrapError::DoesNotOpen)
        );
        assert_eq!(
            kek.open_at_rest(&context, &sealed).unwrap().expose(),
            b"stored"
        );
    }

    #[test]
    fn contexts_with_pieces_moved_are_different() {
        let a = Context::new("t").with("ab", b"c");
        let b = Context::new("t").with("a", b"bc");
        let c = Context::new("t").with("ab", b"").with("c", b"");
        assert!(a != b && a != c && b != c);
    }

    #[test]
    fn the_same_content_is_sealed_differently_each_time() {
        let random = Counter::seeded(3);
        let (kek, context) = (Kek::random(&random), Context::new("test"));
        assert_ne!(
            kek.seal_at_rest(&context, b"same", &random),
            kek.seal_at_rest(&context, b"same", &random)
        );
    }
}
