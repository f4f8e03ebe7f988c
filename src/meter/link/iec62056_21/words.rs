//! What this driver sends, in words: as exact as can be without a meter, and without any password.

use super::values;
use crate::meter::link::{Item, Said};
use crate::meter::profile::ModeC;
use crate::meter::secrets::{Level, Role};

/// The messages for something, one text each.
pub(in crate::meter::link) fn words(profile: &ModeC, said: &Said<'_>) -> Vec<String> {
    match said {
        Said::Anybody => vec![match profile.readout {
            true => "sign-on, readout".to_owned(),
            false => "sign-on, programming mode".to_owned(),
        }],
        Said::Manager => vec![log_in(Level::Three)],
        Said::Other(Role::Password(level)) => vec![log_in(*level)],
        // What anybody is told has come with the readout.
        Said::Other(_) | Said::Told(_) | Said::OtherSecrets => Vec::new(),
        Said::Identity(items) => items
            .iter()
            .flat_map(|item| item_of(profile, *item))
            .collect(),
        Said::Registers(_) => {
            let clock = item_of(profile, Item::Clock).into_iter();
            let read = profile.read.iter().map(|register| read(&register.at));
            clock.chain(read).collect()
        }
        Said::Setting(name) => profile.setting(*name).map(read).into_iter().collect(),
        Said::Set(setting) => {
            let register = profile.setting(setting.name());
            let written = register.zip(values::of_setting(setting));
            let write = |(register, value)| format!("W1 {register}({value}) ({setting})");
            written.map(write).into_iter().collect()
        }
        Said::Change(roles) => roles
            .iter()
            .filter_map(|role| change(profile, *role))
            .collect(),
    }
}

fn log_in(level: Level) -> String {
    let level = level.number();
    format!("sign-on, programming mode, P1 with the password of level {level} (redacted)")
}

fn item_of(profile: &ModeC, item: Item) -> Vec<String> {
    let registers = &profile.registers;
    let registers = match item {
        Item::Serial => [&registers.serial, &None],
        Item::Firmware => [&registers.firmware, &None],
        Item::Clock => [&registers.date, &registers.time],
        Item::DeviceName | Item::Counter => [&None, &None],
    };
    let there = registers.into_iter().flatten();
    there.map(|register| read(register)).collect()
}

fn read(register: &str) -> String {
    format!("R1 {register}()")
}

fn change(profile: &ModeC, role: Role) -> Option<String> {
    let Role::Password(level) = role else {
        return None;
    };
    let registers = profile.passwords.registers();
    let register = registers.get(&level)?;
    Some(format!("W1 {register}(redacted)"))
}
