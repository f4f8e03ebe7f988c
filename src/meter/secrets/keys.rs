//! The keys of a DLMS meter, and what its other clients come in with.

use std::collections::BTreeMap;

use super::{InvalidSecrets, MAX_PASSWORD, Role, put_prefixed, take};
use crate::dlms::ciphering::CipherKeys;
use crate::dlms::keys::{KeyRole, Suite};
use crate::types::{Random, Secret};

/// The keys of the management client of one DLMS meter.
pub struct KeySet {
    suite: Suite,
    guek: Secret,
    gak: Secret,
    kek: Secret,
    pub(super) gbek: Option<Secret>,
    last_counter: u32,
    /// Of the meter's other clients.
    pub(super) others: BTreeMap<Role, Secret>,
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

    pub(super) fn successor(&self, found: &[Role], random: &dyn Random) -> Self {
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
    pub(super) fn put(&self, out: &mut Vec<u8>) {
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

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecrets> {
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

/// Random characters that every meter and every keyboard has, five bits each.
fn typable(length: usize, random: &dyn Random) -> Secret {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    for byte in &mut bytes {
        *byte = ALPHABET[usize::from(*byte) % ALPHABET.len()];
    }
    Secret::new(bytes)
}

/// In the place of a key, where the secret is the client's own.
const NO_KEY: u8 = 0xFF;
/// Characters of a new secret of another client: 80 bits.
const CLIENT_SECRET: usize = 16;
/// 32 characters, so that a byte chooses each of them equally often; none looks like another.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
