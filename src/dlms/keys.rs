//! The keys of a meter: which there are, how they are wrapped for the journey (RFC 3394), and the payload of
//! `key_transfer`.

use dlms_cosem_rs::security::{CryptoProvider as _, KeyRef, KeyRing, RustCryptoProvider};

use super::Malformed;
use super::axdr::Value;
use crate::types::{Digest, Secret};

/// The security suite a meter works with: AES-128 in suites 0 and 1, AES-256 in suite 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Suite {
    /// Symmetric keys only.
    Zero,
    /// Adds P-256.
    One,
    /// Adds P-384.
    Two,
}

impl Suite {
    /// The number in the low bits of a security control byte.
    pub fn id(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The bytes of a symmetric key.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Zero | Self::One => 16,
            Self::Two => 32,
        }
    }
}

impl TryFrom<u8> for Suite {
    type Error = Malformed;

    fn try_from(id: u8) -> Result<Self, Self::Error> {
        match id {
            0 => Ok(Self::Zero),
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            other => Err(Malformed::Tag(other)),
        }
    }
}

impl From<Suite> for u8 {
    fn from(suite: Suite) -> Self {
        suite.id()
    }
}

/// What a key is for, by the numbers that `key_transfer` uses.
#[derive(
    Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    /// Global unicast encryption key: protects what one meter is told.
    Guek,
    /// Global broadcast encryption key: one for a fleet.
    Gbek,
    /// Global authentication key: part of what every tag covers.
    Gak,
    /// Key encryption key: wraps the others on their way.
    Kek,
}

impl KeyRole {
    /// The number on the wire.
    pub fn id(self) -> u8 {
        match self {
            Self::Guek => 0,
            Self::Gbek => 1,
            Self::Gak => 2,
            Self::Kek => 3,
        }
    }

    /// The name that people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guek => "GUEK",
            Self::Gbek => "GBEK",
            Self::Gak => "GAK",
            Self::Kek => "KEK",
        }
    }
}

impl TryFrom<u8> for KeyRole {
    type Error = Malformed;

    fn try_from(id: u8) -> Result<Self, Self::Error> {
        [Self::Guek, Self::Gbek, Self::Gak, Self::Kek]
            .into_iter()
            .find(|role| role.id() == id)
            .ok_or(Malformed::Tag(id))
    }
}

/// One key under the key encryption key, safe on the wire from those who do not know that one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrappedKey {
    /// What the key is for.
    pub role: KeyRole,
    /// The key and eight bytes of integrity check.
    pub bytes: Vec<u8>,
}

/// Wraps `key` under `kek`.
pub fn wrap(kek: &Secret, role: KeyRole, key: &Secret) -> Result<WrappedKey, KeyError> {
    let bytes = wrap_secret(kek, key)?;
    Ok(WrappedKey { role, bytes })
}

/// Wraps a secret under `kek`: a key, or another one whose length is a multiple of eight, from sixteen.
pub fn wrap_secret(kek: &Secret, secret: &Secret) -> Result<Vec<u8>, KeyError> {
    let mut bytes = vec![0; secret.expose().len() + WRAP_OVERHEAD];
    RustCryptoProvider::new(KeyRing::default())
        .key_wrap(KeyRef::Raw(kek.expose()), secret.expose(), &mut bytes)
        .map_err(|_| KeyError::Length)?;
    Ok(bytes)
}

/// Unwraps a key; fails if it was not wrapped under `kek`.
pub fn unwrap(kek: &Secret, wrapped: &[u8]) -> Result<Secret, KeyError> {
    let length = wrapped.len().checked_sub(WRAP_OVERHEAD);
    let mut key = vec![0; length.ok_or(KeyError::Length)?];
    let unwrapped = RustCryptoProvider::new(KeyRing::default()).key_unwrap(
        KeyRef::Raw(kek.expose()),
        wrapped,
        &mut key,
    );
    let key = Secret::new(key);
    unwrapped.map(|_| key).map_err(|_| KeyError::Integrity)
}

/// The parameter of `key_transfer`: an array of structures of key number and wrapped key.
pub fn key_transfer(keys: &[WrappedKey]) -> Value {
    let item = |key: &WrappedKey| {
        Value::Structure(vec![
            Value::Enum(key.role.id()),
            Value::OctetString(key.bytes.clone()),
        ])
    };
    Value::Array(keys.iter().map(item).collect())
}

/// The wrapped keys in the parameter of `key_transfer`.
pub fn parse_key_transfer(value: &Value) -> Result<Vec<WrappedKey>, Malformed> {
    let Value::Array(items) = value else {
        return Err(Malformed::Type);
    };
    let parse = |item: &Value| match item.as_items()? {
        [Value::Enum(id), Value::OctetString(bytes)] => Ok(WrappedKey {
            role: KeyRole::try_from(*id)?,
            bytes: bytes.clone(),
        }),
        _ => Err(Malformed::Type),
    };
    items.iter().map(parse).collect()
}

/// Names a key without telling it. The keys are as random as the digest is wide, so nothing can be guessed from it.
pub fn key_name(key: &Secret) -> Digest {
    Digest::of_pieces(&[b"cos-escrow/meter-key/1", key.expose()])
}

/// A key cannot be wrapped or unwrapped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Neither 16 nor 32 bytes, or a wrapped key of an impossible length.
    #[error("the key has an impossible length")]
    Length,
    /// Wrapped under another key, or damaged.
    #[error("the key was not wrapped under this key encryption key")]
    Integrity,
}

const WRAP_OVERHEAD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_unwraps_under_the_kek_it_was_wrapped_under_and_no_other() {
        for suite in [Suite::Zero, Suite::Two] {
            let [kek, other, key] =
                [1, 2, 3].map(|byte| Secret::new(vec![byte; suite.key_bytes()]));
            let wrapped = wrap(&kek, KeyRole::Guek, &key).unwrap();
            assert_eq!(unwrap(&kek, &wrapped.bytes).unwrap().expose(), key.expose());
            assert_eq!(
                unwrap(&other, &wrapped.bytes).err(),
                Some(KeyError::Integrity)
            );
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let kek = Secret::new(vec![0; 16]);
        assert!(wrap(&Secret::new(vec![0; 15]), KeyRole::Gak, &kek).is_err());
        for length in [0, 7, 8, 15, 23] {
            assert!(unwrap(&kek, &vec![0; length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_transfer_parses_what_it_carries() {
        let keys = [KeyRole::Kek, KeyRole::Gbek].map(|role| WrappedKey {
            role,
            bytes: vec![7; 24],
        });
        assert_eq!(parse_key_transfer(&key_transfer(&keys)), Ok(keys.to_vec()));
        let unknown = Value::Array(vec![Value::Structure(vec![
            Value::Enum(9),
            Value::OctetString(Vec::new()),
        ])]);
        assert_eq!(parse_key_transfer(&unknown), Err(Malformed::Tag(9)));
        assert_eq!(parse_key_transfer(&Value::Null), Err(Malformed::Type));
    }
}
