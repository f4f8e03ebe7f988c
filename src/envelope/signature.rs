//! A signature with the certificate chain that it verifies under, so that it can be checked offline years later.
//!
//! ```text
//! chain       u8 n       1 to 4 certificates, then n times bytes16: DER, leaf first, without the root
//! signature   bytes16    ECDSA P-256 with SHA-256, DER (`SEQUENCE { r, s }`), at most 128 bytes
//! ```
//! This module neither makes nor checks signatures: callers bring a closure for either, which knows certificates.

use crate::types::PartyId;

use super::wire::{Decoder, Encoder, FormatError};

/// The certificates of a signer: DER, leaf first, without the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignerChain(Vec<Vec<u8>>);

impl SignerChain {
    /// The chain of these certificates: 1 to 4 of at most 4 KiB each.
    pub fn from_der(certificates: Vec<Vec<u8>>) -> Result<Self, FormatError> {
        let fits = |der: &Vec<u8>| (1..=MAX_CERTIFICATE_BYTES).contains(&der.len());
        let valid = (1..=MAX_CERTIFICATES).contains(&certificates.len());
        if !valid || !certificates.iter().all(fits) {
            return Err(FormatError::Field("chain"));
        }
        Ok(Self(certificates))
    }

    /// The certificate of the signer itself.
    pub fn leaf(&self) -> &[u8] {
        &self.0[0]
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.0
    }
}

/// A signature and the chain of its signer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    chain: SignerChain,
    bytes: Vec<u8>,
}

impl Signature {
    /// A signature as the signer made it: 1 to 128 bytes.
    pub fn from_parts(chain: SignerChain, bytes: Vec<u8>) -> Result<Self, FormatError> {
        if !(1..=MAX_SIGNATURE_BYTES).contains(&bytes.len()) {
            return Err(FormatError::Field("signature"));
        }
        Ok(Self { chain, bytes })
    }

    /// Whose signature it is said to be.
    pub fn chain(&self) -> &SignerChain {
        &self.chain
    }

    /// The signature itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn encode(&self, encoder: Encoder) -> Encoder {
        let chain = &self.chain.0;
        encoder
            .count(chain.len())
            .each(chain, |e, der| e.bytes16(der))
            .bytes16(&self.bytes)
    }

    pub(super) fn decode(fields: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let chain = fields.list("chain", MAX_CERTIFICATES, |f| {
            f.bytes16("chain", MAX_CERTIFICATE_BYTES)
                .map(<[u8]>::to_vec)
        })?;
        let bytes = fields.bytes16("signature", MAX_SIGNATURE_BYTES)?;
        Self::from_parts(SignerChain::from_der(chain)?, bytes.to_vec())
    }
}

/// Why a signature does not hold. `E` is the verifier's own reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError<E> {
    /// There is no signature.
    #[error("there is no signature")]
    Unsigned,
    /// The verifier refuses chain or signature.
    #[error("the signature does not verify: {0}")]
    Refused(E),
    /// It is good, but of a party that the signed content does not name.
    #[error("the signer is not the party that is named")]
    OtherParty(PartyId),
}

const MAX_CERTIFICATES: usize = 4;
const MAX_CERTIFICATE_BYTES: usize = 4096;
const MAX_SIGNATURE_BYTES: usize = 128;
