//! What opens a meter: the keys of a DLMS meter, or the passwords of a meter of IEC 62056-21.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::profile::{Passwords, Profile, Protocol};
use crate::dlms::ciphering::CipherKeys;
use crate::dlms::keys::{KeyRole, Suite};
use crate::dlms::obis::Obis;
use crate::types::{Random, Secret};

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
    /// DLMS: the password or secret of another client's association.
    Association(Obis),
    /// DLMS: a key of another client's security set-up.
    SetUp(Obis, KeyRole),
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

    /// A new set in the place of this one, of the form that the meter's type takes: all secrets are new.
    pub fn successor(
        &self,
        profile: &Profile,
        random: &dyn Random,
    ) -> Result<Self, InvalidSecrets> {
        match (self, &profile.protocol) {
            (Self::Keys(keys), Protocol::Dlms(_)) => {
                Ok(Self::Keys(KeySet::random(keys.suite(), random)))
            }
            (Self::Passwords(old), Protocol::ModeC(mode_c)) => {
                let new = PasswordSet::random(&mode_c.passwords, old, random);
                Ok(Self::Passwords(new))
            }
            _ => Err(InvalidSecrets),
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
            Self::Keys(keys) => keys.gbek.iter().map(|_| Role::Key(KeyRole::Gbek)).collect(),
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
            Self::Association(object) => write!(f, "secret of association {object}"),
            Self::SetUp(object, key) => write!(f, "{} of security set-up {object}", key.as_str()),
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

/// The keys of the management client of one DLMS meter.
pub struct KeySet {
    suite: Suite,
    guek: Secret,
    gak: Secret,
    kek: Secret,
    gbek: Option<Secret>,
    last_counter: u32,
}

impl KeySet {
    /// A handed-over set; each key must have the length that the suite prescribes.
    pub fn new(
        suite: Suite,
        guek: Secret,
        gak: Secret,
        kek: Secret,
    ) -> Result<Self, InvalidSecrets> {
        let set = Self {
            suite,
            guek,
            gak,
            kek,
            gbek: None,
            last_counter: 0,
        };
        [&set.guek, &set.gak, &set.kek]
            .iter()
            .all(|key| key.expose().len() == suite.key_bytes())
            .then_some(set)
            .ok_or(InvalidSecrets)
    }

    /// The set with a broadcast key.
    pub fn with_gbek(self, gbek: Secret) -> Result<Self, InvalidSecrets> {
        if gbek.expose().len() != self.suite.key_bytes() {
            return Err(InvalidSecrets);
        }
        let gbek = Some(gbek);
        Ok(Self { gbek, ..self })
    }

    /// The set with the last counter its owner used: where a counter may start without looking like a forged jump.
    #[must_use]
    pub fn with_last_counter(self, last_counter: u32) -> Self {
        Self {
            last_counter,
            ..self
        }
    }

    /// A new set, a broadcast key included.
    pub fn random(suite: Suite, random: &dyn Random) -> Self {
        let key = || {
            let mut bytes = vec![0; suite.key_bytes()];
            random.fill(&mut bytes);
            Secret::new(bytes)
        };
        Self {
            suite,
            guek: key(),
            gak: key(),
            kek: key(),
            gbek: Some(key()),
            last_counter: 0,
        }
    }

    /// The suite that the keys are for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The last counter its owner used, 0 if that is not known.
    pub fn last_counter(&self) -> u32 {
        self.last_counter
    }

    /// The key for `role`; only a broadcast key may be missing.
    pub fn key(&self, role: KeyRole) -> Option<&Secret> {
        match role {
            KeyRole::Guek => Some(&self.guek),
            KeyRole::Gak => Some(&self.gak),
            KeyRole::Kek => Some(&self.kek),
            KeyRole::Gbek => self.gbek.as_ref(),
        }
    }

    /// The global unicast encryption key.
    pub fn guek(&self) -> &Secret {
        &self.guek
    }

    /// The global authentication key.
    pub fn gak(&self) -> &Secret {
        &self.gak
    }

    /// The key encryption key.
    pub fn kek(&self) -> &Secret {
        &self.kek
    }

    /// The keys that protect messages.
    pub fn cipher_keys(&self) -> CipherKeys<'_> {
        CipherKeys {
            guek: &self.guek,
            gak: &self.gak,
        }
    }

    /// Suite | counter u32 | has GBEK | GUEK | GAK | KEK | GBEK.
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.suite.id());
        out.extend_from_slice(&self.last_counter.to_be_bytes());
        out.push(self.gbek.is_some().into());
        let keys = [
            Some(&self.guek),
            Some(&self.gak),
            Some(&self.kek),
            self.gbek.as_ref(),
        ];
        for key in keys.into_iter().flatten() {
            out.extend_from_slice(key.expose());
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecrets> {
        let (&[suite, c0, c1, c2, c3, broadcast], keys) =
            bytes.split_first_chunk().ok_or(InvalidSecrets)?;
        let suite = Suite::try_from(suite).map_err(|_| InvalidSecrets)?;
        let mut keys = keys
            .chunks(suite.key_bytes())
            .map(|key| Secret::new(key.to_vec()));
        let mut next = || keys.next().ok_or(InvalidSecrets);
        let set = Self::new(suite, next()?, next()?, next()?)?
            .with_last_counter(u32::from_be_bytes([c0, c1, c2, c3]));
        match broadcast {
            0 => Ok(set),
            _ => set.with_gbek(next()?),
        }
    }
}

/// The passwords of one meter, by level. The highest one changes them all.
pub struct PasswordSet(BTreeMap<Level, Secret>);

impl PasswordSet {
    /// Handed-over passwords: one at least, each of 1 to 64 bytes.
    pub fn new(levels: impl IntoIterator<Item = (Level, Secret)>) -> Result<Self, InvalidSecrets> {
        let levels: BTreeMap<_, _> = levels.into_iter().collect();
        let valid = |password: &Secret| (1..=MAX_PASSWORD).contains(&password.expose().len());
        (!levels.is_empty() && levels.values().all(valid))
            .then_some(Self(levels))
            .ok_or(InvalidSecrets)
    }

    /// The level that opens the meter for changes: the highest there is.
    pub fn highest(&self) -> Level {
        let highest = self.0.last_key_value();
        *highest.expect("a set has one password at least").0
    }

    /// The password of a level.
    pub fn password(&self, level: Level) -> Option<&Secret> {
        self.0.get(&level)
    }

    /// The levels, ascending.
    pub fn levels(&self) -> impl Iterator<Item = Level> {
        self.0.keys().copied()
    }

    /// A new password for every level that a type of meter lets change, none of them like another or an old one: the
    /// password decides the level.
    fn random(form: &Passwords, old: &Self, random: &dyn Random) -> Self {
        let mut levels = BTreeMap::new();
        for level in form.registers().into_keys() {
            let password = loop {
                let password = form.random(random);
                let mut others = levels.values().chain(old.0.values());
                if others.all(|other: &Secret| other.expose() != password.expose()) {
                    break password;
                }
            };
            levels.insert(level, password);
        }
        Self(levels)
    }

    /// Level | length | password, for each level.
    fn put(&self, out: &mut Vec<u8>) {
        for (level, password) in &self.0 {
            out.push(level.number());
            out.push(
                u8::try_from(password.expose().len()).expect("a password has 64 bytes at most"),
            );
            out.extend_from_slice(password.expose());
        }
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, InvalidSecrets> {
        let mut levels = Vec::new();
        while let [level, length, rest @ ..] = bytes {
            let (password, later) = rest
                .split_at_checked(usize::from(*length))
                .ok_or(InvalidSecrets)?;
            levels.push((Level::try_from(*level)?, Secret::new(password.to_vec())));
            bytes = later;
        }
        match bytes {
            [] => Self::new(levels),
            _ => Err(InvalidSecrets),
        }
    }
}

/// The set lacks a secret, or one has not the length that its protocol prescribes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the secrets are incomplete, or one has an impossible length")]
pub struct InvalidSecrets;

const TAG_KEYS: u8 = 1;
const TAG_PASSWORDS: u8 = 2;
/// More than any set takes.
const MAX_BYTES: usize = 512;
const MAX_PASSWORD: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
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
    fn keys_of_another_length_are_refused() {
        let key = |bytes| Secret::new(vec![0; bytes]);
        assert!(KeySet::new(Suite::Zero, key(16), key(16), key(32)).is_err());
        assert!(KeySet::new(Suite::Two, key(32), key(16), key(32)).is_err());
        assert!(keys(&[1, 0, 0, 0, 0, 0, 0, 1]).is_err());
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
        let next = old.successor(profile, &SystemRandom).unwrap();
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
            old.successor(profiles.get("dlms").unwrap(), &SystemRandom)
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
