//! X25519MLKEM768 for the ring provider, which has no post-quantum group of its own.
//!
//! ```text
//! client share   ML-KEM-768 encapsulation key (1184) ‖ X25519 public key (32)
//! server share   ML-KEM-768 ciphertext        (1088) ‖ X25519 public key (32)
//! secret         ML-KEM-768 secret              (32) ‖ X25519 secret     (32)
//! ```
//= draft-ietf-tls-ecdhe-mlkem section 4

use ml_kem::MlKem768;
use ml_kem::kem::{Decapsulate as _, Encapsulate as _, Kem, KeyExport as _, TryKeyInit as _};
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup, ring,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroizing;

use super::verifier;

/// Whether the hybrid group is offered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PostQuantum {
    /// First; a peer without it gets X25519.
    #[default]
    Preferred,
    /// Not at all.
    Off,
}

/// The ring provider with our groups and with ECDSA on P-256 as the only signature.
pub fn provider(post_quantum: PostQuantum) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if post_quantum == PostQuantum::Preferred {
        provider.kx_groups.insert(0, &X25519MlKem768);
    }
    provider.signature_verification_algorithms = verifier::ALGORITHMS;
    provider
}

#[derive(Debug)]
struct X25519MlKem768;

impl SupportedKxGroup for X25519MlKem768 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = ring::kx_group::X25519.start()?;
        let (decapsulation_key, encapsulation_key) = MlKem768::generate_keypair();
        let share = [&encapsulation_key.to_bytes()[..], classical.pub_key()].concat();
        Ok(Box::new(Started {
            classical,
            decapsulation_key,
            share,
        }))
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (post_quantum, classical) = split(peer, ENCAPSULATION_KEY_BYTES)?;
        // Checks the modulus, as FIPS 203 section 7.2 asks.
        let key = <MlKem768 as Kem>::EncapsulationKey::new_from_slice(post_quantum)
            .map_err(|_| BAD_SHARE)?;
        let classical = ring::kx_group::X25519.start_and_complete(classical)?;
        let (ciphertext, secret) = key.encapsulate();
        Ok(CompletedKeyExchange {
            group: self.name(),
            pub_key: [&ciphertext[..], &classical.pub_key].concat(),
            secret: join(&secret, &classical.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// Our half of an exchange; its X25519 share serves alone too, for a server that has only that.
struct Started {
    classical: Box<dyn ActiveKeyExchange>,
    decapsulation_key: <MlKem768 as Kem>::DecapsulationKey,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, classical) = split(peer, CIPHERTEXT_BYTES)?;
        let classical = self.classical.complete(classical)?;
        let secret = self
            .decapsulation_key
            .decapsulate_slice(ciphertext)
            .map_err(|_| BAD_SHARE)?;
        Ok(join(&secret, &classical))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.classical.group(), self.classical.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.classical.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

fn split(share: &[u8], post_quantum_bytes: usize) -> Result<(&[u8], &[u8]), Error> {
    if share.len() != post_quantum_bytes + X25519_BYTES {
        return Err(BAD_SHARE);
    }
    Ok(share.split_at(post_quantum_bytes))
}

fn join(post_quantum: &[u8], classical: &SharedSecret) -> SharedSecret {
    let joined = Zeroizing::new([post_quantum, classical.secret_bytes()].concat());
    SharedSecret::from(&joined[..])
}

const ENCAPSULATION_KEY_BYTES: usize = 1184;
const CIPHERTEXT_BYTES: usize = 1088;
const X25519_BYTES: usize = 32;
const BAD_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_reach_the_same_secret() {
        let client = X25519MlKem768.start().unwrap();
        assert_eq!(client.pub_key().len(), 1216);
        let server = X25519MlKem768.start_and_complete(client.pub_key()).unwrap();
        assert_eq!(server.pub_key.len(), 1120);
        let secret = client.complete(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
        assert_eq!(secret.secret_bytes().len(), 64);
    }

    #[test]
    fn a_share_of_another_size_or_out_of_range_is_refused() {
        let share = X25519MlKem768.start().unwrap().pub_key().to_vec();
        let server = |share: &[u8]| X25519MlKem768.start_and_complete(share).is_err();
        assert!(server(&share[1..]) && server(&[]) && server(&[share.clone(), vec![0]].concat()));
        // Coefficients of 4095 are beyond the modulus of 3329.
        let mut beyond = share;
        beyond[..1152].fill(0xff);
        assert!(server(&beyond));
        for length in [0, 32, 1119, 1121] {
            let client = X25519MlKem768.start().unwrap();
            assert!(client.complete(&vec![0; length]).is_err());
        }
    }

    #[test]
    fn the_hybrid_group_comes_first_unless_it_is_off() {
        let first = |post_quantum| provider(post_quantum).kx_groups[0].name();
        assert_eq!(first(PostQuantum::Preferred), NamedGroup::X25519MLKEM768);
        assert_eq!(first(PostQuantum::Off), NamedGroup::X25519);
    }
}
