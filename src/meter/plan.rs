//! What a takeover would send, for people to read before it does. Keys are not made for it, and none is shown.

use std::fmt;

use super::link::{Item, Setting};
use super::profile::{Dlms, KeyTransfer, ModeC, Profile, Protocol};
use super::released::ReleasedMeter;
use super::secrets::Level;
use super::takeover::repoint::writes;
use super::takeover::{Rounds, Settings};
use crate::dlms::keys::KeyRole;
use crate::dlms::obis::Member;

/// One thing that a takeover does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlannedStep {
    /// Anybody may read this.
    ReadPublicly(Member),
    /// Come in with the released keys, newest first.
    EnterWithReleased {
        /// How many sets there are to try.
        sets: usize,
    },
    /// Come in with the new keys.
    EnterWithNew,
    /// The released keys must not open the meter any more.
    ExpectRefusal,
    /// Read this, protected.
    Read(Member),
    /// Make new keys and leave them with the escrow.
    Deposit,
    /// Hand over keys, each wrapped under a key encryption key.
    TransferKeys {
        /// Which keys.
        keys: Vec<KeyRole>,
        /// Whose key encryption key wraps them.
        wrapped_under: Wrapping,
    },
    /// Mode C: ask for what the meter tells anybody.
    Readout,
    /// Mode C: come in with the password of a level.
    LogIn(Level, Whose),
    /// Mode C: the released password of a level must not open the meter any more.
    ExpectRefusalAt(Level),
    /// Mode C: read this register.
    ReadRegister(String),
    /// Mode C: write a new password into this register.
    WritePassword(String),
    /// Write this, and read it back.
    Write(Setting),
    /// Tell the escrow.
    Report,
}

/// Whose password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The one that was handed over.
    Released,
    /// The one that was just made.
    New,
}

/// Whose key encryption key wraps a transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrapping {
    /// The one that was handed over.
    Released,
    /// The one of the first round.
    First,
    /// The one of the second round.
    Second,
}

impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadPublicly(attribute) => write!(f, "GET {attribute} (public)"),
            Self::EnterWithReleased { sets } => {
                write!(f, "ASSOCIATE with released keys ({sets} to try)")
            }
            Self::EnterWithNew => f.write_str("ASSOCIATE with new keys"),
            Self::ExpectRefusal => f.write_str("ASSOCIATE with released keys, must be refused"),
            Self::Read(attribute) => write!(f, "GET {attribute}"),
            Self::Deposit => f.write_str("DEPOSIT new keys with the escrow"),
            Self::TransferKeys {
                keys,
                wrapped_under,
            } => {
                let names: Vec<_> = keys.iter().map(|key| key.as_str()).collect();
                let method = Member::KEY_TRANSFER;
                write!(
                    f,
                    "ACTION {method}: {} (redacted), {wrapped_under}",
                    names.join(", ")
                )
            }
            Self::Readout => f.write_str("READOUT (public)"),
            Self::LogIn(level, whose) => {
                let whose = match whose {
                    Whose::Released => "released",
                    Whose::New => "new",
                };
                write!(
                    f,
                    "P1 with the {whose} password of level {}",
                    level.number()
                )
            }
            Self::ExpectRefusalAt(level) => {
                let level = level.number();
                write!(
                    f,
                    "P1 with the released password of level {level}, must be refused"
                )
            }
            Self::ReadRegister(address) => write!(f, "R1 {address}"),
            Self::WritePassword(address) => write!(f, "W1 {address}(redacted)"),
            Self::Write(setting) => write!(f, "SET {setting}"),
            Self::Report => f.write_str("REPORT to the escrow"),
        }
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Released => "under the released KEK",
            Self::First => "under the KEK of the first round",
            Self::Second => "under the KEK of the second round",
        })
    }
}

/// What a takeover of `meter` does if nothing goes wrong.
pub fn plan(meter: &ReleasedMeter, profile: &Profile, settings: &Settings) -> Vec<PlannedStep> {
    let writes = meter
        .repoint
        .as_ref()
        .map(|repoint| writes(repoint, profile, &[]));
    let writes = writes.into_iter().flatten().map(PlannedStep::Write);
    match &profile.protocol {
        Protocol::Dlms(dlms) => of_dlms(meter, dlms, writes, settings),
        Protocol::ModeC(mode_c) => of_mode_c(mode_c, writes, settings),
    }
}

fn of_mode_c(
    mode_c: &ModeC,
    writes: impl Iterator<Item = PlannedStep>,
    settings: &Settings,
) -> Vec<PlannedStep> {
    let highest = Level::Three;
    let log_in = |whose| PlannedStep::LogIn(highest, whose);
    let mut steps = vec![PlannedStep::Readout, log_in(Whose::Released)];
    let registers = &mode_c.registers;
    let read = mode_c.read.iter().map(|register| &register.at);
    let clock = [&registers.date, &registers.time].into_iter().flatten();
    let read = registers.serial.iter().chain(clock).chain(read);
    steps.extend(read.cloned().map(PlannedStep::ReadRegister));
    let passwords = mode_c.passwords.registers();
    let rotation = || {
        let mut steps = vec![PlannedStep::Deposit];
        for (level, register) in passwords.iter().rev() {
            if *level != highest {
                steps.push(log_in(Whose::New));
            }
            steps.push(PlannedStep::WritePassword((*register).to_owned()));
            steps.push(PlannedStep::LogIn(*level, Whose::New));
        }
        steps
    };
    steps.extend(rotation());
    steps.push(log_in(Whose::New));
    steps.extend(writes);
    if settings.rounds == Rounds::Twice {
        steps.extend(rotation());
    }
    for level in passwords.keys() {
        steps.extend([log_in(Whose::New), PlannedStep::ExpectRefusalAt(*level)]);
    }
    steps.extend([log_in(Whose::New), PlannedStep::Report]);
    steps
}

fn of_dlms(
    meter: &ReleasedMeter,
    dlms: &Dlms,
    writes: impl Iterator<Item = PlannedStep>,
    settings: &Settings,
) -> Vec<PlannedStep> {
    let wanted = [Item::Serial, Item::DeviceName, Item::Counter];
    let shown = wanted
        .into_iter()
        .filter_map(|item| dlms.objects.item(item));
    let mut steps: Vec<_> = shown.map(PlannedStep::ReadPublicly).collect();
    let sets = meter.candidates.len();
    steps.push(PlannedStep::EnterWithReleased { sets });
    for register in &dlms.read.registers {
        let attributes = [Member::scaler_unit(*register), Member::register(*register)];
        steps.extend(attributes.map(PlannedStep::Read));
        steps.extend(dlms.objects.item(Item::Clock).map(PlannedStep::Read));
    }
    steps.push(PlannedStep::Deposit);
    let transfer = |keys: &[KeyRole], wrapped_under| PlannedStep::TransferKeys {
        keys: keys.to_vec(),
        wrapped_under,
    };
    let rotation = |wrapped_under| match dlms.key_transfer {
        KeyTransfer::Together => vec![transfer(&[KeyRole::Guek, KeyRole::Gak], wrapped_under)],
        KeyTransfer::OneByOne => vec![
            transfer(&[KeyRole::Gak], wrapped_under),
            transfer(&[KeyRole::Guek], wrapped_under),
        ],
    };
    steps.extend(rotation(Wrapping::Released));
    steps.push(PlannedStep::EnterWithNew);
    steps.push(transfer(&[KeyRole::Kek], Wrapping::Released));
    steps.push(PlannedStep::EnterWithNew);
    steps.push(transfer(&[KeyRole::Kek], Wrapping::First));
    steps.push(transfer(&[KeyRole::Gbek], Wrapping::First));
    steps.push(PlannedStep::Read(Member::OBJECT_LIST));
    steps.extend(writes);
    if settings.rounds == Rounds::Twice {
        steps.push(PlannedStep::Deposit);
        steps.push(transfer(&[KeyRole::Kek], Wrapping::First));
        steps.push(PlannedStep::EnterWithNew);
        steps.push(transfer(&[KeyRole::Kek], Wrapping::Second));
        steps.extend(rotation(Wrapping::Second));
        steps.push(PlannedStep::EnterWithNew);
        steps.push(transfer(&[KeyRole::Gbek], Wrapping::Second));
        steps.push(PlannedStep::Read(Member::OBJECT_LIST));
    }
    steps.push(PlannedStep::ExpectRefusal);
    steps.push(PlannedStep::EnterWithNew);
    steps.push(PlannedStep::Report);
    steps
}
