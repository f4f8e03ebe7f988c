//! What the tests of this module share: randomness that repeats itself, a signer, an example.

use std::sync::Mutex;

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};

use super::{Header, Inventory, Signature, SignerChain};
use crate::types::{Component, Digest, EnvelopeId, PartyId, Random, Secret, Timestamp};

/// SHA-256 of a seed and a counter, block after block.
pub(super) struct Counter(Mutex<(u64, u64)>);

impl Counter {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(Mutex::new((seed, 0)))
    }
}

impl Random for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(32) {
            let pieces = [state.0.to_be_bytes(), state.1.to_be_bytes()].concat();
            state.1 += 1;
            chunk.copy_from_slice(&Digest::of(&pieces).as_bytes()[..chunk.len()]);
        }
    }
}

/// A party that signs. Its "certificate" is its name and its bare public key.
pub(super) struct Signer {
    party: &'static str,
    key: EcdsaKeyPair,
}

impl Signer {
    pub(super) fn of(party: &'static str) -> Self {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { party, key }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Signature, ()> {
        let random = ring::rand::SystemRandom::new();
        let signature = self.key.sign(&random, message).unwrap();
        let leaf = [self.party.as_bytes(), b" ", self.key.public_key().as_ref()].concat();
        let chain = SignerChain::from_der(vec![leaf]).unwrap();
        Ok(Signature::from_parts(chain, signature.as_ref().to_vec()).unwrap())
    }

    /// Trusts only this signer.
    pub(super) fn verify(
        &self,
        chain: &SignerChain,
        message: &[u8],
        signature: &[u8],
    ) -> Result<PartyId, &'static str> {
        let leaf = chain.leaf();
        let at = leaf.iter().position(|b| *b == b' ').ok_or("no name")?;
        let (party, key) = (&leaf[..at], &leaf[at + 1..]);
        if party != self.party.as_bytes() || key != self.key.public_key().as_ref() {
            return Err("not trusted");
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(message, signature)
            .map_err(|_| "bad signature")?;
        Ok(self.party.parse().unwrap())
    }
}

/// A header with every field set.
pub(super) fn header() -> Header {
    Header {
        envelope_id: EnvelopeId([7; 16]),
        component: Component::Credentials,
        created_at: Timestamp::from_millis(1_790_000_000_123),
        supply_point: "9693016118873".parse().unwrap(),
        meter_make: "EDMI Mk10A".parse().unwrap(),
        meter_serial: "E19B762798".parse().unwrap(),
        depositor: "loser".parse().unwrap(),
        supply_start: Some("2025-10-19".parse().unwrap()),
        read_commitment: Some(Digest([5; 32])),
        inventory: Inventory::from_names(["comms.address", "dlms.guek", "dlms.kek"]).unwrap(),
    }
}

/// A vector: a file of `tests/vectors/envelope`.
pub(super) struct Vector(serde_json::Value);

impl Vector {
    pub(super) fn read(name: &str) -> Self {
        let path = vector_path(name);
        let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(serde_json::from_slice(&json).unwrap())
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.0[field]
            .as_str()
            .unwrap_or_else(|| panic!("`{field}`"))
    }

    pub(super) fn bytes(&self, field: &str) -> Vec<u8> {
        from_hex(self.text(field))
    }

    pub(super) fn secret(&self, field: &str) -> Secret {
        Secret::new(self.bytes(field))
    }
}

pub(super) fn vector_path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors/envelope")
        .join(name)
}

pub(super) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
