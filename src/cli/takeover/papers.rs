//! What a takeover needs of a release once its keys are in the journal, as the journal keeps it, sealed.
//!
//! ```text
//! version   u8        2
//! kem       u16       of our key that the next packages are sealed to as well
//! key       bytes16   its public half
//! read      bytes32   the losing supplier's closing read, empty if there is none
//! then for each way to the meter:
//!   package     bytes32   the released package that leads there, to be changed into the next
//!   generation  u32       its number
//! ```
//! Integers are big-endian; `bytes16` and `bytes32` are a length and that many bytes.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::envelope::package::Package;
use crate::envelope::read::Read;
use crate::envelope::{Kem, SealingPublicKey};
use crate::types::Secret;

/// Everything of a release that a takeover needs later on.
pub struct Papers {
    /// Our key that the next packages are sealed to as well.
    pub own_key: SealingPublicKey,
    /// The packages that lead to the meter, by generation.
    pub packages: BTreeMap<u32, Package>,
    /// The losing supplier's closing read.
    pub read: Option<Read>,
}

impl Papers {
    /// The papers as bytes.
    pub fn encode(
        packages: &[(u32, Secret)],
        read: Option<&Secret>,
        own_key: &SealingPublicKey,
    ) -> Secret {
        let read = read.map_or(&b""[..], Secret::expose);
        let key = own_key.as_bytes();
        // Reserved in full, so that no reallocation leaves a copy of a key behind.
        let of_packages = packages
            .iter()
            .map(|(_, package)| 8 + package.expose().len());
        let length = FIXED_BYTES + key.len() + of_packages.sum::<usize>() + read.len();
        let mut out = Zeroizing::new(Vec::with_capacity(length));
        out.push(VERSION);
        out.extend_from_slice(&own_key.kem().id().to_be_bytes());
        let short = u16::try_from(key.len()).expect("public keys are short");
        out.extend_from_slice(&short.to_be_bytes());
        out.extend_from_slice(key);
        put(&mut out, read);
        for (generation, package) in packages {
            put(&mut out, package.expose());
            out.extend_from_slice(&generation.to_be_bytes());
        }
        Secret::new(std::mem::take(&mut out))
    }

    /// Reads papers back; `None` if that is not what the bytes are.
    pub fn decode(bytes: &Secret) -> Option<Self> {
        let (version, rest) = bytes.expose().split_first()?;
        let (kem, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let (read, mut rest) = long(rest)?;
        if *version != VERSION {
            return None;
        }
        let mut packages = BTreeMap::new();
        while !rest.is_empty() {
            let (package, after) = long(rest)?;
            let (generation, after) = after.split_first_chunk()?;
            let package = Package::parse(package).ok()?;
            packages.insert(u32::from_be_bytes(*generation), package);
            rest = after;
        }
        let read = match read {
            [] => None,
            read => Some(Read::parse(read).ok()?),
        };
        let kem = Kem::of_id(u16::from_be_bytes(*kem))?;
        Some(Self {
            own_key: SealingPublicKey::from_bytes(kem, key).ok()?,
            packages,
            read,
        })
    }
}

fn put(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("packages and reads are limited");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(part);
}

fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

const VERSION: u8 = 2;
const FIXED_BYTES: usize = 1 + 2 + 2 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::SealingKeyPair;
    use crate::types::SystemRandom;

    #[test]
    fn papers_come_back_as_they_went_in_and_no_cut_ones_do() {
        let package = br#"{"format":"cos-escrow/package/1","supply_point":"9693016118873",
            "meter":{"serial":"E19B762798","make":"EDMI Mk10A"},"comms":{"type":"IP"},
            "credentials":[{"password":{"levels":[{"level":1,"password":"READ"}]}}]}"#;
        let package = Package::parse(package).unwrap().to_json();
        let read = br#"{"format":"cos-escrow/read/1","supply_point":"9693016118873",
            "meter_serial":"E19B762798","type":"A",
            "registers":[{"id":"01","value":"1.5","at":"2025-10-18T23:00:00.000Z"}]}"#;
        let read = Read::parse(read).unwrap().to_json();
        let key = SealingKeyPair::generate(Kem::X25519, &SystemRandom);
        let another = Secret::new(package.expose().to_vec());
        let packages = [(3, package), (1, another)];
        for read in [None, Some(&read)] {
            let bytes = Papers::encode(&packages, read, key.public());
            let back = Papers::decode(&bytes).unwrap();
            assert_eq!(back.packages.keys().copied().collect::<Vec<_>>(), [1, 3]);
            for (generation, package) in &packages {
                let kept = back.packages[generation].to_json();
                assert_eq!(kept.expose(), package.expose());
            }
            assert_eq!(back.read.is_some(), read.is_some());
            assert_eq!(&back.own_key, key.public());
            let cut = Secret::new(bytes.expose()[..bytes.expose().len() - 1].to_vec());
            assert!(Papers::decode(&cut).is_none());
            let longer = Secret::new([bytes.expose(), &[0]].concat());
            assert!(Papers::decode(&longer).is_none());
        }
    }
}
