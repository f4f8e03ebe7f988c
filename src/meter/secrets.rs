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

/// The keys of the management client of one DLMS meter.
pub struct KeySet {
    suite: Suite,
    guek: Secret,
    gak: Secret,
    kek: Secret,
    gbek: Option<Secret>,
    last_counter: u32,
    /// Of the meter's other clients.
    others: BTreeMap<Role, Secret>,
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
            others: BTreeMap::new(),
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
            others: BTreeMap::new(),
        }
    }

    /// The set with a secret of another client: 1 to 64 bytes, or a key of the suite's length.
    pub fn with_other(mut self, role: Role, secret: Secret) -> Result<Self, InvalidSecrets> {
        let length = secret.expose().len();
        let fits = match role {
            Role::Client(_) => (1..=MAX_PASSWORD).contains(&length),
            Role::ClientKey(..) => length == self.suite.key_bytes(),
            Role::Key(_) | Role::Door(_) | Role::Password(_) => false,
        };
        if !fits {
            return Err(InvalidSecrets);
        }
        self.others.insert(role, secret);
        Ok(self)
    }

    /// The roles of other clients' secrets.
    pub fn others(&self) -> impl Iterator<Item = (Role, &Secret)> {
        self.others.iter().map(|(role, secret)| (*role, secret))
    }

    fn successor(&self, found: &[Role], random: &dyn Random) -> Self {
        let mut next = Self::random(self.suite, random);
        for role in found {
            let secret = match *role {
                Role::Client(_) => typable(CLIENT_SECRET, random),
                // Without its key encryption key, the set-up takes no keys.
                Role::ClientKey(client, _)
                    if (self.others).contains_key(&Role::ClientKey(client, KeyRole::Kek)) =>
                {
                    let mut key = vec![0; self.suite.key_bytes()];
                    random.fill(&mut key);
                    Secret::new(key)
                }
                _ => continue,
            };
            next.others.insert(*role, secret);
        }
        next
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

    /// Suite | counter u32 | has GBEK | GUEK | GAK | KEK | GBEK | others: client u16 | key or FF | length | secret.
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
        for (role, secret) in &self.others {
            let (client, key) = match *role {
                Role::Client(client) => (client, NO_KEY),
                Role::ClientKey(client, key) => (client, key.id()),
                Role::Key(_) | Role::Door(_) | Role::Password(_) => continue,
            };
            out.extend_from_slice(&client.to_be_bytes());
            out.push(key);
            put_prefixed(out, secret);
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecrets> {
        let (&[suite, c0, c1, c2, c3, broadcast], mut rest) =
            bytes.split_first_chunk().ok_or(InvalidSecrets)?;
        let suite = Suite::try_from(suite).map_err(|_| InvalidSecrets)?;
        let mut next = || take(&mut rest, suite.key_bytes());
        let mut set = Self::new(suite, next()?, next()?, next()?)?
            .with_last_counter(u32::from_be_bytes([c0, c1, c2, c3]));
        if broadcast != 0 {
            set = set.with_gbek(next()?)?;
        }
        while let &[c0, c1, key, length, ref later @ ..] = rest {
            rest = later;
            let client = u16::from_be_bytes([c0, c1]);
            let role = match key {
                NO_KEY => Role::Client(client),
                key => Role::ClientKey(client, KeyRole::try_from(key).map_err(|_| InvalidSecrets)?),
            };
            set = set.with_other(role, take(&mut rest, length.into())?)?;
        }
        rest.is_empty().then_some(set).ok_or(InvalidSecrets)
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
            put_prefixed(out, password);
        }
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, InvalidSecrets> {
        let mut levels = Vec::new();
        while let &[level, length, ref rest @ ..] = bytes {
            bytes = rest;
            let password = take(&mut bytes, length.into())?;
            levels.push((Level::try_from(level)?, password));
        }
        match bytes {
            [] => Self::new(levels),
            _ => Err(InvalidSecrets),
        }
    }
}

/// Random characters that every meter and every keyboard has, five bits each.
fn typable(length: usize, random: &dyn Random) -> Secret {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    for byte in &mut bytes {
        *byte = ALPHABET[usize::from(*byte) % ALPHABET.len()];
    }
    Secret::new(bytes)
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
/// In the place of a key, where the secret is the client's own.
const NO_KEY: u8 = 0xFF;
/// Characters of a new secret of another client: 80 bits.
const CLIENT_SECRET: usize = 16;
const MAX_PASSWORD: usize = 64;
/// 32 characters, so that a byte chooses each of them equally often; none looks like another.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

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
