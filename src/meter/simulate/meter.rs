//! What a simulated meter remembers between connections.

use std::collections::HashSet;
use std::time::Instant;

use super::association::{INSTALLER, READER};
use super::{Faults, TransferFault};
use crate::dlms::SystemTitle;
use crate::dlms::ciphering::CipherKeys;
use crate::dlms::keys::{KeyRole, Suite, WrappedKey, key_name, unwrap};
use crate::dlms::obis::Obis;
use crate::dlms::objects::{PushDestination, ScalerUnit};
use crate::dlms::service::{DENIED, SUCCESS, TEMPORARY_FAILURE, TYPE_UNMATCHED, UNDEFINED};
use crate::meter::secrets::{KeySet, Role};
use crate::types::{Digest, Secret};

/// How a simulated meter starts.
pub struct MeterSeed {
    /// The serial number.
    pub serial: String,
    /// The logical device name.
    pub device_name: String,
    /// The system title.
    pub system_title: SystemTitle,
    /// The keys.
    pub keys: KeySet,
    /// The last counter it accepted, if it accepted any.
    pub last_counter: Option<u32>,
    /// What its registers show.
    pub registers: Vec<SeedRegister>,
    /// The access point name.
    pub apn: String,
    /// Where it pushes.
    pub destination: String,
    /// The port that it believes to listen at.
    pub port: u16,
    /// Its firmware.
    pub firmware: String,
    /// In what it differs from others without being wrong.
    pub manners: Manners,
    /// Its clients besides the public one and the manager.
    pub others: Option<OtherClients>,
}

/// Clients of a simulated meter besides the public one and the manager.
pub struct OtherClients {
    /// The password of client 2, which reads.
    pub password: Secret,
    /// The keys of client 3, in a security set-up of its own, which the manager changes.
    pub installer: KeySet,
}

/// In what a simulated meter differs from others without being wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Manners {
    /// It protects every answer with general-glo-ciphering, whatever the request came in.
    pub answers_general: bool,
    /// It knows no requests for several attributes.
    pub takes_no_lists: bool,
    /// It connects to one destination only.
    pub has_one_destination: bool,
    /// How it takes new passwords of other clients.
    pub secrets: SecretManner,
}

/// How a simulated meter takes the new password of another client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SecretManner {
    /// Written to attribute 7.
    #[default]
    Attribute,
    /// By method 2.
    Plain,
    /// By method 2, wrapped under the key encryption key.
    Wrapped,
    /// Not at all.
    Never,
}

/// One register of a simulated meter.
#[derive(Clone, Copy, Debug)]
pub struct SeedRegister {
    /// Its name.
    pub register: Obis,
    /// Its value.
    pub value: u32,
    /// Its scaler and unit.
    pub scaler_unit: ScalerUnit,
}

impl MeterSeed {
    /// A meter with these keys, at a supplier that loses it; registers and settings as good as any.
    pub fn new(serial: &str, system_title: SystemTitle, keys: KeySet) -> Self {
        let watt_hours = |register, value, scaler| SeedRegister {
            register,
            value,
            scaler_unit: ScalerUnit { scaler, unit: 30 },
        };
        let [total, first, second, exported] = Obis::ENERGY;
        Self {
            serial: serial.to_owned(),
            device_name: format!("SIM{serial}"),
            system_title,
            keys,
            last_counter: None,
            registers: vec![
                watt_hours(total, 123_456_789, 0),
                watt_hours(first, 82_304_526, 0),
                watt_hours(second, 41_152_263, 0),
                watt_hours(exported, 4, 1),
            ],
            apn: "loser.smart".to_owned(),
            destination: "10.0.0.1".to_owned(),
            port: 4059,
            firmware: "1.0".to_owned(),
            manners: Manners::default(),
            others: None,
        }
    }
}

/// What a simulated meter is like at one moment.
#[derive(Clone, Debug)]
pub struct MeterState {
    keys: [Option<Digest>; 4],
    /// The last counter it accepted.
    pub last_counter: Option<u32>,
    /// Bad tags and failed proofs since the last good login.
    pub failures: u32,
    /// Bad tags and failed proofs in all.
    pub failures_in_all: u32,
    /// Logins that went well.
    pub logins: u32,
    /// Who tried to log in, and whether it went well, in order.
    pub attempts: Vec<(SystemTitle, bool)>,
    /// Transfers of keys that were asked for.
    pub transfers: u32,
    /// How often a client protected two messages under one nonce. Must be zero.
    pub nonce_reuses: u32,
    /// How many different keys it has ever been given, by role: GUEK, GBEK, GAK, KEK.
    pub keys_seen: [usize; 4],
    /// Whether it lets nobody in.
    pub is_locked: bool,
    /// The access point name.
    pub apn: String,
    /// Where it pushes.
    pub destination: String,
    /// The port that it believes to listen at.
    pub port: u16,
    /// Where it connects to by itself.
    pub destinations: Vec<String>,
    /// How many destinations the list ever had at once.
    pub most_destinations: usize,
    /// The password of client 2 and the keys of client 3, by their names.
    others: Vec<(Role, Digest)>,
}

impl MeterState {
    /// The names of its keys, in the order of `keys_seen`.
    pub fn key_names(&self) -> [Option<Digest>; 4] {
        self.keys
    }

    /// Whether these are exactly its keys: encryption, authentication, key encryption, and broadcast where the set has one.
    pub fn holds(&self, set: &KeySet) -> bool {
        [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek, KeyRole::Gbek]
            .into_iter()
            .filter_map(|role| set.key(role).map(|key| (role, key)))
            .all(|(role, key)| self.keys[index(role)] == Some(key_name(key)))
    }

    /// Whether it has this secret of the set: one of another client.
    pub fn has_of(&self, set: &KeySet, role: Role) -> bool {
        let mut others = set.others();
        let secret = others.find(|(found, _)| *found == role);
        secret.is_some_and(|(_, secret)| self.others.contains(&(role, key_name(secret))))
    }
}

pub(super) struct Meter {
    pub(super) serial: String,
    pub(super) device_name: String,
    pub(super) firmware: String,
    pub(super) manners: Manners,
    pub(super) others: Option<OtherClients>,
    pub(super) title: SystemTitle,
    pub(super) suite: Suite,
    pub(super) registers: Vec<SeedRegister>,
    pub(super) apn: Vec<u8>,
    pub(super) push: PushDestination,
    pub(super) port: u16,
    pub(super) destinations: Vec<Vec<u8>>,
    pub(super) most_destinations: usize,
    pub(super) last_counter: Option<u32>,
    pub(super) faults: Faults,
    keys: [Option<Secret>; 4],
    keys_seen: [HashSet<Digest>; 4],
    answered: u32,
    failures: u32,
    failures_in_all: u32,
    logins: u32,
    attempts: Vec<(SystemTitle, bool)>,
    /// Whether somebody has an association.
    pub(super) is_open: bool,
    transfers: u32,
    nonces: HashSet<(Digest, SystemTitle, u32)>,
    nonce_reuses: u32,
    locked_until: Option<Instant>,
}

/// Keys on their way into the meter, and what the client hears of it.
pub(super) struct Staged {
    pub(super) result: u8,
    pub(super) keys: Vec<(KeyRole, Secret)>,
    pub(super) when: When,
}

/// When staged keys count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum When {
    /// Before the answer, which is protected with them.
    BeforeAnswer,
    /// After the answer.
    AfterAnswer,
    /// When the association ends.
    AtTheEnd,
    /// At once; there is no answer.
    NoAnswer,
}

impl Meter {
    pub(super) fn new(seed: MeterSeed, faults: Faults) -> Self {
        let copy = |role| {
            seed.keys
                .key(role)
                .map(|key| Secret::new(key.expose().to_vec()))
        };
        let mut meter = Self {
            serial: seed.serial,
            device_name: seed.device_name,
            firmware: seed.firmware,
            manners: seed.manners,
            others: seed.others,
            title: seed.system_title,
            suite: seed.keys.suite(),
            registers: seed.registers,
            apn: seed.apn.into_bytes(),
            push: PushDestination::tcp(&seed.destination),
            port: seed.port,
            destinations: Vec::new(),
            most_destinations: 0,
            last_counter: seed.last_counter,
            faults,
            keys: [None, None, None, None],
            keys_seen: Default::default(),
            answered: 0,
            failures: 0,
            failures_in_all: 0,
            logins: 0,
            attempts: Vec::new(),
            is_open: false,
            transfers: 0,
            nonces: HashSet::new(),
            nonce_reuses: 0,
            locked_until: None,
        };
        for role in [KeyRole::Guek, KeyRole::Gbek, KeyRole::Gak, KeyRole::Kek] {
            meter.keys[index(role)] = copy(role);
        }
        meter
    }

    pub(super) fn state(&self) -> MeterState {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        MeterState {
            keys: self.keys.each_ref().map(|key| key.as_ref().map(key_name)),
            last_counter: self.last_counter,
            failures: self.failures,
            failures_in_all: self.failures_in_all,
            logins: self.logins,
            attempts: self.attempts.clone(),
            transfers: self.transfers,
            nonce_reuses: self.nonce_reuses,
            keys_seen: self.keys_seen.each_ref().map(HashSet::len),
            is_locked: self.is_locked(),
            apn: text(&self.apn),
            destination: text(&self.push.destination),
            port: self.port,
            destinations: self.destinations.iter().map(|bytes| text(bytes)).collect(),
            most_destinations: self.most_destinations,
            others: self.other_secrets(),
        }
    }

    fn other_secrets(&self) -> Vec<(Role, Digest)> {
        let Some(others) = &self.others else {
            return Vec::new();
        };
        let installer = [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek].map(|key| {
            let secret = others.installer.key(key).expect("a key set has all three");
            (Role::ClientKey(INSTALLER, key), key_name(secret))
        });
        let reader = (Role::Client(READER), key_name(&others.password));
        [reader].into_iter().chain(installer).collect()
    }

    pub(super) fn cipher_keys(&self) -> CipherKeys<'_> {
        CipherKeys {
            guek: self.key(KeyRole::Guek),
            gak: self.key(KeyRole::Gak),
        }
    }

    fn key(&self, role: KeyRole) -> &Secret {
        self.keys[index(role)]
            .as_ref()
            .expect("a key set has GUEK, GAK and KEK")
    }

    pub(super) fn next_answer(&mut self) -> u32 {
        self.answered += 1;
        self.answered
    }

    pub(super) fn is_locked(&self) -> bool {
        self.locked_until
            .is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn fail(&mut self, client: SystemTitle) {
        self.attempts.push((client, false));
        self.failures += 1;
        self.failures_in_all += 1;
        if let Some(lock_out) = self
            .faults
            .lock_out
            .filter(|lock| self.failures >= lock.failures)
        {
            self.locked_until = Some(Instant::now() + lock_out.duration);
            self.failures = 0;
        }
    }

    pub(super) fn log_in(&mut self, client: SystemTitle) {
        self.attempts.push((client, true));
        self.logins += 1;
        self.failures = 0;
    }

    /// Notes under what a client protected a message that opened.
    pub(super) fn note_nonce(&mut self, title: SystemTitle, counter: u32) {
        let key = key_name(self.key(KeyRole::Guek));
        if !self.nonces.insert((key, title, counter)) {
            self.nonce_reuses += 1;
        }
    }

    /// Method 2 of the security set-up.
    pub(super) fn transfer(&mut self, wrapped: &[WrappedKey]) -> Staged {
        self.transfers += 1;
        let fault = self.faults.take_transfer(self.transfers);
        let refuse = |result| Staged {
            result,
            keys: Vec::new(),
            when: When::AfterAnswer,
        };
        if fault == Some(TransferFault::Reject) {
            return refuse(DENIED);
        }
        let mut keys = Vec::new();
        let lacked = self.faults.lacks_gbek.then_some(KeyRole::Gbek);
        if wrapped.iter().any(|item| Some(item.role) == lacked) {
            return refuse(DENIED);
        }
        for item in wrapped {
            let Ok(key) = unwrap(self.key(KeyRole::Kek), &item.bytes) else {
                return refuse(TEMPORARY_FAILURE);
            };
            if key.expose().len() != self.suite.key_bytes() {
                return refuse(TYPE_UNMATCHED);
            }
            self.keys_seen[index(item.role)].insert(key_name(&key));
            keys.push((item.role, key));
        }
        let (kept, result, when) = match fault {
            Some(TransferFault::CrashBefore) => (0, 0, When::NoAnswer),
            Some(TransferFault::Partial) => (1, 0, When::NoAnswer),
            Some(TransferFault::DropResponse) => (keys.len(), 0, When::NoAnswer),
            Some(TransferFault::RejectSecond) => (1, TEMPORARY_FAILURE, When::BeforeAnswer),
            Some(TransferFault::AnswerNewKey) => (keys.len(), 0, When::BeforeAnswer),
            Some(TransferFault::Defer) => (keys.len(), 0, When::AtTheEnd),
            Some(TransferFault::Reject) | None => (keys.len(), 0, When::AfterAnswer),
        };
        keys.truncate(kept);
        Staged { result, keys, when }
    }

    /// Method 2 of client 3's security set-up: never fails on request.
    pub(super) fn transfer_to_installer(&mut self, wrapped: &[WrappedKey]) -> u8 {
        let Some(others) = &mut self.others else {
            return UNDEFINED;
        };
        let old = &others.installer;
        let mut keys = [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek].map(|role| {
            old.key(role)
                .expect("a key set has all three")
                .expose()
                .to_vec()
        });
        for item in wrapped {
            let Ok(key) = unwrap(old.kek(), &item.bytes) else {
                return TEMPORARY_FAILURE;
            };
            let place = match item.role {
                KeyRole::Guek => 0,
                KeyRole::Gak => 1,
                KeyRole::Kek => 2,
                KeyRole::Gbek => return DENIED,
            };
            keys[place] = key.expose().to_vec();
        }
        let [guek, gak, kek] = keys.map(Secret::new);
        match KeySet::new(old.suite(), guek, gak, kek) {
            Ok(installer) => others.installer = installer,
            Err(_) => return TYPE_UNMATCHED,
        }
        SUCCESS
    }

    /// Gives client 2 another password, in the form that `manner` says.
    pub(super) fn set_password(&mut self, manner: SecretManner, secret: &[u8]) -> u8 {
        let unwrapped = match manner == SecretManner::Wrapped {
            true => unwrap(self.key(KeyRole::Kek), secret).ok(),
            false => Some(Secret::new(secret.to_vec())),
        };
        match (&mut self.others, unwrapped) {
            (Some(others), Some(password)) if self.manners.secrets == manner => {
                others.password = password;
                SUCCESS
            }
            _ => DENIED,
        }
    }

    pub(super) fn commit(&mut self, keys: Vec<(KeyRole, Secret)>) {
        for (role, key) in keys {
            self.keys[index(role)] = Some(key);
            if role == KeyRole::Guek && !self.faults.keeps_counter {
                self.last_counter = None;
                self.answered = 0;
            }
        }
    }
}

fn index(role: KeyRole) -> usize {
    role.id().into()
}
