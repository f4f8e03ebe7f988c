//! The passwords of a meter of IEC 62056-21.

use std::collections::BTreeMap;

use super::{InvalidSecrets, Level, MAX_PASSWORD, put_prefixed, take};
use crate::meter::profile::Passwords;
use crate::types::{Random, Secret};

/// The passwords of one meter, by level. The highest one changes them all.
pub struct PasswordSet(pub(super) BTreeMap<Level, Secret>);

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
    pub(super) fn random(form: &Passwords, old: &Self, random: &dyn Random) -> Self {
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
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for (level, password) in &self.0 {
            out.push(level.number());
            put_prefixed(out, password);
        }
    }

    pub(super) fn from_bytes(mut bytes: &[u8]) -> Result<Self, InvalidSecrets> {
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
