//! Protection of messages with AES-GCM, as DLMS does it, and the proof that HLS mechanism 5 exchanges.
//!
//! ```text
//! protected = SC | IC u32 | body          nonce = system title (8) | IC (4)
//! SC        = suite | 10 authenticated | 20 encrypted | 40 broadcast | 80 compressed
//! both          body = ciphertext | tag (12)    additional data = SC | GAK
//! authenticated body = plain | tag              additional data = SC | GAK | plain
//! encrypted     body = ciphertext
//! ```

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::cipher::consts::U12;
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{AesGcm, Nonce, Tag};

use super::reader::Reader;
use super::{Malformed, SystemTitle};
use crate::types::Secret;

/// The two keys that protect messages to and from one meter.
#[derive(Clone, Copy)]
pub struct CipherKeys<'a> {
    /// Encrypts.
    pub guek: &'a Secret,
    /// Is authenticated with each message.
    pub gak: &'a Secret,
}

/// What a message is sent under: never twice the same with one key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Invocation {
    /// Who sends.
    pub title: SystemTitle,
    /// The sender's counter.
    pub counter: u32,
}

impl Invocation {
    fn nonce(self) -> Nonce<U12> {
        let mut nonce = Nonce::<U12>::default();
        nonce[..8].copy_from_slice(&self.title.0);
        nonce[8..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }
}

/// The security control byte and counter in front of a protected message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SecurityHeader {
    /// The security control byte.
    pub control: u8,
    /// The sender's counter.
    pub counter: u32,
}

impl SecurityHeader {
    /// Splits a protected message into its header and its body.
    pub fn split(protected: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(protected);
        let header = Self {
            control: reader.u8()?,
            counter: reader.u32()?,
        };
        Ok((header, reader.rest()))
    }
}

/// Protects `plain` as `control` says: header and body.
pub fn protect(
    control: u8,
    keys: CipherKeys<'_>,
    invocation: Invocation,
    plain: &[u8],
) -> Result<Vec<u8>, CipherError> {
    let mut body = plain.to_vec();
    let sealed = additional_data(control, keys.gak, plain);
    if control & ENCRYPTED != 0 {
        let tag = seal(keys.guek, invocation, &sealed, &mut body)?;
        if control & AUTHENTICATED != 0 {
            body.extend_from_slice(&tag);
        }
    } else if control & AUTHENTICATED != 0 {
        body.extend_from_slice(&seal(keys.guek, invocation, &sealed, &mut [])?);
    }
    let mut out = vec![control];
    out.extend_from_slice(&invocation.counter.to_be_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

/// Opens the body of a message that is authenticated and encrypted; nothing weaker opens.
pub fn open(
    header: SecurityHeader,
    keys: CipherKeys<'_>,
    title: SystemTitle,
    body: &[u8],
) -> Result<Vec<u8>, CipherError> {
    if header.control & (AUTHENTICATED | ENCRYPTED) != AUTHENTICATED | ENCRYPTED {
        return Err(CipherError::Underprotected);
    }
    let (ciphertext, tag) = body
        .split_last_chunk::<TAG_BYTES>()
        .ok_or(CipherError::Tag)?;
    let mut plain = ciphertext.to_vec();
    let sealed = additional_data(header.control, keys.gak, &[]);
    let nonce = Invocation {
        title,
        counter: header.counter,
    }
    .nonce();
    let tag = Tag::<U12>::from(*tag);
    let opened = match keys.guek.expose().len() {
        16 => cipher::<Gcm128>(keys.guek)?.decrypt_inout_detached(
            &nonce,
            &sealed,
            plain.as_mut_slice().into(),
            &tag,
        ),
        _ => cipher::<Gcm256>(keys.guek)?.decrypt_inout_detached(
            &nonce,
            &sealed,
            plain.as_mut_slice().into(),
            &tag,
        ),
    };
    opened.map(|()| plain).map_err(|_| CipherError::Tag)
}

/// The proof that the sender of `invocation` knows both keys: a tag over the peer's challenge.
pub fn gmac(
    control: u8,
    keys: CipherKeys<'_>,
    invocation: Invocation,
    challenge: &[u8],
) -> Result<[u8; TAG_BYTES], CipherError> {
    let sealed = [&[control], keys.gak.expose(), challenge].concat();
    seal(keys.guek, invocation, &sealed, &mut [])
}

fn additional_data(control: u8, gak: &Secret, plain: &[u8]) -> Vec<u8> {
    match control & (AUTHENTICATED | ENCRYPTED) {
        ENCRYPTED => Vec::new(),
        AUTHENTICATED => [&[control], gak.expose(), plain].concat(),
        _ => [&[control], gak.expose()].concat(),
    }
}

fn seal(
    key: &Secret,
    invocation: Invocation,
    sealed: &[u8],
    buffer: &mut [u8],
) -> Result<[u8; TAG_BYTES], CipherError> {
    let nonce = invocation.nonce();
    let tag = match key.expose().len() {
        16 => cipher::<Gcm128>(key)?.encrypt_inout_detached(&nonce, sealed, buffer.into()),
        _ => cipher::<Gcm256>(key)?.encrypt_inout_detached(&nonce, sealed, buffer.into()),
    };
    tag.map(Into::into).map_err(|_| CipherError::KeyLength)
}

fn cipher<C: KeyInit>(key: &Secret) -> Result<C, CipherError> {
    C::new_from_slice(key.expose()).map_err(|_| CipherError::KeyLength)
}

/// A message cannot be protected or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CipherError {
    /// Neither 16 nor 32 bytes.
    #[error("the key has an impossible length")]
    KeyLength,
    /// Not both authenticated and encrypted.
    #[error("the message is not protected enough")]
    Underprotected,
    /// Another key, another sender, or damage.
    #[error("the authentication tag does not hold")]
    Tag,
}

type Gcm128 = AesGcm<Aes128, U12, U12>;
type Gcm256 = AesGcm<Aes256, U12, U12>;

/// The bit of the security control byte that says: authenticated.
pub const AUTHENTICATED: u8 = 0x10;
/// The bit of the security control byte that says: encrypted.
pub const ENCRYPTED: u8 = 0x20;
/// DLMS keeps 12 of the 16 bytes of a tag.
pub const TAG_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: usize) -> [Secret; 2] {
        [1, 2].map(|byte| Secret::new(vec![byte; bytes]))
    }

    #[test]
    fn a_message_opens_with_the_same_keys_title_and_counter_only() {
        for (suite, bytes) in [(0, 16), (2, 32)] {
            let [guek, gak] = keys(bytes);
            let keys = CipherKeys {
                guek: &guek,
                gak: &gak,
            };
            let title = SystemTitle(*b"COS00001");
            let invocation = Invocation { title, counter: 7 };
            let message = protect(0x30 | suite, keys, invocation, b"plain").unwrap();
            let (header, body) = SecurityHeader::split(&message).unwrap();
            assert_eq!(open(header, keys, title, body).unwrap(), b"plain");
            let swapped = CipherKeys {
                guek: &gak,
                gak: &guek,
            };
            assert_eq!(open(header, swapped, title, body), Err(CipherError::Tag));
            let other = SystemTitle(*b"COS00002");
            assert_eq!(open(header, keys, other, body), Err(CipherError::Tag));
            let later = SecurityHeader {
                counter: 8,
                ..header
            };
            assert_eq!(open(later, keys, title, body), Err(CipherError::Tag));
        }
    }

    #[test]
    fn nothing_weaker_than_both_opens() {
        let [guek, gak] = keys(16);
        let keys = CipherKeys {
            guek: &guek,
            gak: &gak,
        };
        let title = SystemTitle(*b"COS00001");
        for control in [0x00, 0x10, 0x20] {
            let invocation = Invocation { title, counter: 1 };
            let message = protect(control, keys, invocation, b"plain").unwrap();
            let (header, body) = SecurityHeader::split(&message).unwrap();
            assert_eq!(
                open(header, keys, title, body),
                Err(CipherError::Underprotected)
            );
        }
    }
}
