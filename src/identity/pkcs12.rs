//! PKCS#12 files, which browsers import: one key with its chain under a password. Written only, never read.
//!
//! ```text
//! PFX                                       RFC 7292 section 4
//!   ├─ encryptedData: the chain             PBES2: PBKDF2-HMAC-SHA256, AES-256-CBC (RFC 8018)
//!   ├─ data: the key, shrouded              PBES2 again, under a salt of its own
//!   └─ macData                              HMAC-SHA256, key by RFC 7292 appendix B
//! ```

use std::num::NonZeroU32;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use ring::{digest, hmac, pbkdf2};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::types::{Digest, Random, Secret};

/// Packs a chain, leaf first, and the PKCS#8 key of its leaf. The password is printable ASCII, as readers disagree
/// about the encoding of everything else.
pub fn encode(
    chain: &[CertificateDer<'_>],
    pkcs8: &Secret,
    password: &Secret,
    random: &dyn Random,
) -> Result<Secret, Pkcs12Error> {
    let leaf = chain.first().ok_or(Pkcs12Error::NoCertificate)?;
    let text = password.expose();
    if text.is_empty() || !text.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return Err(Pkcs12Error::Password);
    }
    let link = local_key_id(leaf);
    let certificates = chain.iter().enumerate().map(|(n, der)| {
        let bag = sequence(&[&oid(X509_CERTIFICATE), &explicit(&octets(der))]);
        safe_bag(CERT_BAG, &bag, if n == 0 { &link } else { &[] })
    });
    let certificates = tlv(SEQUENCE, &certificates.collect::<Vec<_>>().concat());
    let (algorithm, ciphertext) = encrypt(&certificates, password, random);
    let encrypted_content = sequence(&[&oid(DATA), &algorithm, &tlv(CONTEXT_0, &ciphertext)]);
    let encrypted_data = sequence(&[&integer(0), &encrypted_content]);

    let (algorithm, ciphertext) = encrypt(pkcs8.expose(), password, random);
    let shrouded = sequence(&[&algorithm, &octets(&ciphertext)]);
    let keys = sequence(&[&safe_bag(SHROUDED_KEY_BAG, &shrouded, &link)]);

    let safe = sequence(&[
        &sequence(&[&oid(ENCRYPTED_DATA), &explicit(&encrypted_data)]),
        &data(&keys),
    ]);
    let mac = mac_data(&safe, password, random);
    Ok(Secret::new(sequence(&[&integer(3), &data(&safe), &mac])))
}

/// PBES2: the algorithm identifier with fresh salt and IV, and the ciphertext.
fn encrypt(plain: &[u8], password: &Secret, random: &dyn Random) -> (Vec<u8>, Vec<u8>) {
    let (mut salt, mut iv) = ([0; 16], [0; BLOCK]);
    random.fill(&mut salt);
    random.fill(&mut iv);
    let mut key = Zeroizing::new([0; 32]);
    let password = password.expose();
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ITERATIONS,
        &salt,
        password,
        &mut key[..],
    );
    let prf = sequence(&[&oid(HMAC_SHA256), &NULL]);
    let derivation = sequence(&[&octets(&salt), &integer(ITERATIONS.get()), &prf]);
    let parameters = sequence(&[
        &sequence(&[&oid(PBKDF2), &derivation]),
        &sequence(&[&oid(AES_256_CBC), &octets(&iv)]),
    ]);
    (sequence(&[&oid(PBES2), &parameters]), cbc(&key, iv, plain))
}

/// AES-256-CBC with the padding of RFC 5652 section 6.3.
fn cbc(key: &[u8; 32], iv: [u8; BLOCK], plain: &[u8]) -> Vec<u8> {
    let cipher = Aes256::new(&Array::from(*key));
    let padding = BLOCK - plain.len() % BLOCK;
    let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + padding));
    text.extend_from_slice(plain);
    text.resize(
        plain.len() + padding,
        u8::try_from(padding).expect("at most a block"),
    );
    let mut previous = iv;
    let mut ciphertext = Vec::with_capacity(text.len());
    for block in text.chunks_exact(BLOCK) {
        let mut mixed = Array::from(previous);
        mixed
            .iter_mut()
            .zip(block)
            .for_each(|(mixed, byte)| *mixed ^= byte);
        cipher.encrypt_block(&mut mixed);
        previous = mixed.into();
        ciphertext.extend_from_slice(&previous);
    }
    ciphertext
}

fn mac_data(content: &[u8], password: &Secret, random: &dyn Random) -> Vec<u8> {
    let mut salt = [0; 16];
    random.fill(&mut salt);
    let key = mac_key(password, &salt);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key[..]);
    let tag = hmac::sign(&key, content);
    let algorithm = sequence(&[&oid(SHA256), &NULL]);
    let digest_info = sequence(&[&algorithm, &octets(tag.as_ref())]);
    sequence(&[&digest_info, &octets(&salt), &integer(ITERATIONS.get())])
}

/// RFC 7292 appendix B.2 for purpose 3 and 32 bytes, which are one output of SHA-256.
fn mac_key(password: &Secret, salt: &[u8]) -> Zeroizing<[u8; 32]> {
    // A BMPString with its terminator: for ASCII a zero before each character.
    let mut wide = Zeroizing::new(Vec::with_capacity(2 * password.expose().len() + 2));
    for byte in password.expose().iter().chain(&[0]) {
        wide.extend_from_slice(&[0, *byte]);
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[MAC_PURPOSE; HASH_BLOCK]);
    context.update(&repeated(salt));
    context.update(&repeated(&wide));
    let mut hash = Zeroizing::new([0; 32]);
    hash.copy_from_slice(context.finish().as_ref());
    for _ in 1..ITERATIONS.get() {
        let next = digest::digest(&digest::SHA256, &hash[..]);
        hash.copy_from_slice(next.as_ref());
    }
    hash
}

/// Repeated until whole blocks of the hash are full.
fn repeated(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = bytes.len().next_multiple_of(HASH_BLOCK);
    Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
}

/// Tells readers which certificate the key belongs to.
fn local_key_id(leaf: &CertificateDer<'_>) -> Vec<u8> {
    let id = octets(&Digest::of(leaf).as_bytes()[..20]);
    let attribute = sequence(&[&oid(LOCAL_KEY_ID), &tlv(SET, &id)]);
    tlv(SET, &attribute)
}

fn safe_bag(kind: &[u8], value: &[u8], attributes: &[u8]) -> Vec<u8> {
    sequence(&[&oid(kind), &explicit(value), attributes])
}

fn data(content: &[u8]) -> Vec<u8> {
    sequence(&[&oid(DATA), &explicit(&octets(content))])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

fn octets(content: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, content)
}

fn oid(content: &[u8]) -> Vec<u8> {
    tlv(OBJECT_IDENTIFIER, content)
}

fn explicit(content: &[u8]) -> Vec<u8> {
    tlv(CONTEXT_0 | CONSTRUCTED, content)
}

fn integer(value: u32) -> Vec<u8> {
    // A leading zero keeps the number positive; DER wants no more than that one.
    let bytes = [&[0][..], &value.to_be_bytes()].concat();
    let spare = bytes
        .windows(2)
        .take_while(|pair| pair[0] == 0 && pair[1] < 0x80);
    tlv(INTEGER, &bytes[spare.count()..])
}

/// One DER value.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let first = length.iter().position(|b| *b != 0).unwrap_or(length.len());
            let count = u8::try_from(length.len() - first).expect("a length has at most 8 bytes");
            der.push(0x80 | count);
            der.extend_from_slice(&length[first..]);
        }
    }
    der.extend_from_slice(content);
    der
}

/// Why no file can be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Pkcs12Error {
    /// The chain is empty.
    #[error("there is no certificate to pack")]
    NoCertificate,
    /// Readers would disagree about its bytes.
    #[error("the password is not printable ASCII")]
    Password,
}

/// A hundred times what other tools write; the file is opened once, by an import.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(200_000).expect("not zero");
const BLOCK: usize = 16;
const HASH_BLOCK: usize = 64;
const MAC_PURPOSE: u8 = 3;

pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;
const NULL: [u8; 2] = [0x05, 0x00];

// 1.2.840.113549.1.7.1 and .6
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
// 1.2.840.113549.1.12.10.1.2 and .3
const SHROUDED_KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
// 1.2.840.113549.1.9.21 and .22.1
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
// 1.2.840.113549.1.5.12 and .13
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
// 1.2.840.113549.2.9
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
// 2.16.840.1.101.3.4.1.42 and .2.1
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
