//! Simulated meters of both protocols: how they start, and what a losing supplier knows of them.

use std::net::SocketAddr;

use crate::cli::exit::{Exit, Failure};
use crate::cli::takeover::Opened;
use crate::dlms::SystemTitle;
use crate::dlms::acse::{GMAC, LLS};
use crate::dlms::keys::{KeyRole, Suite};
use crate::envelope::package::{
    Credential, Dlms, Level as PackageLevel, Password, SecretHex, SecretText, Text,
};
use crate::meter::link::DeviceId;
use crate::meter::profile::{Profiles, Protocol};
use crate::meter::secrets::{KeySet, Level, Role, Secrets};
use crate::meter::simulate::iec62056_21 as mode_c;
use crate::meter::simulate::{Faults, MeterSeed, OtherClients, Simulator, UnknownFault};
use crate::types::{Random as _, Secret, SystemRandom};

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

    /// The meter, if it is one of DLMS.
    pub fn dlms(&self) -> Option<&Simulator> {
        match self {
            Self::Dlms(meter) => Some(meter),
            Self::ModeC(_) => None,
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
        let generation = opened.generations.first();
        let generation =
            generation.ok_or_else(|| Failure::failed("the release holds no package"))?;
        let serial = generation.package.meter.serial.original();
        let read = opened.closing_watt_hours();
        match (generation.device()?, generation.secrets()?) {
            (DeviceId::SystemTitle(title), Secrets::Keys(keys)) => {
                let (counter, others) = (keys.last_counter(), others_of(&keys));
                let mut seed = MeterSeed::new(serial, title, keys);
                seed.others = others;
                seed.last_counter = Some(counter);
                if let (Some(shown), Some(read)) = (seed.registers.first_mut(), read) {
                    shown.value = u32::try_from(read).map_err(Failure::failed)?;
                }
                Ok(Self::Dlms(seed))
            }
            (DeviceId::Outstation(outstation), Secrets::Passwords(known)) => {
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
    pub fn dlms(serial: &str, title: SystemTitle) -> (Self, Vec<Credential>) {
        let keys = KeySet::random(Suite::Zero, &SystemRandom);
        let credential = key_credential(("management", MANAGER), Some(title), &keys);
        let seed = MeterSeed::new(serial, title, keys);
        (Self::Dlms(seed), vec![credential])
    }

    /// The same with further clients: one that reads with a password, one that installs with keys of its own.
    pub fn dlms_with_others(serial: &str, title: SystemTitle) -> (Self, Vec<Credential>) {
        let keys = KeySet::random(Suite::Zero, &SystemRandom);
        let installer = KeySet::random(Suite::Zero, &SystemRandom);
        let mut password = [0; 8];
        SystemRandom.fill(&mut password);
        let password = password.map(|byte| b'A' + byte % 16);
        let credentials = vec![
            key_credential(("management", MANAGER), Some(title), &keys),
            password_credential(&Secret::new(password.to_vec())),
            key_credential(("installer", INSTALLER), None, &installer),
        ];
        let mut seed = MeterSeed::new(serial, title, keys);
        seed.others = Some(OtherClients {
            password: Secret::new(password.to_vec()),
            installer,
        });
        (Self::Dlms(seed), credentials)
    }

    /// A new mode C meter, and the passwords that a losing supplier would hand over.
    pub fn mode_c(serial: &str) -> Result<(Self, Vec<Credential>), Failure> {
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
        Ok((Self::ModeC(seed), vec![credential]))
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

/// The further clients of a meter whose package names both of them.
fn others_of(keys: &KeySet) -> Option<OtherClients> {
    let copy = |role| {
        let mut others = keys.others();
        let (_, secret) = others.find(|(found, _)| *found == role)?;
        Some(Secret::new(secret.expose().to_vec()))
    };
    let key = |key| copy(Role::ClientKey(INSTALLER, key));
    let (guek, gak, kek) = (key(KeyRole::Guek)?, key(KeyRole::Gak)?, key(KeyRole::Kek)?);
    Some(OtherClients {
        password: copy(Role::Client(READER))?,
        installer: KeySet::new(keys.suite(), guek, gak, kek).ok()?,
    })
}

fn key_credential(
    (name, client): (&str, u16),
    title: Option<SystemTitle>,
    keys: &KeySet,
) -> Credential {
    let title = title.map(|title| Secret::new(title.0.to_vec()));
    Credential::Dlms(Box::new(Dlms {
        system_title: title.and_then(SecretHex::from_secret),
        kek: hex(keys.kek()),
        guek: hex(keys.guek()),
        gak: hex(keys.gak()),
        gbek: keys.key(KeyRole::Gbek).and_then(hex),
        invocation_counter: Some(0),
        ..nothing(name, client, GMAC)
    }))
}

fn password_credential(password: &Secret) -> Credential {
    Credential::Dlms(Box::new(Dlms {
        hls_secret: hex(password),
        ..nothing("reader", READER, LLS)
    }))
}

fn nothing(name: &str, client_sap: u16, mechanism: u8) -> Dlms {
    Dlms {
        association: Text::from_text(name).expect("a short word"),
        client_sap,
        mechanism,
        suite: Suite::Zero.id(),
        system_title: None,
        kek: None,
        guek: None,
        gak: None,
        gbek: None,
        hls_secret: None,
        invocation_counter: None,
        broadcast_counter: None,
    }
}

fn hex<const LEAST: usize, const MOST: usize>(secret: &Secret) -> Option<SecretHex<LEAST, MOST>> {
    SecretHex::from_secret(Secret::new(secret.expose().to_vec()))
}

/// The clients of simulated DLMS meters.
const MANAGER: u16 = 1;
const READER: u16 = 2;
const INSTALLER: u16 = 3;

/// The make of all simulated meters.
pub(super) const MAKE: &str = "Simulated";
