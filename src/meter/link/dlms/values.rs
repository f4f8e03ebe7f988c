//! Between the values of objects and what a takeover wants of them.

use crate::dlms::Malformed;
use crate::dlms::axdr::Value;
use crate::dlms::clock;
use crate::dlms::objects::{PushDestination, apn, destinations, port};
use crate::meter::link::{Identity, Item, Setting, SettingName};

/// Notes what the meter told.
pub(super) fn put_item(told: &mut Identity, item: Item, value: &Value) {
    match item {
        Item::DeviceName => told.device_name = Some(text(value)),
        Item::Serial => told.serial = Some(text(value)),
        Item::Firmware => told.firmware = Some(text(value)),
        Item::Clock => told.clock = clock::instant(value).unwrap_or(None),
        Item::Counter => told.counter = value.as_integer().ok().and_then(|n| n.try_into().ok()),
    }
}

/// The value of the attribute that holds a setting.
pub(super) fn of_setting(setting: &Setting) -> Value {
    match setting {
        Setting::Apn(name) => apn(name),
        Setting::PushDestination(destination) => PushDestination::tcp(destination).value(),
        Setting::Port(number) => port(*number),
        Setting::AutoConnect(addresses) => {
            destinations(&addresses.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

/// The setting that an attribute holds.
pub(super) fn setting(name: SettingName, value: &Value) -> Result<Setting, Malformed> {
    Ok(match name {
        SettingName::Apn => Setting::Apn(text(value)),
        SettingName::PushDestination => {
            let destination = PushDestination::parse(value)?.destination;
            Setting::PushDestination(String::from_utf8_lossy(&destination).into_owned())
        }
        SettingName::Port => {
            let number = value.as_integer()?.try_into();
            Setting::Port(number.map_err(|_| Malformed::Type)?)
        }
        SettingName::AutoConnect => {
            Setting::AutoConnect(value.as_items()?.iter().map(text).collect())
        }
    })
}

/// A name, a number that stands for one, or what cannot be either, so that it equals none.
fn text(value: &Value) -> String {
    match (value.as_bytes(), value.as_integer()) {
        (Ok(bytes), _) => String::from_utf8_lossy(bytes).into_owned(),
        (_, Ok(number)) => number.to_string(),
        _ => "(neither text nor number)".to_owned(),
    }
}
