//! Simulated meters of both protocols: how they start, and what a losing supplier knows of them.

use std::net::SocketAddr;

use crate::cli::exit::{Exit, Failure};
use crate::cli::takeover::Opened;
use crate::dlms::SystemTitle;
use crate::dlms::keys::{KeyRole, Suite};
use crate::envelope::package::{
    Credential, Dlms, Level as PackageLevel, Password, SecretHex, SecretText, Text,
};
use crate::meter::link::DeviceId;
use crate::meter::profile::{Profiles, Protocol};
use crate::meter::secrets::{KeySet, Level, Secrets};
use crate::meter::simulate::iec62056_21 as mode_c;
use crate::meter::simulate::{Faults, MeterSeed, Simulator, UnknownFault};
use crate::types::{Secret, SystemRandom};

/// A simulated meter of either protocol.
pub enum AnySimulator {
    /// Of DLMS.
    Dlms(Simulator),
    /// Of IEC 62056-21 mode C.
    ModeC(mode_c::Simulator),
}

impl AnySimulator {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Dlms(meter) => meter.address(),
            Self::ModeC(meter) => meter.address(),
        }
    }

    /// Whether these are exactly its secrets.
    pub fn holds(&self, secrets: &Secrets) -> bool {
        match (self, secrets) {
            (Self::Dlms(meter), Secrets::Keys(keys)) => meter.state().holds(keys),
            (Self::ModeC(meter), Secrets::Passwords(passwords)) => {
                let state = meter.state();
                passwords.levels().all(|level| {
                    let password = passwords.password(level).map(Secret::expose);
                    password.is_some_and(|password| state.has(level.number(), password))
                })
            }
            _ => false,
        }
    }

    /// Whether any of these opens it.
    pub fn holds_any(&self, secrets: &Secrets) -> bool {
        match (self, secrets) {
            (Self::ModeC(meter), Secrets::Passwords(passwords)) => {
                let state = meter.state();
                let known = passwords
                    .levels()
                    .filter_map(|level| passwords.password(level));
                let mut pairs = known.flat_map(|known| (1..=3).map(move |level| (level, known)));
                pairs.any(|(level, known)| state.has(level, known.expose()))
            }
            _ => self.holds(secrets),
        }
    }

    /// How often a client protected two messages under one nonce; passwords have none.
    pub fn nonce_reuses(&self) -> u32 {
        match self {
            Self::Dlms(meter) => meter.state().nonce_reuses,
            Self::ModeC(_) => 0,
        }
    }

    /// Cuts all connections and stops listening.
    pub async fn stop(self) {
        match self {
            Self::Dlms(meter) => meter.stop().await,
            Self::ModeC(meter) => meter.stop().await,
        }
    }
}

/// How a simulated meter of either protocol starts.
pub enum Seed {
    /// Of DLMS.
    Dlms(MeterSeed),
    /// Of IEC 62056-21 mode C.
    ModeC(mode_c::MeterSeed),
}

impl Seed {
    /// The meter that a release is about: it has the secrets that were deposited, and shows what was read off it.
    pub fn like(opened: &Opened) -> Result<Self, Failure> {
        let (device, candidates) = opened.on_the_line()?;
        let package = opened.packages.first();
        let serial = package.map_or("", |package| package.meter.serial.original());
        let read = opened.closing_watt_hours();
        match (device, candidates.into_iter().next()) {
            (DeviceId::SystemTitle(title), Some(Secrets::Keys(keys))) => {
                let counter = keys.last_counter();
                let mut seed = MeterSeed::new(serial, title, keys);
                seed.last_counter = Some(counter);
                if let (Some(shown), Some(read)) = (seed.registers.first_mut(), read) {
                    shown.value = u32::try_from(read).map_err(Failure::failed)?;
                }
                Ok(Self::Dlms(seed))
            }
            (DeviceId::Outstation(outstation), Some(Secrets::Passwords(known))) => {
                // Levels that nobody handed over have passwords too.
                let [one, two, three] = new_passwords()?;
                let known = |level, unknown| match known.password(level) {
                    Some(known) => Secret::new(known.expose().to_vec()),
                    None => unknown,
                };
                let passwords = [
                    known(Level::One, one),
                    known(Level::Two, two),
                    known(Level::Three, three),
                ];
                let mut seed = mode_c::MeterSeed::new(serial, passwords);
                seed.outstation = outstation;
                if let (Some((_, shown, _)), Some(read)) = (seed.registers.first_mut(), read) {
                    *shown = format!("{:07}.{:02}", read / 1_000, read % 1_000 / 10);
                }
                Ok(Self::ModeC(seed))
            }
            _ => Err(Failure::failed("the release holds no secrets")),
        }
    }

    /// A new DLMS meter, and the keys that a losing supplier would hand over.
    pub fn dlms(serial: &str, title: SystemTitle) -> (Self, Credential) {
        let keys = KeySet::random(Suite::Zero, &SystemRandom);
        let credential = key_credential(title, &keys);
        (Self::Dlms(MeterSeed::new(serial, title, keys)), credential)
    }

    /// A new mode C meter, and the passwords that a losing supplier would hand over.
    pub fn mode_c(serial: &str) -> Result<(Self, Credential), Failure> {
        let passwords = new_passwords()?;
        let levels = (1..).zip(&passwords).filter_map(|(level, password)| {
            Some(PackageLevel {
                level,
                user: SecretText::from_text("")?,
                password: SecretText::from_text(str::from_utf8(password.expose()).ok()?)?,
            })
        });
        let credential = Credential::Password(Password {
            levels: levels.collect(),
            reader_password: None,
            pin: None,
            encryption_key: None,
        });
        let seed = mode_c::MeterSeed::new(serial, passwords);
        Ok((Self::ModeC(seed), credential))
    }

    /// What it is called by on its line.
    pub fn device(&self) -> String {
        match self {
            Self::Dlms(seed) => seed.system_title.to_string(),
            Self::ModeC(seed) => seed.outstation.clone(),
        }
    }

    /// Its serial number.
    pub fn serial(&self) -> &str {
        match self {
            Self::Dlms(seed) => &seed.serial,
            Self::ModeC(seed) => &seed.serial,
        }
    }

    /// Starts the meter, with faults by the names that its protocol has for them.
    pub async fn start(self, bind: SocketAddr, faults: &[&str]) -> Result<AnySimulator, Failure> {
        let unknown = |error: UnknownFault| Failure::new(Exit::Usage, error);
        let names = faults.iter().copied();
        let started = match self {
            Self::Dlms(seed) => {
                let faults = Faults::parse(names).map_err(unknown)?;
                let started = Simulator::start(bind, seed, faults).await;
                started.map(AnySimulator::Dlms)
            }
            Self::ModeC(seed) => {
                let faults = mode_c::Faults::parse(names).map_err(unknown)?;
                let started = mode_c::Simulator::start(bind, seed, faults).await;
                started.map(AnySimulator::ModeC)
            }
        };
        started.map_err(|error| Failure::failed(format!("{bind}: {error}")))
    }
}

/// Passwords of the form that the simulated mode C meters take.
fn new_passwords() -> Result<[Secret; 3], Failure> {
    let profiles = Profiles::built_in();
    let profile = profiles.choose(MAKE, "iec62056-21");
    let Some(Protocol::ModeC(mode_c)) = profile.map(|profile| &profile.protocol) else {
        return Err(Failure::failed("the simulated meters have no profile"));
    };
    let new = || mode_c.passwords.random(&SystemRandom);
    Ok([new(), new(), new()])
}

fn key_credential(title: SystemTitle, keys: &KeySet) -> Credential {
    let hex = |key: &Secret| SecretHex::from_secret(Secret::new(key.expose().to_vec()));
    Credential::Dlms(Box::new(Dlms {
        association: Text::from_text("management").expect("a short word"),
        client_sap: 1,
        mechanism: 5,
        suite: keys.suite().id(),
        system_title: SecretHex::from_secret(Secret::new(title.0.to_vec())),
        kek: hex(keys.kek()),
        guek: hex(keys.guek()),
        gak: hex(keys.gak()),
        gbek: keys.key(KeyRole::Gbek).and_then(hex),
        hls_secret: None,
        invocation_counter: Some(0),
        broadcast_counter: None,
    }))
}

/// The make of all simulated meters.
pub(super) const MAKE: &str = "Simulated";
