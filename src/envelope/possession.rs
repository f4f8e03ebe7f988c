//! Proof that the sender of a public sealing key has the private one.
//!
//! The service seals a random nonce to the key; only the holder can return it.
//!
//! ```text
//! magic       [5]       "cosP" 0x01
//! kem         u16       see `sealing_key`
//! enc         bytes16   encapsulated key
//! ciphertext  [48]      HPKE SealBase of the 32 bytes of the nonce, with empty AAD and
//!                       info = text8 "cos-escrow/possession/1" ‖ key id [32]
//! ```
//! The service keeps SHA-256 of the nonce and compares it with that of the answer.

use crate::types::{Digest, KeyId, Random};

use super::kem::Kem;
use super::payload::{TAG_BYTES, equal_in_constant_time};
use super::sealing_key::{Purpose, Sealed, SealingKeyError, SealingKeyPair, SealingPublicKey};
use super::wire::{Decoder, Encoder, FormatError};

/// Makes a challenge: the bytes to send, and what to keep.
pub fn challenge(
    key: &SealingPublicKey,
    random: &dyn Random,
) -> Result<(Vec<u8>, Digest), SealingKeyError> {
    let mut nonce = [0; 32];
    random.fill(&mut nonce);
    let info = info(&key.id());
    let purpose = Purpose {
        info: &info,
        aad: b"",
    };
    let sealed = key.seal(&purpose, &nonce, random)?;
    let wire = Encoder::with_magic(MAGIC)
        .u16(key.kem().id())
        .bytes16(&sealed.enc)
        .raw(&sealed.ciphertext)
        .finish();
    Ok((wire, Digest::of(&nonce)))
}

/// Opens a challenge: the nonce to send back.
pub fn answer(key: &SealingKeyPair, wire: &[u8]) -> Result<[u8; 32], SealingKeyError> {
    let (kem, sealed) = decode(wire).map_err(|_| SealingKeyError::DoesNotOpen)?;
    if kem != key.public().kem() {
        return Err(SealingKeyError::DoesNotOpen);
    }
    let info = info(&key.id());
    let purpose = Purpose {
        info: &info,
        aad: b"",
    };
    let nonce = key.open(&purpose, &sealed)?;
    nonce
        .expose()
        .try_into()
        .map_err(|_| SealingKeyError::DoesNotOpen)
}

/// Whether the nonce is the one that was asked for.
pub fn is_answer(expected: &Digest, nonce: &[u8]) -> bool {
    equal_in_constant_time(expected.as_bytes(), Digest::of(nonce).as_bytes())
}

fn decode(wire: &[u8]) -> Result<(Kem, Sealed), FormatError> {
    let mut fields = Decoder::after_magic(wire, MAGIC)?;
    let kem = Kem::of_id(fields.u16()?).ok_or(FormatError::UnknownSuite)?;
    let enc = fields.bytes16("enc", kem.enc_bytes())?.to_vec();
    let ciphertext = fields.take(NONCE_BYTES + TAG_BYTES)?.to_vec();
    fields.finish()?;
    Ok((kem, Sealed { enc, ciphertext }))
}

fn info(key: &KeyId) -> Vec<u8> {
    Encoder::default()
        .text8("cos-escrow/possession/1")
        .raw(key.0.as_bytes())
        .finish()
}

const NONCE_BYTES: usize = 32;
const MAGIC: &[u8] = b"cosP\x01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::Counter;

    #[test]
    fn only_the_holder_of_the_private_key_answers() {
        let random = Counter::seeded(1);
        for kem in Kem::ALL {
            let (own, other) = (
                SealingKeyPair::generate(kem, &random),
                SealingKeyPair::generate(kem, &random),
            );
            let (wire, expected) = challenge(own.public(), &random).unwrap();
            let nonce = answer(&own, &wire).unwrap();
            assert!(is_answer(&expected, &nonce), "{kem}");
            assert!(!is_answer(&expected, &[0; 32]), "{kem}");
            assert_eq!(answer(&other, &wire), Err(SealingKeyError::DoesNotOpen));
        }
    }

    #[test]
    fn a_changed_challenge_is_refused() {
        let random = Counter::seeded(2);
        let key = SealingKeyPair::generate(Kem::X25519, &random);
        let (wire, _) = challenge(key.public(), &random).unwrap();
        for at in 0..wire.len() {
            let mut changed = wire.clone();
            changed[at] ^= 1;
            assert!(answer(&key, &changed).is_err(), "{at}");
            assert!(answer(&key, &wire[..at]).is_err(), "{at}");
        }
    }
}
