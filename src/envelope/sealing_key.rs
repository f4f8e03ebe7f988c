//! Sealing keys: the key pairs that envelopes are sealed to, and HPKE (RFC 9180) with them.
//!
//! HPKE base mode with HKDF-SHA256 (0x0001) and AES-256-GCM (0x0002). Private keys, public keys and encapsulated keys
//! are the serialised forms of the KEM:
//!
//! ```text
//! KEM                             id      private  public  encapsulated
//! X-Wing (ML-KEM-768 + X25519)    0x647a       32    1216          1120   draft-connolly-cfrg-xwing-kem-10
//! DHKEM(X25519, HKDF-SHA256)      0x0020       32      32            32   RFC 9180
//! DHKEM(P-256, HKDF-SHA256)       0x0010       32      65            65   RFC 9180
//! ```
//! Auth mode is not used: X-Wing has none. Who sealed something is told by a signature beside it.

use std::convert::Infallible;
use std::fmt;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem as HpkeKem, OpModeR, OpModeS, Serializable as _};

use crate::types::{KeyId, Random, Secret};

use super::kem::Kem;

/// Why a key cannot be used, or something sealed to it not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealingKeyError {
    /// The bytes are not a private key of this KEM.
    #[error("the bytes are not a private sealing key of this KEM")]
    PrivateKey,
    /// The bytes are not a public key of this KEM.
    #[error("the bytes are not a public sealing key of this KEM")]
    PublicKey,
    /// Something was sealed to another key, for another purpose, or was changed.
    #[error("it does not open with this sealing key")]
    DoesNotOpen,
}

/// The public half of a sealing key.
#[derive(Clone, Eq, PartialEq)]
pub struct SealingPublicKey {
    kem: Kem,
    bytes: Vec<u8>,
}

impl SealingPublicKey {
    /// The key with these bytes, if they are one.
    pub fn from_bytes(kem: Kem, bytes: &[u8]) -> Result<Self, SealingKeyError> {
        let valid = match kem {
            Kem::XWing => is_public_key::<XWing>(bytes),
            Kem::X25519 => is_public_key::<X25519HkdfSha256>(bytes),
            Kem::P256 => is_public_key::<DhP256HkdfSha256>(bytes),
        };
        let bytes = bytes.to_vec();
        valid
            .then_some(Self { kem, bytes })
            .ok_or(SealingKeyError::PublicKey)
    }

    /// How keys are encapsulated to it.
    pub fn kem(&self) -> Kem {
        self.kem
    }

    /// The serialised key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.bytes)
    }

    /// HPKE `SealBase`: the encapsulated key and the ciphertext.
    pub(super) fn seal(
        &self,
        purpose: &Purpose<'_>,
        content: &[u8],
        random: &dyn Random,
    ) -> Result<Sealed, SealingKeyError> {
        match self.kem {
            Kem::XWing => seal::<XWing>(&self.bytes, purpose, content, random),
            Kem::X25519 => seal::<X25519HkdfSha256>(&self.bytes, purpose, content, random),
            Kem::P256 => seal::<DhP256HkdfSha256>(&self.bytes, purpose, content, random),
        }
    }
}

impl fmt::Debug for SealingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingPublicKey({} {})", self.kem, self.id())
    }
}

/// A sealing key: opens what was sealed to its public half. Zeroized when dropped.
pub struct SealingKeyPair {
    private: Private,
    public: SealingPublicKey,
}

/// The parsed keys, so that opening does not derive them from bytes each time.
enum Private {
    // Boxed, for it holds its public key as well.
    XWing(Box<<XWing as HpkeKem>::PrivateKey>),
    X25519(<X25519HkdfSha256 as HpkeKem>::PrivateKey),
    P256(<DhP256HkdfSha256 as HpkeKem>::PrivateKey),
}

impl SealingKeyPair {
    /// A new key.
    pub fn generate(kem: Kem, random: &dyn Random) -> Self {
        let mut random = Adapter(random);
        let private = match kem {
            Kem::XWing => Private::XWing(Box::new(XWing::gen_keypair_with_rng(&mut random).0)),
            Kem::X25519 => Private::X25519(X25519HkdfSha256::gen_keypair_with_rng(&mut random).0),
            Kem::P256 => Private::P256(DhP256HkdfSha256::gen_keypair_with_rng(&mut random).0),
        };
        Self::from_private(private)
    }

    /// The key with these private bytes, if they are one.
    pub fn from_secret(kem: Kem, secret: &Secret) -> Result<Self, SealingKeyError> {
        let bytes = secret.expose();
        let private = match kem {
            Kem::XWing => private_key::<XWing>(bytes).map(|key| Private::XWing(Box::new(key))),
            Kem::X25519 => private_key::<X25519HkdfSha256>(bytes).map(Private::X25519),
            Kem::P256 => private_key::<DhP256HkdfSha256>(bytes).map(Private::P256),
        };
        private.map(Self::from_private)
    }

    /// The private bytes, to be kept in a safe place.
    pub fn to_secret(&self) -> Secret {
        match &self.private {
            Private::XWing(key) => Secret::take_from(&mut key.to_bytes()),
            Private::X25519(key) => Secret::take_from(&mut key.to_bytes()),
            Private::P256(key) => Secret::take_from(&mut key.to_bytes()),
        }
    }

    /// The public half.
    pub fn public(&self) -> &SealingPublicKey {
        &self.public
    }

    /// The name of the key.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// HPKE `OpenBase`.
    pub(super) fn open(
        &self,
        purpose: &Purpose<'_>,
        sealed: &Sealed,
    ) -> Result<Secret, SealingKeyError> {
        match &self.private {
            Private::XWing(key) => open::<XWing>(key, purpose, sealed),
            Private::X25519(key) => open::<X25519HkdfSha256>(key, purpose, sealed),
            Private::P256(key) => open::<DhP256HkdfSha256>(key, purpose, sealed),
        }
    }

    fn from_private(private: Private) -> Self {
        let (kem, bytes) = match &private {
            Private::XWing(key) => (Kem::XWing, public_bytes::<XWing>(key)),
            Private::X25519(key) => (Kem::X25519, public_bytes::<X25519HkdfSha256>(key)),
            Private::P256(key) => (Kem::P256, public_bytes::<DhP256HkdfSha256>(key)),
        };
        Self {
            private,
            public: SealingPublicKey { kem, bytes },
        }
    }
}

/// What something is sealed for; it opens only for the same.
pub(super) struct Purpose<'a> {
    pub(super) info: &'a [u8],
    pub(super) aad: &'a [u8],
}

/// An encapsulated key and what was encrypted under it, tag at the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sealed {
    pub(super) enc: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

fn is_public_key<K: HpkeKem>(bytes: &[u8]) -> bool {
    K::PublicKey::from_bytes(bytes).is_ok()
}

fn private_key<K: HpkeKem>(bytes: &[u8]) -> Result<K::PrivateKey, SealingKeyError> {
    K::PrivateKey::from_bytes(bytes).map_err(|_| SealingKeyError::PrivateKey)
}

fn public_bytes<K: HpkeKem>(private: &K::PrivateKey) -> Vec<u8> {
    K::sk_to_pk(private).to_bytes().to_vec()
}

fn seal<K: HpkeKem>(
    public: &[u8],
    purpose: &Purpose<'_>,
    content: &[u8],
    random: &dyn Random,
) -> Result<Sealed, SealingKeyError> {
    let public = K::PublicKey::from_bytes(public).map_err(|_| SealingKeyError::PublicKey)?;
    let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, K>(
        &OpModeS::Base,
        &public,
        purpose.info,
        content,
        purpose.aad,
        &mut Adapter(random),
    )
    // A point of small order passes as an X25519 public key until it is used.
    .map_err(|_| SealingKeyError::PublicKey)?;
    Ok(Sealed {
        enc: enc.to_bytes().to_vec(),
        ciphertext,
    })
}

fn open<K: HpkeKem>(
    private: &K::PrivateKey,
    purpose: &Purpose<'_>,
    sealed: &Sealed,
) -> Result<Secret, SealingKeyError> {
    let enc = K::EncappedKey::from_bytes(&sealed.enc).map_err(|_| SealingKeyError::DoesNotOpen)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, K>(
        &OpModeR::Base,
        private,
        &enc,
        purpose.info,
        &sealed.ciphertext,
        purpose.aad,
    )
    .map(Secret::new)
    .map_err(|_| SealingKeyError::DoesNotOpen)
}

/// Our source of randomness in the shape that `hpke` takes.
struct Adapter<'a>(&'a dyn Random);

impl hpke::rand_core::TryRng for Adapter<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl hpke::rand_core::TryCryptoRng for Adapter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::{Counter, Vector};

    #[test]
    fn the_published_vectors_open() {
        for (kem, file) in [
            (Kem::X25519, "rfc9180-x25519.json"),
            (Kem::P256, "rfc9180-p256.json"),
        ] {
            let vector = Vector::read(file);
            let key = SealingKeyPair::from_secret(kem, &vector.secret("private")).unwrap();
            assert_eq!(key.public().as_bytes(), vector.bytes("public"), "{kem}");
            let sealed = Sealed {
                enc: vector.bytes("enc"),
                ciphertext: vector.bytes("ciphertext"),
            };
            let (info, aad) = (vector.bytes("info"), vector.bytes("aad"));
            let opened = key.open(
                &Purpose {
                    info: &info,
                    aad: &aad,
                },
                &sealed,
            );
            assert_eq!(opened.unwrap().expose(), vector.bytes("plaintext"), "{kem}");
            let other = key.open(
                &Purpose {
                    info: &info,
                    aad: b"",
                },
                &sealed,
            );
            assert_eq!(other.map(|_| ()), Err(SealingKeyError::DoesNotOpen));
        }
    }

    #[test]
    fn the_published_x_wing_vector_decapsulates() {
        let vector = Vector::read("hpke-pq-x-wing.json");
        let key = SealingKeyPair::from_secret(Kem::XWing, &vector.secret("private")).unwrap();
        assert_eq!(key.public().as_bytes(), vector.bytes("public"));
        let Private::XWing(private) = &key.private else {
            panic!("an X-Wing key was asked for");
        };
        let enc = <XWing as HpkeKem>::EncappedKey::from_bytes(&vector.bytes("enc")).unwrap();
        let shared = XWing::decap(private, None, &enc).unwrap();
        assert_eq!(shared.0.as_slice(), vector.bytes("shared_secret"));
    }

    #[test]
    fn a_key_is_the_same_after_it_was_stored() {
        for kem in Kem::ALL {
            let key = SealingKeyPair::generate(kem, &Counter::seeded(1));
            let stored = SealingKeyPair::from_secret(kem, &key.to_secret()).unwrap();
            assert_eq!(stored.public(), key.public());
            assert_eq!(key.public().as_bytes().len(), kem.public_bytes());
            let purpose = Purpose {
                info: b"i",
                aad: b"",
            };
            let sealed = key
                .public()
                .seal(&purpose, b"x", &Counter::seeded(2))
                .unwrap();
            assert_eq!(sealed.enc.len(), kem.enc_bytes());
            assert_eq!(stored.open(&purpose, &sealed).unwrap().expose(), b"x");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for kem in Kem::ALL {
            for bytes in [&[][..], &[1; 31], &[0xff; 65], &[0xff; 1216], &[4; 66]] {
                let public = SealingPublicKey::from_bytes(kem, bytes);
                assert_eq!(public, Err(SealingKeyError::PublicKey), "{kem}");
            }
            let short = SealingKeyPair::from_secret(kem, &Secret::new(vec![1; 31]));
            assert!(short.is_err(), "{kem}");
        }
        let zero = SealingKeyPair::from_secret(Kem::P256, &Secret::new(vec![0; 32]));
        assert!(zero.is_err());
    }

    #[test]
    fn a_point_of_small_order_is_not_sealed_to() {
        let zero = SealingPublicKey::from_bytes(Kem::X25519, &[0; 32]).unwrap();
        let purpose = Purpose {
            info: b"",
            aad: b"",
        };
        let sealed = zero.seal(&purpose, b"x", &Counter::seeded(1));
        assert_eq!(sealed, Err(SealingKeyError::PublicKey));
    }
}
