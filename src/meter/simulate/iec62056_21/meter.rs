//! What a simulated mode C meter remembers between connections.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{Faults, WriteFault};
use crate::iec62056_21::number::date_and_time;
use crate::types::{Clock as _, Digest, Secret, SystemClock};

/// How a simulated meter starts.
pub struct MeterSeed {
    /// The serial number.
    pub serial: String,
    /// The address that it is called by.
    pub outstation: String,
    /// Three letters of its maker, the speed, its type: what it answers to a call.
    pub identification: (String, char, String),
    /// What it sends with `P0`.
    pub seed: String,
    /// The passwords of levels 1, 2 and 3.
    pub passwords: [Secret; 3],
    /// What its registers show, with the unit.
    pub registers: Vec<(String, String, String)>,
    /// The access point name.
    pub apn: String,
    /// Where it reports to.
    pub destination: String,
}

impl MeterSeed {
    /// A meter with these passwords, at a supplier that loses it; registers and settings as good as any.
    pub fn new(serial: &str, passwords: [Secret; 3]) -> Self {
        let energy =
            |address: &str, value: &str| (address.to_owned(), value.to_owned(), "kWh".to_owned());
        Self {
            serial: serial.to_owned(),
            outstation: serial.to_owned(),
            identification: ("SIM".to_owned(), '5', "MC100".to_owned()),
            seed: "00000000".to_owned(),
            passwords,
            registers: vec![
                energy(TOTAL, "0012345.67"),
                energy("1.8.1", "0008230.45"),
                energy("1.8.2", "0004115.22"),
                energy("2.8.0", "0000000.04"),
            ],
            apn: "loser.smart".to_owned(),
            destination: "10.0.0.1:4000".to_owned(),
        }
    }
}

/// What a simulated meter is like at one moment.
#[derive(Clone, Debug)]
pub struct MeterState {
    /// Its passwords, hashed.
    pub passwords: [Digest; 3],
    /// Wrong passwords since the last right one.
    pub failures: u32,
    /// Wrong passwords in all.
    pub failures_in_all: u32,
    /// The most wrong passwords there ever were between two right ones.
    pub most_failures: u32,
    /// Right passwords.
    pub logins: u32,
    /// Writes that were asked for by somebody who may write.
    pub writes: u32,
    /// How many different passwords each level ever had, the first included.
    pub passwords_seen: [usize; 3],
    /// How often it locked.
    pub locks: u32,
    /// The access point name.
    pub apn: String,
    /// Where it reports to.
    pub destination: String,
}

impl MeterState {
    /// Whether this is exactly the password of a level from 1 to 3.
    pub fn has(&self, level: u8, password: &[u8]) -> bool {
        let index = usize::from(level).checked_sub(1);
        index.and_then(|index| self.passwords.get(index)) == Some(&Digest::of(password))
    }
}

pub(super) struct Meter {
    pub(super) seed: MeterSeed,
    pub(super) faults: Faults,
    clock_set_to: Option<(String, String)>,
    passwords_seen: [Vec<Digest>; 3],
    failures: u32,
    failures_in_all: u32,
    most_failures: u32,
    logins: u32,
    writes: u32,
    locks: u32,
    locked_until: Option<Instant>,
}

/// What a write comes to.
pub(super) enum Written {
    /// Stored, or not, and the answer.
    Said(Answer),
    /// The connection dies.
    Dead,
    /// To be stored when the session ends.
    Later,
}

/// What the meter says to a write.
pub(super) enum Answer {
    Done,
    No(&'static str),
}

impl Meter {
    pub(super) fn new(seed: MeterSeed, faults: Faults) -> Self {
        let seen = seed.passwords.each_ref();
        Self {
            passwords_seen: seen.map(|password| vec![Digest::of(password.expose())]),
            seed,
            faults,
            clock_set_to: None,
            failures: 0,
            failures_in_all: 0,
            most_failures: 0,
            logins: 0,
            writes: 0,
            locks: 0,
            locked_until: None,
        }
    }

    pub(super) fn state(&self) -> MeterState {
        let passwords = self.seed.passwords.each_ref();
        MeterState {
            passwords: passwords.map(|password| Digest::of(password.expose())),
            failures: self.failures,
            failures_in_all: self.failures_in_all,
            most_failures: self.most_failures,
            logins: self.logins,
            writes: self.writes,
            passwords_seen: self.passwords_seen.each_ref().map(Vec::len),
            locks: self.locks,
            apn: self.seed.apn.clone(),
            destination: self.seed.destination.clone(),
        }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.locked_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// The level that a password opens. A wrong one counts.
    pub(super) fn log_in(&mut self, password: &str) -> Option<u8> {
        let opened = (1..).zip(&self.seed.passwords);
        let opened = opened.filter(|(_, own)| own.expose() == password.as_bytes());
        let level = opened.map(|(level, _)| level).last();
        match level {
            Some(_) => {
                self.logins += 1;
                self.failures = 0;
            }
            None => self.fail(),
        }
        level
    }

    fn fail(&mut self) {
        self.failures += 1;
        self.failures_in_all += 1;
        self.most_failures = self.most_failures.max(self.failures);
        let lock_out = self.faults.lock_out;
        if let Some(lock_out) = lock_out.filter(|lock| self.failures >= lock.failures) {
            self.locked_until = Some(Instant::now() + lock_out.duration);
            self.locks += 1;
            self.failures = 0;
        }
    }

    fn serial(&self) -> String {
        let shown = self.faults.shows_serial.as_ref();
        shown.unwrap_or(&self.seed.serial).clone()
    }

    /// What the meter tells everybody.
    pub(super) fn readout(&self) -> BTreeMap<String, (String, Option<String>)> {
        let registers = self.seed.registers.iter();
        let total = registers.filter(|(address, ..)| address == TOTAL);
        let total = total
            .map(|(address, value, unit)| (address.clone(), (value.clone(), Some(unit.clone()))));
        let serial = (SERIAL.to_owned(), (self.serial(), None));
        total.chain([serial]).collect()
    }

    /// What a register shows to somebody who has logged in, with its unit.
    pub(super) fn read(&self, address: &str) -> Result<(String, Option<String>), &'static str> {
        let (date, time) = match &self.clock_set_to {
            Some((date, time)) => (date.clone(), time.clone()),
            None => date_and_time(SystemClock.now()),
        };
        let own = match address {
            SERIAL => self.serial(),
            ADDRESS => self.seed.outstation.clone(),
            FIRMWARE => "1.0.3".to_owned(),
            TIME => time,
            DATE => date,
            APN => self.seed.apn.clone(),
            DESTINATION => self.seed.destination.clone(),
            password if PASSWORDS.contains(&password) => return Err(NOT_ALLOWED),
            other => {
                let mut registers = self.seed.registers.iter();
                let (_, value, unit) = registers.find(|(name, ..)| name == other).ok_or(UNKNOWN)?;
                return Ok((value.clone(), Some(unit.clone())));
            }
        };
        Ok((own, None))
    }

    /// A write at a level, with whatever goes wrong with it.
    pub(super) fn write(&mut self, level: u8, address: &str, value: &str) -> Written {
        if let Err(refusal) = self.may_write(level, address, value) {
            return Written::Said(Answer::No(refusal));
        }
        self.writes += 1;
        match self.faults.take_write(self.writes) {
            None => {
                self.store(address, value);
                Written::Said(Answer::Done)
            }
            Some(WriteFault::DropAfter) => {
                self.store(address, value);
                Written::Dead
            }
            Some(WriteFault::CrashBefore) => Written::Dead,
            Some(WriteFault::Refuse) => Written::Said(Answer::No(NOT_ALLOWED)),
            Some(WriteFault::DenyAfter) => {
                self.store(address, value);
                Written::Said(Answer::No(NOT_ALLOWED))
            }
            Some(WriteFault::Defer) => Written::Later,
        }
    }

    fn may_write(&self, level: u8, address: &str, value: &str) -> Result<(), &'static str> {
        let (needed, fits) = match address {
            TIME | DATE => (
                2,
                value.len() == 6 && value.bytes().all(|b| b.is_ascii_digit()),
            ),
            APN | DESTINATION => (3, (1..=100).contains(&value.len())),
            password if PASSWORDS.contains(&password) => {
                let allowed = |byte: u8| PASSWORD_CHARACTERS.as_bytes().contains(&byte);
                (
                    3,
                    value.len() == PASSWORD_LENGTH && value.bytes().all(allowed),
                )
            }
            _ => {
                return Err(self
                    .read(address)
                    .map_or_else(|error| error, |_| NOT_ALLOWED));
            }
        };
        match (level >= needed, fits) {
            (false, _) => Err(NOT_ALLOWED),
            (true, false) => Err(NOT_SUCH_A_VALUE),
            (true, true) => Ok(()),
        }
    }

    pub(super) fn store(&mut self, address: &str, value: &str) {
        let text = value.to_owned();
        match address {
            APN => self.seed.apn = text,
            DESTINATION => self.seed.destination = text,
            TIME | DATE => {
                let now = date_and_time(SystemClock.now());
                let (date, time) = self.clock_set_to.get_or_insert(now);
                *(if address == TIME { time } else { date }) = text;
            }
            password => {
                if let Some(index) = PASSWORDS.iter().position(|name| *name == password) {
                    let (digest, seen) = (
                        Digest::of(value.as_bytes()),
                        &mut self.passwords_seen[index],
                    );
                    if !seen.contains(&digest) {
                        seen.push(digest);
                    }
                    self.seed.passwords[index] = Secret::new(text.into_bytes());
                }
            }
        }
    }
}

/// The length of its passwords.
pub const PASSWORD_LENGTH: usize = 8;
/// The characters that they may be made of.
pub const PASSWORD_CHARACTERS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

const SERIAL: &str = "C.1.0";
const ADDRESS: &str = "0.0.0";
const FIRMWARE: &str = "0.2.0";
const TIME: &str = "0.9.1";
const DATE: &str = "0.9.2";
const TOTAL: &str = "1.8.0";
const APN: &str = "C090.APN";
const DESTINATION: &str = "C091.DST";
const PASSWORDS: [&str; 3] = ["C003.1", "C003.2", "C003.3"];

const UNKNOWN: &str = "ERR1";
/// Nobody has logged in.
pub(super) const NOBODY: &str = "ERR2";
const NOT_ALLOWED: &str = "ERR3";
const NOT_SUCH_A_VALUE: &str = "ERR4";
