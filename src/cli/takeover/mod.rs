//! Between takeovers and the escrow: what a released package says, and what the escrow is told about the meter.

mod escrow;
mod keys;
mod papers;

use std::net::SocketAddr;

pub use escrow::SupplierEscrow;
pub use papers::Papers;

use keys::{key_set, management};

use super::exit::{Exit, Failure};
use crate::dlms::SystemTitle;
use crate::envelope::package::{Credential, Dlms, Package, Password, SecretHex, Text};
use crate::envelope::read::Read;
use crate::envelope::{Kek, Release, SealingKeyPair, SealingPublicKey};
use crate::meter::journal::{SealError, Sealer};
use crate::meter::link::DeviceId;
use crate::meter::profile::Profiles;
use crate::meter::released::ReleasedMeter;
use crate::meter::secrets::{InvalidSecrets, Level, PasswordSet, Secrets};
use crate::types::{Component, Digest, HandoverId, Random, Secret, SupplyStartDate, SystemRandom};

/// What a release holds, opened.
pub struct Opened {
    /// Under which handover.
    pub handover: HandoverId,
    /// Packages that the meter may have been left with, newest first.
    pub packages: Vec<Package>,
    /// The newest package as it was sealed, to be changed into the next.
    pub newest: Secret,
    /// The losing supplier's closing read.
    pub read: Option<Read>,
}

impl Opened {
    /// Opens a release with the key that it is sealed to.
    pub fn release(release: &Release, key: &SealingKeyPair) -> Result<Self, Failure> {
        let wrong = |what: &dyn std::fmt::Display| Failure::new(Exit::Unverified, what);
        let mut packages = Vec::new();
        let mut newest = None;
        let mut read = None;
        for (item, content) in release.open(key) {
            let content = content.map_err(|error| wrong(&error))?;
            match item.body.header().component {
                Component::Credentials => {
                    packages.push(Package::parse(content.expose()).map_err(|e| wrong(&e))?);
                    newest.get_or_insert(content);
                }
                Component::Read => {
                    read = Some(Read::parse(content.expose()).map_err(|e| wrong(&e))?);
                }
            }
        }
        Ok(Self {
            handover: release.issue().handover,
            packages,
            newest: newest.ok_or_else(|| wrong(&"the release holds no package"))?,
            read,
        })
    }

    /// What the journal keeps of it; the next packages are sealed to `own_key` as well.
    pub fn papers(&self, own_key: &SealingPublicKey) -> Secret {
        Papers::encode(&self.newest, self.read.as_ref(), own_key)
    }

    /// The network that the meter is reached through, as far as the newest package tells: its access point by a digest,
    /// for its name is not for everybody; or else the provider of the card, the method, the kind of address.
    pub fn network(&self) -> String {
        let Some(comms) = self.packages.first().map(|package| &package.comms) else {
            return String::new();
        };
        if let Some(apn) = &comms.apn {
            let digest = Digest::of(apn.expose().to_ascii_lowercase().as_bytes()).to_string();
            return format!("apn-{}", digest.get(..8).unwrap_or_default());
        }
        let named = comms.provider.as_ref().map(Text::as_str);
        let named = named.or(comms.method.as_ref().map(Text::as_str));
        named
            .or(comms.kind.as_ref().map(Text::as_str))
            .unwrap_or_default()
            .to_owned()
    }

    /// The total import of the losing supplier's closing read, in watt-hours.
    pub fn closing_watt_hours(&self) -> Option<i64> {
        self.read.as_ref().map(escrow::imported)
    }

    /// The meter for a takeover; `address` instead of the released one where the meter is reached otherwise.
    pub fn meter(
        &self,
        profiles: &Profiles,
        address: Option<SocketAddr>,
    ) -> Result<ReleasedMeter, Failure> {
        let unfit = |what: &str| Failure::new(Exit::Refused, what);
        let package = self
            .packages
            .first()
            .ok_or_else(|| unfit("the release holds no package"))?;
        let (device, candidates) = self.on_the_line()?;
        let protocol = candidates.first().map_or("dlms", Secrets::protocol);
        let make = package.meter.make.as_str();
        let profile = profiles.choose(make, protocol).ok_or_else(|| {
            unfit(&format!("no meter profile is for `{make}` with {protocol}"))
                .hint("write one, and name its folder with `--profiles`")
        })?;
        let text = |text: &Text<1, 64>| text.as_str().to_owned();
        let released = || {
            let host = package.comms.address.as_ref()?.expose().parse().ok()?;
            let port = package.comms.port?;
            Some(SocketAddr::new(host, port.get()))
        };
        Ok(ReleasedMeter {
            handover: self.handover,
            supply_point: package.supply_point.clone(),
            serial: package.meter.serial.clone(),
            address: address
                .or_else(released)
                .ok_or_else(|| unfit("the package names no address and port"))?,
            profile: profile.name.clone(),
            device,
            device_name: package.meter.device_name.as_ref().map(text),
            firmware: package.meter.firmware.as_ref().map(text),
            supply_start: package.supply_start_date.map(SupplyStartDate::effective_at),
            candidates,
            closing_read: None,
            repoint: None,
        })
    }
}

impl Opened {
    /// What the meter calls itself, and the secrets it may have, newest first.
    pub fn on_the_line(&self) -> Result<(DeviceId, Vec<Secrets>), Failure> {
        let package = self.packages.first();
        let missing = || Failure::new(Exit::Refused, "the release holds no package");
        let package = package.ok_or_else(missing)?;
        let manager = management(package).and_then(|index| package.credentials.get(index));
        Ok(match manager {
            Some(Credential::Dlms(dlms)) => (system_title(dlms)?, self.key_sets()?),
            _ => (outstation(package), self.password_sets()?),
        })
    }

    fn key_sets(&self) -> Result<Vec<Secrets>, Failure> {
        let sets = self
            .packages
            .iter()
            .filter_map(|package| key_set(package).transpose());
        sets.map(|set| set.map(Secrets::from)).collect()
    }

    /// Sets without the password that changes passwords are of no use.
    fn password_sets(&self) -> Result<Vec<Secrets>, Failure> {
        let passwords = self.packages.iter().filter_map(passwords);
        let sets = passwords.map(password_set).collect::<Result<Vec<_>, _>>()?;
        let sets: Vec<_> = sets
            .into_iter()
            .filter(|set| set.password(Level::Three).is_some())
            .map(Secrets::Passwords)
            .collect();
        if sets.is_empty() {
            let missing = "the package has neither DLMS keys nor a password of level 3";
            return Err(Failure::new(Exit::Refused, missing).hint(
                "reject it with `cos-escrow handover reject`: the losing supplier owes them",
            ));
        }
        Ok(sets)
    }
}

fn system_title(dlms: &Dlms) -> Result<DeviceId, Failure> {
    let title = dlms.system_title.as_ref().map(SecretHex::expose);
    let missing = || Failure::new(Exit::Refused, "the package names no system title");
    let title = SystemTitle::from_slice(title.ok_or_else(missing)?);
    title.map(DeviceId::SystemTitle).map_err(Failure::failed)
}

/// Without a name of its own, a meter is alone on its line.
fn outstation(package: &Package) -> DeviceId {
    let name = package.meter.outstation_id.as_ref();
    DeviceId::Outstation(name.map_or("", |name| name.as_str()).to_owned())
}

fn passwords(package: &Package) -> Option<&Password> {
    let mut credentials = package.credentials.iter();
    credentials.find_map(|credential| match credential {
        Credential::Password(password) => Some(password),
        Credential::Dlms(_) => None,
    })
}

fn password_set(password: &Password) -> Result<PasswordSet, Failure> {
    let levels = password.levels.iter().map(|level| {
        let secret = Secret::new(level.password.expose().as_bytes().to_vec());
        Ok((Level::try_from(level.level)?, secret))
    });
    let levels = levels.collect::<Result<Vec<_>, InvalidSecrets>>();
    let set = levels.and_then(PasswordSet::new);
    set.map_err(|error| Failure::new(Exit::Refused, error))
}

/// Seals what the journal keeps, under one key of the gaining supplier's.
pub struct JournalKey(Kek);

impl JournalKey {
    /// A new key.
    pub fn random(random: &dyn Random) -> Self {
        Self(Kek::random(random))
    }

    /// The key with these 32 bytes.
    pub fn from_secret(secret: &Secret) -> Result<Self, Failure> {
        Kek::from_secret(secret).map(Self).map_err(Failure::failed)
    }

    /// Its bytes, for the file that it is kept in.
    pub fn to_secret(&self) -> Secret {
        Secret::new(self.0.expose().to_vec())
    }
}

impl Sealer for JournalKey {
    fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.seal_at_rest(&journal(context), plain, &SystemRandom)
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Secret, SealError> {
        self.0
            .open_at_rest(&journal(context), sealed)
            .map_err(|_| SealError)
    }
}

fn journal(context: &[u8]) -> crate::envelope::Context {
    crate::envelope::Context::new("cos-escrow/journal/1").with("row", context)
}
