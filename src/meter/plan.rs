//! What a takeover would send, for people to read before it does. Keys are not made for it, and none is shown.

use std::fmt;

use super::link::{Item, Setting};
use super::profile::{KeyTransfer, Profile, Protocol};
use super::released::ReleasedMeter;
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
    /// Write this, and read it back.
    Write(Setting),
    /// Tell the escrow.
    Report,
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
    let Protocol::Dlms(dlms) = &profile.protocol;
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
    if let Some(repoint) = &meter.repoint {
        let writes = writes(repoint, profile, &[]);
        steps.extend(writes.into_iter().map(PlannedStep::Write));
    }
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
