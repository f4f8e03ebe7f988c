//! What the gaining supplier knows of a meter once its package has been released and opened.

use std::net::SocketAddr;

use zeroize::Zeroizing;

use crate::dlms::SystemTitle;
use crate::dlms::ciphering::CipherKeys;
use crate::dlms::keys::{KeyRole, Suite};
use crate::dlms::obis::Obis;
use crate::dlms::objects::ScalerUnit;
use crate::types::{HandoverId, MeterSerial, Random, Secret, SupplyPoint, Timestamp};

/// One set of keys of one meter.
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
    ) -> Result<Self, InvalidKeySet> {
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
            .ok_or(InvalidKeySet)
    }

    /// The set with a broadcast key.
    pub fn with_gbek(self, gbek: Secret) -> Result<Self, InvalidKeySet> {
        if gbek.expose().len() != self.suite.key_bytes() {
            return Err(InvalidKeySet);
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

    /// For the journal, which seals it: suite | counter u32 | has GBEK | GUEK | GAK | KEK | GBEK.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Reserved in full, so that no reallocation leaves a copy of a key behind.
        let mut out = Zeroizing::new(Vec::with_capacity(6 + 4 * self.suite.key_bytes()));
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
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKeySet> {
        let (&[suite, c0, c1, c2, c3, broadcast], keys) =
            bytes.split_first_chunk().ok_or(InvalidKeySet)?;
        let suite = Suite::try_from(suite).map_err(|_| InvalidKeySet)?;
        let mut keys = keys
            .chunks(suite.key_bytes())
            .map(|key| Secret::new(key.to_vec()));
        let mut next = || keys.next().ok_or(InvalidKeySet);
        let set = Self::new(suite, next()?, next()?, next()?)?
            .with_last_counter(u32::from_be_bytes([c0, c1, c2, c3]));
        match broadcast {
            0 => Ok(set),
            _ => set.with_gbek(next()?),
        }
    }
}

/// A key of the set has not the length that its suite prescribes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key has not the length that its security suite prescribes")]
pub struct InvalidKeySet;

/// A meter that the escrow has released to us.
pub struct ReleasedMeter {
    /// The change of supplier.
    pub handover: HandoverId,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// The serial number on its plate, which the meter must tell as well.
    pub serial: MeterSerial,
    /// How to reach it now.
    pub address: SocketAddr,
    /// Its system title, which its answers must carry.
    pub system_title: SystemTitle,
    /// Its logical device name, where it was handed over.
    pub device_name: Option<String>,
    /// The keys it may have, newest generation first.
    pub candidates: Vec<KeySet>,
    /// The read that the losing supplier took.
    pub closing_read: Option<Vec<RegisterRead>>,
    /// Where it shall report from now on.
    pub repoint: Option<Repoint>,
}

/// New communication settings of a meter.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Repoint {
    /// The access point name.
    pub apn: String,
    /// Where the meter pushes to, such as `10.9.8.7:5000`.
    pub destination: String,
    /// The port at which the meter listens.
    pub port: u16,
    /// How to reach it afterwards, if not as before.
    pub address: Option<SocketAddr>,
}

/// What one register showed.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RegisterRead {
    /// The register.
    pub register: Obis,
    /// The number it showed: number × 10^scaler in the unit.
    pub value: i64,
    /// Scaler and unit.
    #[serde(flatten)]
    pub scaler_unit: ScalerUnit,
    /// When we read it, by our clock.
    pub read_at: Timestamp,
    /// What the meter's clock showed, if it is set.
    pub meter_time: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemRandom;

    #[test]
    fn a_set_survives_the_journal() {
        for suite in [Suite::Zero, Suite::Two] {
            let set = KeySet::random(suite, &SystemRandom).with_last_counter(77);
            let back = KeySet::from_bytes(&set.to_bytes()).unwrap();
            for role in [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek, KeyRole::Gbek] {
                assert_eq!(
                    set.key(role).unwrap().expose(),
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
        assert!(KeySet::from_bytes(&[0, 0, 0, 0, 0, 0, 1]).is_err());
    }
}
