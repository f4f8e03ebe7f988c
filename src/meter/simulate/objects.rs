//! The objects of a simulated meter.

use super::Faults;
use super::association::{INSTALLER, MANAGEMENT, READER};
use super::meter::{Meter, SecretManner};
use crate::dlms::acse::{GMAC, LLS};
use crate::dlms::axdr::Value;
use crate::dlms::clock::date_time;
use crate::dlms::obis::{Member, Obis};
use crate::dlms::objects::{Column, PushDestination};
use crate::dlms::service::{DENIED, Read, SUCCESS, Selection, TYPE_UNMATCHED, UNDEFINED};
use crate::types::{Clock as _, SystemClock, Timestamp};

/// What a client reads of an attribute.
pub(super) fn read(meter: &mut Meter, is_public: bool, selection: &Selection) -> Read {
    let attribute = selection.attribute;
    let object = (attribute.class, attribute.object);
    if !objects(meter).contains(&object) {
        return Err(UNDEFINED);
    }
    if is_public && !PUBLIC_OBJECTS.contains(&object) {
        return Err(DENIED);
    }
    if attribute.number == 1 {
        return Ok(Value::OctetString(attribute.object.0.to_vec()).encode());
    }
    let value = match attribute {
        PROFILE_BUFFER => profile(selection.selector.as_ref())?,
        PROFILE_COLUMNS => Value::Array(columns().map(Column::value).to_vec()),
        Member::OBJECT_LIST => object_list(meter),
        Member::COUNTER if is_public && Faults::take(&mut meter.faults.forged_counters) => {
            Value::DoubleLongUnsigned(u32::MAX)
        }
        _ => value(meter, attribute).ok_or(DENIED)?,
    };
    Ok(value.encode())
}

/// Takes a new value; the data-access-result.
pub(super) fn write(meter: &mut Meter, attribute: Member, value: &Value) -> u8 {
    match (attribute, value) {
        (Member::PUSH_DESTINATION, value) => match PushDestination::parse(value) {
            Ok(push) => meter.push = push,
            Err(_) => return TYPE_UNMATCHED,
        },
        (Member::APN, Value::OctetString(apn)) => meter.apn.clone_from(apn),
        (Member::PORT, Value::LongUnsigned(port)) => meter.port = *port,
        (Member::DESTINATIONS, Value::Array(items)) => {
            let addresses = items.iter().map(|item| item.as_bytes().map(<[u8]>::to_vec));
            match addresses.collect::<Result<Vec<_>, _>>() {
                Ok(destinations) if destinations.len() > 1 && meter.manners.has_one_destination => {
                    return DENIED;
                }
                Ok(destinations) => {
                    meter.most_destinations = meter.most_destinations.max(destinations.len());
                    meter.destinations = destinations;
                }
                Err(_) => return TYPE_UNMATCHED,
            }
        }
        (READER_SECRET, Value::OctetString(secret)) => {
            return meter.set_password(SecretManner::Attribute, secret);
        }
        (Member::APN | Member::PORT | Member::DESTINATIONS, _) => return TYPE_UNMATCHED,
        _ => return DENIED,
    }
    SUCCESS
}

fn value(meter: &Meter, attribute: Member) -> Option<Value> {
    let octets = |bytes: &[u8]| Value::OctetString(bytes.to_vec());
    Some(match attribute {
        Member::DEVICE_NAME => octets(meter.device_name.as_bytes()),
        Member::SERIAL => octets(meter.serial.as_bytes()),
        FIRMWARE => octets(meter.firmware.as_bytes()),
        Member::COUNTER => {
            let shown = meter.last_counter.filter(|_| !meter.faults.hides_counter);
            Value::DoubleLongUnsigned(shown.unwrap_or(0))
        }
        Member::TIME => date_time(SystemClock.now().before(meter.faults.clock_behind)),
        Member::PUSH_DESTINATION => meter.push.value(),
        Member::APN => octets(&meter.apn),
        Member::PORT => Value::LongUnsigned(meter.port),
        Member::DESTINATIONS => Value::Array(
            meter
                .destinations
                .iter()
                .map(|address| octets(address))
                .collect(),
        ),
        Member {
            class: 3,
            object,
            number,
        } => {
            let register = meter
                .registers
                .iter()
                .find(|register| register.register == object)?;
            match number {
                2 => Value::DoubleLongUnsigned(register.value),
                3 => register.scaler_unit.value(),
                _ => return None,
            }
        }
        Member {
            class: 15,
            object,
            number,
        } => return client(object, number),
        Member {
            class: 64, number, ..
        } => match number {
            2 => Value::Enum(ALWAYS_PROTECTED),
            3 => Value::Enum(meter.suite.id()),
            5 => octets(&meter.title.0),
            _ => return None,
        },
        _ => return None,
    })
}

/// Whose an association is, how it is entered, and which security set-up it has.
fn client(association: Obis, number: u8) -> Option<Value> {
    let (client, mechanism, security) = match association {
        MANAGER_ASSOCIATION => (MANAGEMENT, GMAC, Obis::SECURITY),
        READER_ASSOCIATION => (READER, LLS, Obis::SECURITY),
        INSTALLER_ASSOCIATION => (INSTALLER, GMAC, INSTALLER_SECURITY),
        _ => return None,
    };
    let client = i8::try_from(client).ok()?;
    Some(match number {
        3 => Value::Structure(vec![Value::Integer(client), Value::LongUnsigned(1)]),
        6 => Value::OctetString([&MECHANISMS[..], &[mechanism]].concat()),
        9 => Value::OctetString(security.0.to_vec()),
        _ => return None,
    })
}

fn objects(meter: &Meter) -> Vec<(u16, Obis)> {
    let registers = meter
        .registers
        .iter()
        .map(|register| (3, register.register));
    let others = [
        (1, FIRMWARE.object),
        (7, PROFILE),
        (15, Obis::CURRENT_ASSOCIATION),
        (29, Obis::AUTO_CONNECT),
        (40, Obis::PUSH),
        (41, Obis::TCP_UDP),
        (45, Obis::MODEM),
        (64, Obis::SECURITY),
    ];
    let clients = meter.others.iter().flat_map(|_| OTHER_CLIENTS);
    PUBLIC_OBJECTS
        .into_iter()
        .chain(registers)
        .chain(others)
        .chain(clients)
        .collect()
}

fn object_list(meter: &Meter) -> Value {
    let item = |(class, name): (u16, Obis)| {
        let no_rights = Value::Structure(vec![Value::Array(Vec::new()), Value::Array(Vec::new())]);
        Value::Structure(vec![
            Value::LongUnsigned(class),
            Value::Unsigned(0),
            Value::OctetString(name.0.to_vec()),
            no_rights,
        ])
    };
    Value::Array(objects(meter).into_iter().map(item).collect())
}

/// What the profile captures: the time and the total import.
fn columns() -> [Column; 2] {
    let [total, ..] = Obis::ENERGY;
    [Member::TIME, Member::register(total)].map(|attribute| Column {
        attribute,
        element: 0,
    })
}

/// Forty days of readings; selected by time (1) or by row (2).
fn profile(selector: Option<&(u8, Value)>) -> Result<Value, u8> {
    let rows = (0..PROFILE_ROWS).map(|day| {
        let time = date_time(Timestamp::from_seconds(
            PROFILE_START + u64::from(day) * 86_400,
        ));
        Value::Structure(vec![
            time,
            Value::DoubleLongUnsigned(123_000_000 + day * 8000),
        ])
    });
    let Some((selector, parameters)) = selector else {
        return Ok(Value::Array(rows.collect()));
    };
    let parameters = parameters.as_items().map_err(|_| TYPE_UNMATCHED)?;
    match (*selector, parameters) {
        (1, [_, from, to, ..]) => {
            let day = |value: &Value| {
                value
                    .as_bytes()
                    .ok()
                    .and_then(|bytes| bytes.get(..5).map(<[u8]>::to_vec))
            };
            let (from, to) = (
                day(from).ok_or(TYPE_UNMATCHED)?,
                day(to).ok_or(TYPE_UNMATCHED)?,
            );
            let chosen = rows.filter(|row| {
                let time = row
                    .as_items()
                    .ok()
                    .and_then(|items| items.first())
                    .and_then(day);
                time.is_some_and(|time| from <= time && time <= to)
            });
            Ok(Value::Array(chosen.collect()))
        }
        (2, [from, to, ..]) => {
            let row = |value: &Value| {
                value
                    .as_integer()
                    .ok()
                    .and_then(|row| usize::try_from(row).ok())
            };
            let (from, to) = (
                row(from).ok_or(TYPE_UNMATCHED)?,
                row(to).ok_or(TYPE_UNMATCHED)?,
            );
            let last = if to == 0 { usize::MAX } else { to };
            let skipped = from.saturating_sub(1);
            Ok(Value::Array(rows.take(last).skip(skipped).collect()))
        }
        _ => Err(SCOPE_VIOLATED),
    }
}

const MANAGER_ASSOCIATION: Obis = Obis([0, 0, 40, 0, 1, 255]);
const READER_ASSOCIATION: Obis = Obis([0, 0, 40, 0, 2, 255]);
const INSTALLER_ASSOCIATION: Obis = Obis([0, 0, 40, 0, 3, 255]);
const INSTALLER_SECURITY: Obis = Obis([0, 0, 43, 0, 2, 255]);
const READER_SECRET: Member = Member::new(15, READER_ASSOCIATION, 7);
/// Method: takes the password of client 2.
pub(super) const CHANGE_READER_SECRET: Member = Member::new(15, READER_ASSOCIATION, 2);
/// Method: takes keys of client 3.
pub(super) const INSTALLER_KEY_TRANSFER: Member = Member::new(64, INSTALLER_SECURITY, 2);
const OTHER_CLIENTS: [(u16, Obis); 4] = [
    (15, MANAGER_ASSOCIATION),
    (15, READER_ASSOCIATION),
    (15, INSTALLER_ASSOCIATION),
    (64, INSTALLER_SECURITY),
];
/// The arcs before the number of a mechanism.
const MECHANISMS: [u8; 6] = [0x60, 0x85, 0x74, 0x05, 0x08, 0x02];
/// What anybody may read.
const PUBLIC_OBJECTS: [(u16, Obis); 4] = [
    (1, Obis::DEVICE_NAME),
    (1, Obis::SERIAL),
    (1, Obis::COUNTER),
    (8, Obis::CLOCK),
];
/// Which firmware it runs.
const FIRMWARE: Member = Member::new(1, Obis([1, 0, 0, 2, 0, 255]), 2);
const PROFILE: Obis = Obis([1, 0, 98, 1, 0, 255]);
const PROFILE_BUFFER: Member = Member::new(7, PROFILE, 2);
const PROFILE_COLUMNS: Member = Member::new(7, PROFILE, 3);
const PROFILE_ROWS: u32 = 40;
/// 2026-09-01.
const PROFILE_START: u64 = 1_788_220_800;
const ALWAYS_PROTECTED: u8 = 3;
const SCOPE_VIOLATED: u8 = 13;
