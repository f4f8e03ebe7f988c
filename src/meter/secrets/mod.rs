//! What opens a meter: the keys of a DLMS meter, or the passwords of a meter of IEC 62056-21.

use std::fmt;

use zeroize::Zeroizing;

pub use keys::KeySet;
pub use passwords::PasswordSet;

use super::profile::{Profile, Protocol};
use crate::dlms::keys::KeyRole;
use crate::dlms::obis::Obis;
use crate::types::{Random, Secret};

mod keys;
mod passwords;

/// One set of secrets of one meter: what it has, or what it shall have.
pub enum Secrets {
    /// Of a DLMS meter.
    Keys(KeySet),
    /// Of a meter that asks for passwords.
    Passwords(PasswordSet),
}

/// One secret of a meter.
#[derive(
    Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// DLMS: a key of the management client.
    Key(KeyRole),
    /// DLMS: the password or secret of another client, by its SAP.
    Client(u16),
    /// DLMS: a key in another client's own security set-up.
    ClientKey(u16, KeyRole),
    /// DLMS: an association or security set-up of which nobody knows whose it is, or that no secret changes.
    Door(Obis),
    /// IEC 62056-21: the password of a level.
    Password(Level),
}

/// What a password of IEC 62056-21 allows.
#[derive(
    Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Reading.
    One,
    /// Reading and some commands.
    Two,
    /// Everything, new passwords included.
    Three,
}

impl Secrets {
    /// The protocol they are for, by its name in profiles.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Keys(_) => "dlms",
            Self::Passwords(_) => "iec62056-21",
        }
    }

    /// A new set in the place of this one, of the form that the meter's type takes: all secrets are new, and there is one
    /// for each that was `found` in the meter besides, as far as it can be changed.
    pub fn successor(
        &self,
        profile: &Profile,
        found: &[Role],
        random: &dyn Random,
    ) -> Result<Self, InvalidSecrets> {
        match (self, &profile.protocol) {
            (Self::Keys(keys), Protocol::Dlms(_)) => Ok(Self::Keys(keys.successor(found, random))),
            (Self::Passwords(old), Protocol::ModeC(mode_c)) => {
                let new = PasswordSet::random(&mode_c.passwords, old, random);
                Ok(Self::Passwords(new))
            }
            _ => Err(InvalidSecrets),
        }
    }

    /// The secret for a role.
    pub fn secret(&self, role: Role) -> Option<&Secret> {
        match (self, role) {
            (Self::Keys(keys), Role::Key(role)) => keys.key(role),
            (Self::Keys(keys), role) => keys.others.get(&role),
            (Self::Passwords(passwords), Role::Password(level)) => passwords.password(level),
            (Self::Passwords(_), _) => None,
        }
    }

    /// The secrets that open the meter for changes.
    pub fn opening(&self) -> Vec<Role> {
        match self {
            Self::Keys(_) => [KeyRole::Guek, KeyRole::Gak].map(Role::Key).to_vec(),
            Self::Passwords(passwords) => vec![Role::Password(passwords.highest())],
        }
    }

    /// The others, apart from the key encryption key.
    pub fn others(&self) -> Vec<Role> {
        match self {
            Self::Keys(keys) => {
                let broadcast = keys.gbek.iter().map(|_| Role::Key(KeyRole::Gbek));
                broadcast.chain(keys.others.keys().copied()).collect()
            }
            Self::Passwords(passwords) => {
                let lower = passwords.0.keys().rev().skip(1);
                lower.map(|level| Role::Password(*level)).collect()
            }
        }
    }

    /// The keys, if these are keys.
    pub fn keys(&self) -> Option<&KeySet> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::Passwords(_) => None,
        }
    }

    /// The passwords, if these are passwords.
    pub fn passwords(&self) -> Option<&PasswordSet> {
        match self {
            Self::Keys(_) => None,
            Self::Passwords(passwords) => Some(passwords),
        }
    }

    /// The keys, if these are keys.
    pub fn into_keys(self) -> Option<KeySet> {
        match self {
            Self::Keys(keys) => Some(keys),
            Self::Passwords(_) => None,
        }
    }

    /// For the journal, which seals it: tag | the set.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Reserved in full, so that no reallocation leaves a copy of a secret behind.
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        match self {
            Self::Keys(keys) => {
                out.push(TAG_KEYS);
                keys.put(&mut out);
            }
            Self::Passwords(passwords) => {
                out.push(TAG_PASSWORDS);
                passwords.put(&mut out);
            }
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecrets> {
        match bytes {
            [TAG_KEYS, keys @ ..] => KeySet::from_bytes(keys).map(Self::Keys),
            [TAG_PASSWORDS, passwords @ ..] => {
                PasswordSet::from_bytes(passwords).map(Self::Passwords)
            }
            _ => Err(InvalidSecrets),
        }
    }
}

impl From<KeySet> for Secrets {
    fn from(keys: KeySet) -> Self {
        Self::Keys(keys)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(role) => f.write_str(role.as_str()),
            Self::Client(client) => write!(f, "secret of client {client}"),
            Self::ClientKey(client, key) => write!(f, "{} of client {client}", key.as_str()),
            Self::Door(object) => write!(f, "{object}"),
            Self::Password(level) => write!(f, "password of level {}", level.number()),
        }
    }
}

impl Level {
    /// 1, 2 or 3.
    pub fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

impl TryFrom<u8> for Level {
    type Error = InvalidSecrets;

    fn try_from(number: u8) -> Result<Self, InvalidSecrets> {
        [Self::One, Self::Two, Self::Three]
            .into_iter()
            .find(|level| level.number() == number)
            .ok_or(InvalidSecrets)
    }
}

fn put_prefixed(out: &mut Vec<u8>, secret: &Secret) {
    let length = secret.expose().len();
    out.push(u8::try_from(length).expect("a secret of a set has 64 bytes at most"));
    out.extend_from_slice(secret.expose());
}

fn take(bytes: &mut &[u8], length: usize) -> Result<Secret, InvalidSecrets> {
    let (secret, rest) = bytes.split_at_checked(length).ok_or(InvalidSecrets)?;
    *bytes = rest;
    Ok(Secret::new(secret.to_vec()))
}

/// The set lacks a secret, or one has not the length that its protocol prescribes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the secrets are incomplete, or one has an impossible length")]
pub struct InvalidSecrets;

const TAG_KEYS: u8 = 1;
const TAG_PASSWORDS: u8 = 2;
/// More than any set takes that a package can hold.
const MAX_BYTES: usize = 4096;
/// Bytes of a password, or of another secret that is no key.
const MAX_PASSWORD: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::dlms::keys::Suite;
    use crate::meter::profile::Profiles;
    use crate::types::SystemRandom;

    fn keys(bytes: &[u8]) -> Result<KeySet, InvalidSecrets> {
        match Secrets::from_bytes(bytes)? {
            Secrets::Keys(keys) => Ok(keys),
            Secrets::Passwords(_) => Err(InvalidSecrets),
        }
    }

    #[test]
    fn a_key_set_survives_the_journal() {
        for suite in [Suite::Zero, Suite::Two] {
            let set = KeySet::random(suite, &SystemRandom).with_last_counter(77);
            let set = Secrets::Keys(set);
            let back = keys(&set.to_bytes()).unwrap();
            for role in [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek, KeyRole::Gbek] {
                assert_eq!(
                    set.keys().unwrap().key(role).unwrap().expose(),
                    back.key(role).unwrap().expose()
                );
            }
            assert_eq!((back.last_counter(), back.suite()), (77, suite));
        }
    }

    #[test]
    fn other_clients_get_new_secrets_where_their_keys_can_be_wrapped() {
        let known = |client| Role::ClientKey(client, KeyRole::Kek);
        let old = KeySet::random(Suite::Zero, &SystemRandom)
            .with_other(known(3), Secret::new(vec![7; 16]))
            .unwrap();
        let guek = |client| Role::ClientKey(client, KeyRole::Guek);
        let found = [
            Role::Client(2),
            guek(3),
            known(3),
            guek(4),
            Role::Door(Obis::CLOCK),
        ];
        let profiles = Profiles::built_in();
        let profile = profiles.get("dlms").unwrap();
        let next = Secrets::Keys(old).successor(profile, &found, &SystemRandom);
        let next = next.unwrap();
        let back = Secrets::from_bytes(&next.to_bytes()).unwrap();
        let expected = [Role::Key(KeyRole::Gbek), Role::Client(2), guek(3), known(3)];
        assert_eq!(back.others(), expected);
        for role in expected {
            let (made, kept) = (next.secret(role).unwrap(), back.secret(role).unwrap());
            assert_eq!(made.expose(), kept.expose());
            assert_eq!(kept.expose().len(), 16);
        }
        assert!(back.secret(guek(4)).is_none());
        let short = KeySet::random(Suite::Two, &SystemRandom);
        assert!(
            short
                .with_other(known(3), Secret::new(vec![7; 16]))
                .is_err()
        );
    }

    #[test]
    fn keys_of_another_length_are_refused() {
        let key = |bytes| Secret::new(vec![0; bytes]);
        assert!(KeySet::new(Suite::Zero, key(16), key(16), key(32)).is_err());
        assert!(KeySet::new(Suite::Two, key(32), key(16), key(32)).is_err());
        assert!(keys(&[1, 0, 0, 0, 0, 0, 0, 1]).is_err());
        let set = Secrets::Keys(KeySet::random(Suite::Zero, &SystemRandom));
        let longer = [&set.to_bytes()[..], &[0]].concat();
        assert!(keys(&longer).is_err());
    }

    #[test]
    fn passwords_survive_the_journal() {
        let password = |text: &[u8]| Secret::new(text.to_vec());
        let levels = [
            (Level::One, password(b"READER")),
            (Level::Three, password(b"FEDC0003")),
        ];
        let set = PasswordSet::new(levels).unwrap();
        assert_eq!(set.highest(), Level::Three);
        let set = Secrets::Passwords(set);
        let Secrets::Passwords(back) = Secrets::from_bytes(&set.to_bytes()).unwrap() else {
            panic!("not passwords");
        };
        assert_eq!(back.password(Level::One).unwrap().expose(), b"READER");
    }

    #[test]
    fn new_passwords_are_those_that_the_type_of_meter_takes() {
        let profiles = Profiles::built_in();
        let profile = profiles.get("simulated-mode-c").unwrap();
        let old = [(Level::Three, Secret::new(b"FEDC0003".to_vec()))];
        let old = Secrets::Passwords(PasswordSet::new(old).unwrap());
        let next = old.successor(profile, &[], &SystemRandom).unwrap();
        let next = next.passwords().unwrap();
        let levels = [Level::One, Level::Two, Level::Three];
        assert_eq!(next.levels().collect::<Vec<_>>(), levels);
        let new = levels.map(|level| next.password(level).unwrap().expose());
        let allowed = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        assert!(
            new.iter()
                .all(|new| new.len() == 8 && new.iter().all(allowed))
        );
        assert!(new[0] != new[1] && new[1] != new[2] && new[2] != b"FEDC0003");
        assert!(
            old.successor(profiles.get("dlms").unwrap(), &[], &SystemRandom)
                .is_err()
        );
    }

    #[test]
    fn every_character_of_a_password_is_as_likely_as_another() {
        struct Counting(AtomicU8);
        impl Random for Counting {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill_with(|| self.0.fetch_add(1, Ordering::SeqCst));
            }
        }
        let profiles = Profiles::built_in();
        let Protocol::ModeC(mode_c) = &profiles.get("simulated-mode-c").unwrap().protocol else {
            panic!("mode C");
        };
        let (random, mut counts) = (Counting(AtomicU8::new(0)), BTreeMap::new());
        // 9 × 28 characters are what 256 bytes make: 36 × 7, and the four bytes above are thrown away.
        for _ in 0..63 {
            for byte in mode_c.passwords.random(&random).expose() {
                *counts.entry(*byte).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 36);
        assert!(counts.values().all(|count| *count == 14), "{counts:?}");
    }

    #[test]
    fn what_is_no_set_of_passwords_is_refused() {
        assert!(PasswordSet::new([]).is_err());
        assert!(PasswordSet::new([(Level::One, Secret::new(vec![b'x'; 65]))]).is_err());
        for bytes in [
            &[2][..],
            &[2, 1],
            &[2, 1, 3, b'x'],
            &[2, 4, 1, b'x'],
            &[3],
            &[],
        ] {
            assert!(Secrets::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
