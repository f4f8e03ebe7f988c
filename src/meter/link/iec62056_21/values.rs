//! Between the registers of a mode C meter and what a takeover wants of them.

use crate::dlms::obis::Obis;
use crate::dlms::objects::ScalerUnit;
use crate::iec62056_21::data::DataSet;
use crate::iec62056_21::number::{self, Decimal};
use crate::meter::link::{LinkError, Setting, SettingName, Shown};
use crate::types::Timestamp;

/// What a register showed.
#[derive(Clone)]
pub(super) struct Register {
    pub(super) address: String,
    pub(super) value: String,
    unit: Option<String>,
}

impl Register {
    pub(super) fn of(set: &DataSet<'_>) -> Self {
        Self {
            address: set.address().to_owned(),
            value: set.value().to_owned(),
            unit: set.unit().map(str::to_owned),
        }
    }
}

/// A register of the change-of-supplier read, as all protocols tell it.
pub(super) fn shown(
    register: Obis,
    read: &Register,
    meter_time: Option<Timestamp>,
) -> Result<Shown, LinkError> {
    let number = Decimal::parse(&read.value).map_err(|_| LinkError::Garbled)?;
    let (power, unit) = unit(read.unit.as_deref());
    Ok(Shown {
        register,
        value: number.digits,
        scaler_unit: ScalerUnit {
            scaler: number.exponent.saturating_add(power),
            unit,
        },
        meter_time,
    })
}

/// The power of ten and the number in the Blue Book of a unit; what has none there counts as a bare number.
fn unit(text: Option<&str>) -> (i8, u8) {
    let text = text.unwrap_or_default();
    let (power, base) = match text.split_at_checked(1) {
        Some(("k", base)) => (3, base),
        Some(("M", base)) => (6, base),
        _ => (0, text),
    };
    let known = UNITS.iter().find(|(name, _)| *name == base);
    known.map_or((0, NO_UNIT), |(_, unit)| (power, *unit))
}

/// The setting that a register holds.
pub(super) fn setting(name: SettingName, value: String) -> Result<Setting, LinkError> {
    Ok(match name {
        SettingName::Apn => Setting::Apn(value),
        SettingName::PushDestination => Setting::PushDestination(value),
        SettingName::Port => Setting::Port(value.parse().map_err(|_| LinkError::Garbled)?),
        SettingName::AutoConnect => return Err(LinkError::NotOffered),
    })
}

/// What a register must hold for a setting.
pub(super) fn of_setting(setting: &Setting) -> Option<String> {
    match setting {
        Setting::Apn(text) | Setting::PushDestination(text) => Some(text.clone()),
        Setting::Port(number) => Some(number.to_string()),
        Setting::AutoConnect(_) => None,
    }
}

/// The number in the code of a refusal, such as 3 in `R3`; 255 if it has none.
pub(super) fn number(code: &str) -> u8 {
    let digits = code.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(u8::MAX)
}

/// The time that date and time show, if they show one.
pub(super) fn instant(date: &str, time: &str) -> Option<Timestamp> {
    number::instant(date, time).ok()
}

const UNITS: [(&str, u8); 6] = [
    ("W", 27),
    ("VA", 28),
    ("var", 29),
    ("Wh", 30),
    ("VAh", 31),
    ("varh", 32),
];
const NO_UNIT: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_keeps_its_digits_and_its_unit() {
        let read = |value, unit| {
            let set = DataSet::new("1.8.0", value, unit).unwrap();
            let shown = shown(Obis::ENERGY[0], &Register::of(&set), None).unwrap();
            (
                shown.value,
                shown.scaler_unit.scaler,
                shown.scaler_unit.unit,
            )
        };
        assert_eq!(read("0012345.67", Some("kWh")), (1_234_567, 1, 30));
        assert_eq!(read("7", Some("varh")), (7, 0, 32));
        assert_eq!(read("7", Some("MW")), (7, 6, 27));
        assert_eq!(read("7.5", Some("furlong")), (75, -1, 255));
        assert_eq!(read("7", None), (7, 0, 255));
    }

    #[test]
    fn the_code_of_a_refusal_is_its_number() {
        assert_eq!(["R3", "07", "ROR", "R999"].map(number), [3, 7, 255, 255]);
    }
}
