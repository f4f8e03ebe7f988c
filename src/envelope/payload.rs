//! The payload: content encrypted under a key of its own, with a commitment to that key.
//!
//! ```text
//! PRK         = HKDF-Extract(salt = "cos-escrow/payload/1", DEK)             SHA-256
//! key         = HKDF-Expand(PRK, "cos-escrow/payload/key/1" ‖ H(header), 32)
//! commitment  = HKDF-Expand(PRK, "cos-escrow/payload/commitment/1" ‖ H(header), 32)
//! ciphertext  = AES-256-GCM(key, nonce = 12 zero bytes, AAD = header, content) ‖ tag of 16 bytes
//! ```
//! The nonce may be fixed because a DEK is random and seals one content under one header. AES-GCM alone does not commit
//! to its key: one ciphertext can be made that opens differently under two keys. The commitment, which the depositor
//! signs, rules that out; it is compared in constant time before anything is decrypted.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use ring::hkdf;
use zeroize::{Zeroize as _, Zeroizing};

use crate::types::{Digest, Random, Secret};

/// A data-encryption key: 32 random bytes that seal one envelope.
pub struct Dek(Zeroizing<[u8; 32]>);

impl Dek {
    /// A new key.
    pub fn random(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(&mut *bytes);
        Self(bytes)
    }

    /// The key with these bytes, exactly 32.
    pub fn from_secret(secret: &Secret) -> Result<Self, PayloadError> {
        let mut bytes = Zeroizing::new([0; 32]);
        if secret.expose().len() != bytes.len() {
            return Err(PayloadError::Key);
        }
        bytes.copy_from_slice(secret.expose());
        Ok(Self(bytes))
    }

    /// The bytes. Every call is a place to look at in a review.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why content does not come out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// The key is not 32 bytes.
    #[error("the key of an envelope has 32 bytes")]
    Key,
    /// The key is not the one that the depositor committed to.
    #[error("the key is not the one that the envelope commits to")]
    Commitment,
    /// Header or ciphertext were changed.
    #[error("the payload does not authenticate")]
    Tag,
}

/// Encrypts the content and commits to the key.
pub(super) fn seal(dek: &Dek, header: &[u8], content: &[u8]) -> (Digest, Vec<u8>) {
    let keys = Keys::derive(dek, header);
    let ciphertext = encrypt(&keys.key, &[0; 12], header, content);
    (keys.commitment, ciphertext)
}

/// Checks the commitment, then decrypts.
pub(super) fn open(
    dek: &Dek,
    header: &[u8],
    commitment: &Digest,
    ciphertext: &[u8],
) -> Result<Secret, PayloadError> {
    let keys = Keys::derive(dek, header);
    if !equal_in_constant_time(keys.commitment.as_bytes(), commitment.as_bytes()) {
        return Err(PayloadError::Commitment);
    }
    decrypt(&keys.key, &[0; 12], header, ciphertext).ok_or(PayloadError::Tag)
}

struct Keys {
    key: Zeroizing<[u8; 32]>,
    commitment: Digest,
}

impl Keys {
    fn derive(dek: &Dek, header: &[u8]) -> Self {
        let digest = Digest::of(header);
        let derive = |label: &[u8]| hkdf_sha256(SALT, dek.expose(), &[label, digest.as_bytes()]);
        Self {
            key: derive(b"cos-escrow/payload/key/1"),
            commitment: Digest(*derive(b"cos-escrow/payload/commitment/1")),
        }
    }
}

/// 32 bytes of HKDF-SHA256; the pieces of `info` are concatenated.
pub(super) fn hkdf_sha256(salt: &[u8], key: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key)
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *derived))
        .expect("one block is within the limit of HKDF");
    derived
}

/// AES-256-GCM with the tag at the end.
pub(super) fn encrypt(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], content: &[u8]) -> Vec<u8> {
    // The capacity spares a reallocation, which would leave a copy of the content in freed memory.
    let mut buffer = Vec::with_capacity(content.len() + TAG_BYTES);
    buffer.extend_from_slice(content);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&Nonce::from(*nonce), aad, buffer.as_mut_slice().into())
        .expect("contents are far below the limit of AES-GCM");
    buffer.extend_from_slice(&tag);
    buffer
}

/// What `encrypt` encrypted, or nothing if any input differs.
pub(super) fn decrypt(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext: &[u8],
) -> Option<Secret> {
    let (body, tag) = ciphertext.split_last_chunk::<TAG_BYTES>()?;
    let mut buffer = body.to_vec();
    let opened = Aes256Gcm::new(key.into()).decrypt_inout_detached(
        &Nonce::from(*nonce),
        aad,
        buffer.as_mut_slice().into(),
        &Tag::from(*tag),
    );
    if opened.is_err() {
        buffer.zeroize();
        return None;
    }
    Some(Secret::new(buffer))
}

/// Compares secrets without telling by its duration where they differ.
pub(super) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    // ring offers its constant-time comparison only as the check of a MAC, so both sides are first turned into one.
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SALT);
    ring::hmac::verify(&key, b, ring::hmac::sign(&key, a).as_ref()).is_ok()
}

/// The length of the tag at the end of a ciphertext.
pub(super) const TAG_BYTES: usize = 16;
const SALT: &[u8] = b"cos-escrow/payload/1";
