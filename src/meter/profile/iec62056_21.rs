//! The part of a profile that is about IEC 62056-21 mode C.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::dlms::obis::Obis;
use crate::iec62056_21::data::DataSet;
use crate::meter::link::{Item, SettingName};
use crate::meter::secrets::Level;
use crate::types::{Random, Secret};

/// How a type of mode C meter is spoken to. The standard has no names for passwords and settings: every maker has its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeC {
    /// Whether it tells its serial number to anybody who asks for a readout.
    #[serde(default = "yes")]
    pub readout: bool,
    /// How a password answers a seed.
    #[serde(default)]
    pub login: LoginForm,
    /// What its passwords may be, and where they are.
    pub passwords: Passwords,
    /// Where things are.
    #[serde(default)]
    pub registers: Registers,
    /// Where communication settings are.
    #[serde(default)]
    pub settings: Settings,
    /// What is read at a change of supplier, the total import first.
    pub read: Vec<ReadRegister>,
}

/// How a password answers a seed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum LoginForm {
    /// With `P1`, as it is.
    #[default]
    Plain,
}

/// What the passwords of a type of meter may be, and where they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// How many characters: always exactly these, for meters cut longer ones off and say nothing.
    pub length: usize,
    /// Which characters.
    pub characters: String,
    /// How many wrong passwords in a row are dared before a pause: fewer than make the meter lock.
    #[serde(default = "wrong_in_a_row")]
    pub wrong_in_a_row: u32,
    /// The registers that take new passwords. All are written at level 3.
    level_1: Option<String>,
    level_2: Option<String>,
    level_3: String,
}

/// The registers of what a takeover needs; what is not named, the meter has not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registers {
    /// The serial number on the plate.
    pub serial: Option<String>,
    /// The firmware.
    pub firmware: Option<String>,
    /// The date, `yymmdd`.
    pub date: Option<String>,
    /// The time, `hhmmss`.
    pub time: Option<String>,
}

/// The registers of communication settings; what is not named, the meter has not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    apn: Option<String>,
    push: Option<String>,
    port: Option<String>,
}

/// A register that is read at a change of supplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadRegister {
    /// Where it is in the meter, such as `1.8.0`.
    pub at: String,
    /// What it is, by the name that all protocols share, such as `1.0.1.8.0.255`.
    pub is: Obis,
}

impl ModeC {
    /// The register that holds a setting, if the meter has it.
    pub fn setting(&self, name: SettingName) -> Option<&str> {
        match name {
            SettingName::Apn => self.settings.apn.as_deref(),
            SettingName::PushDestination => self.settings.push.as_deref(),
            SettingName::Port => self.settings.port.as_deref(),
            SettingName::AutoConnect => None,
        }
    }

    /// Whether the meter tells an item.
    pub fn shows(&self, item: Item) -> bool {
        let registers = &self.registers;
        match item {
            Item::DeviceName => true,
            Item::Serial => registers.serial.is_some(),
            Item::Firmware => registers.firmware.is_some(),
            Item::Clock => registers.date.is_some() && registers.time.is_some(),
            Item::Counter => false,
        }
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.passwords.problem().or_else(|| {
            if !(1..=MAX_REGISTERS).contains(&self.read.len()) {
                let read = self.read.len();
                return Some(format!(
                    "`iec62056-21.read` has `{read}` registers, not from 1 to {MAX_REGISTERS}"
                ));
            }
            let wrong = self
                .addresses()
                .find(|address| address.is_empty() || DataSet::of(address).is_err())?;
            Some(format!("`{wrong}` is not the address of a register"))
        })
    }

    fn addresses(&self) -> impl Iterator<Item = &String> {
        let (registers, settings) = (&self.registers, &self.settings);
        let named = [
            &registers.serial,
            &registers.firmware,
            &registers.date,
            &registers.time,
            &settings.apn,
            &settings.push,
            &settings.port,
            &self.passwords.level_1,
            &self.passwords.level_2,
        ];
        let read = self.read.iter().map(|register| &register.at);
        let named = named.into_iter().flatten();
        named.chain([&self.passwords.level_3]).chain(read)
    }
}

impl Passwords {
    /// Where the passwords that can be changed are, by level.
    pub fn registers(&self) -> BTreeMap<Level, &str> {
        let lower = [(Level::One, &self.level_1), (Level::Two, &self.level_2)];
        let lower = lower
            .into_iter()
            .filter_map(|(level, register)| register.as_deref().map(|register| (level, register)));
        lower
            .chain([(Level::Three, self.level_3.as_str())])
            .collect()
    }

    /// A password of this form, every character as likely as any other.
    pub fn random(&self, random: &dyn Random) -> Secret {
        let characters = self.characters.as_bytes();
        let fair = 256 - 256 % characters.len();
        let mut password = Vec::with_capacity(self.length);
        while password.len() < self.length {
            let mut byte = [0];
            random.fill(&mut byte);
            let at = usize::from(byte[0]);
            if at < fair {
                password.push(characters[at % characters.len()]);
            }
        }
        Secret::new(password)
    }

    fn problem(&self) -> Option<String> {
        let characters = self.characters.as_bytes();
        let repeated = (1..characters.len()).any(|at| characters[..at].contains(&characters[at]));
        if repeated || DataSet::new("", &self.characters, None).is_err() {
            let wrong = "`iec62056-21.passwords.characters` repeats one, or has one that the line cannot carry";
            return Some(wrong.to_owned());
        }
        // Fewer make passwords that are guessed before they are changed again.
        let choices = u32::try_from(self.length)
            .ok()
            .map(|length| characters.len().saturating_pow(length));
        if self.length > MAX_PASSWORD || choices.is_none_or(|choices| choices < MIN_CHOICES) {
            let (length, count) = (self.length, characters.len());
            return Some(format!(
                "passwords of {length} out of {count} characters are too short or too long"
            ));
        }
        (self.wrong_in_a_row == 0)
            .then(|| "`iec62056-21.passwords.wrong_in_a_row` is `0`".to_owned())
    }
}

fn yes() -> bool {
    true
}

/// Meters that count lock at three or more.
fn wrong_in_a_row() -> u32 {
    2
}

/// More than any meter shows to a customer.
const MAX_REGISTERS: usize = 32;
/// What P1 carries.
const MAX_PASSWORD: usize = 32;
const MIN_CHOICES: usize = 100_000_000;

#[cfg(test)]
mod tests {
    use crate::meter::profile::Profile;

    const TEXT: &str = include_str!("../../../policies/meters/simulated-mode-c.toml");

    #[test]
    fn passwords_that_a_meter_or_the_line_cannot_take_are_refused() {
        for (from, to, expected) in [
            ("length = 8", "length = 4", "too short or too long"),
            ("length = 8", "length = 33", "too short or too long"),
            ("UVWXYZ\"", "UVWXYZA\"", "repeats one"),
            ("UVWXYZ\"", "UVWXYZ(\"", "the line cannot carry"),
            ("UVWXYZ\"", "UVWXYZé\"", "the line cannot carry"),
            ("level_3 = \"C003.3\"", "", "missing field `level_3`"),
            ("\"C003.2\"", "\"C003(2\"", "`C003(2` is not the address"),
            ("\"C.1.0\"", "\"\"", "`` is not the address"),
            ("length = 8", "length = 8\nwrong_in_a_row = 0", "`0`"),
            ("[iec62056-21.settings]", "[dlms.settings]", "unknown field"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Profile::parse("odd", &TEXT.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(expected), "{to}: {error}");
        }
    }
}
