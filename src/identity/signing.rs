//! Signatures by signing leaves.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::anchors::{Anchors, IdentityError, Leaf};
use super::certificate::Certificate;
use super::name::Identity;
use super::profile::SIGNING;
use super::rules::Violation;
use crate::types::{Secret, Timestamp};

/// A signing leaf with its private key.
pub struct SigningIdentity {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: EcdsaKeyPair,
}

impl SigningIdentity {
    /// Takes a chain, leaf first, and the PKCS#8 key of its leaf.
    pub fn new(chain: Vec<CertificateDer<'static>>, pkcs8: &Secret) -> Result<Self, IdentityError> {
        let out_of_profile = |rule| IdentityError::profile(&SIGNING, rule);
        let leaf = chain
            .first()
            .ok_or(out_of_profile(Violation::ChainLength))?;
        let leaf = Certificate::read(leaf, &SIGNING).map_err(out_of_profile)?;
        let identity = leaf.identity.ok_or(out_of_profile(Violation::Uri))?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            pkcs8.expose(),
            &SystemRandom::new(),
        )
        .ok()
        .filter(|key| key.public_key().as_ref() == leaf.public_key)
        .ok_or(IdentityError::WrongKey)?;
        Ok(Self {
            identity,
            chain,
            key,
        })
    }

    /// In whose name it signs.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The chain that goes with each signature, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Signs by ECDSA on P-256 with SHA-256; the signature in DER. Two signatures over one message differ.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key
            .sign(&SystemRandom::new(), message)
            .expect("the operating system's generator does not fail once it has started")
            .as_ref()
            .to_vec()
    }
}

/// When a signature was made, as far as its verifier knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    /// Perhaps just now: a leaf that has ended or is on a list cannot have made it.
    By(Timestamp),
    /// Before the log recorded it at this time: what ended or was revoked later was good for it.
    Logged(Timestamp),
}

/// Verifies that the leaf of `chain` signed `message` and was entitled to when it was made.
pub fn verify_signature(
    chain: &[CertificateDer<'_>],
    message: &[u8],
    signature: &[u8],
    anchors: &Anchors,
    made: Made,
) -> Result<Leaf, IdentityError> {
    let verified = match made {
        Made::By(now) => anchors.verify_signer(chain, now),
        Made::Logged(at) => anchors.verify_signer_at(chain, at),
    }?;
    let leaf = chain.first().ok_or(IdentityError::Untrusted)?;
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| leaf.verify_signature(webpki::ring::ECDSA_P256_SHA256, message, signature))
        .map_err(|_| IdentityError::Signature)?;
    Ok(verified)
}
