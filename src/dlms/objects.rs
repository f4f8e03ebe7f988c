//! The values of the objects that a takeover reads and writes.

use super::Malformed;
use super::axdr::Value;
use super::clock::date_time;
use super::obis::{Member, Obis};
use crate::types::Timestamp;

/// How a register's number becomes a quantity: number × 10^scaler in the unit (30 = Wh).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct ScalerUnit {
    /// The power of ten.
    pub scaler: i8,
    /// The unit, by the numbers of the Blue Book.
    pub unit: u8,
}

impl ScalerUnit {
    /// Reads attribute 3 of a register.
    pub fn parse(value: &Value) -> Result<Self, Malformed> {
        match value.as_items()? {
            [Value::Integer(scaler), Value::Enum(unit)] => Ok(Self {
                scaler: *scaler,
                unit: *unit,
            }),
            _ => Err(Malformed::Type),
        }
    }

    /// Attribute 3 of a register.
    pub fn value(self) -> Value {
        Value::Structure(vec![Value::Integer(self.scaler), Value::Enum(self.unit)])
    }
}

/// Where a meter pushes (class 40, attribute 3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PushDestination {
    /// The transport, 0 = TCP.
    pub service: u8,
    /// The address, such as `10.9.8.7:5000`.
    pub destination: Vec<u8>,
    /// How messages are coded, 0 = A-XDR.
    pub message: u8,
}

impl PushDestination {
    /// Pushes by TCP to `destination`.
    pub fn tcp(destination: &str) -> Self {
        Self {
            service: 0,
            destination: destination.as_bytes().to_vec(),
            message: 0,
        }
    }

    /// Reads the attribute.
    pub fn parse(value: &Value) -> Result<Self, Malformed> {
        match value {
            Value::Structure(items) => match items.as_slice() {
                [
                    Value::Enum(service),
                    Value::OctetString(destination),
                    Value::Enum(message),
                ] => Ok(Self {
                    service: *service,
                    destination: destination.clone(),
                    message: *message,
                }),
                _ => Err(Malformed::Type),
            },
            _ => Err(Malformed::Type),
        }
    }

    /// The attribute.
    pub fn value(&self) -> Value {
        Value::Structure(vec![
            Value::Enum(self.service),
            Value::OctetString(self.destination.clone()),
            Value::Enum(self.message),
        ])
    }
}

/// The access point name (class 45, attribute 2).
pub fn apn(name: &str) -> Value {
    Value::OctetString(name.as_bytes().to_vec())
}

/// The port at which the meter listens (class 41, attribute 2).
pub fn port(number: u16) -> Value {
    Value::LongUnsigned(number)
}

/// Where the meter connects to by itself (class 29, attribute 6), first choice first.
pub fn destinations(addresses: &[&str]) -> Value {
    let address = |text: &&str| Value::OctetString(text.as_bytes().to_vec());
    Value::Array(addresses.iter().map(address).collect())
}

/// Class and name of each object in an object list (class 15, attribute 2).
pub fn listed_objects(value: &Value) -> Result<Vec<(u16, Obis)>, Malformed> {
    let parse = |item: &Value| match item.as_items()? {
        [Value::LongUnsigned(class), _, name, ..] => {
            let name = name.as_bytes()?.try_into().map_err(|_| Malformed::Length)?;
            Ok((*class, Obis(name)))
        }
        _ => Err(Malformed::Type),
    };
    value.as_items()?.iter().map(parse).collect()
}

/// One column of a profile (class 7, attribute 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Column {
    /// The attribute that is captured.
    pub attribute: Member,
    /// Which element of it; 0 is all of it.
    pub element: u16,
}

impl Column {
    /// Reads the list of columns.
    pub fn parse_all(value: &Value) -> Result<Vec<Self>, Malformed> {
        let parse = |item: &Value| match item.as_items()? {
            [
                Value::LongUnsigned(class),
                name,
                Value::Integer(number),
                Value::LongUnsigned(element),
            ] => {
                let name = name.as_bytes()?.try_into().map_err(|_| Malformed::Length)?;
                let number = u8::try_from(*number).map_err(|_| Malformed::Type)?;
                Ok(Self {
                    attribute: Member::new(*class, Obis(name), number),
                    element: *element,
                })
            }
            _ => Err(Malformed::Type),
        };
        value.as_items()?.iter().map(parse).collect()
    }

    /// The column as it stands in the list.
    pub fn value(self) -> Value {
        let Self { attribute, element } = self;
        Value::Structure(vec![
            Value::LongUnsigned(attribute.class),
            Value::OctetString(attribute.object.0.to_vec()),
            Value::Integer(i8::try_from(attribute.number).unwrap_or(i8::MAX)),
            Value::LongUnsigned(element),
        ])
    }
}

/// The parameters of selector 1 of a profile: all columns of the rows captured from one instant to another, by the
/// column that has the time.
pub fn captured_between(time: Column, from: Timestamp, to: Timestamp) -> Value {
    Value::Structure(vec![
        time.value(),
        date_time(from),
        date_time(to),
        Value::Array(Vec::new()),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn payloads_equal_those_of_another_encoder() {
        for (value, bytes) in [
            (
                PushDestination::tcp("10.9.8.7:5000").value(),
                "02031600090D31302E392E382E373A353030301600",
            ),
            (apn("gainer.apn"), "090A6761696E65722E61706E"),
            (port(4059), "120FDB"),
            (
                destinations(&["10.9.8.7:5000"]),
                "0101090D31302E392E382E373A35303030",
            ),
            (
                ScalerUnit {
                    scaler: 0,
                    unit: 30,
                }
                .value(),
                "02020F00161E",
            ),
        ] {
            assert_eq!(value.encode(), hex(bytes));
        }
    }

    #[test]
    fn values_parse_what_they_make() {
        let push = PushDestination::tcp("10.9.8.7:5000");
        assert_eq!(PushDestination::parse(&push.value()), Ok(push));
        let scaler = ScalerUnit {
            scaler: -3,
            unit: 30,
        };
        assert_eq!(ScalerUnit::parse(&scaler.value()), Ok(scaler));
        assert_eq!(ScalerUnit::parse(&Value::Null), Err(Malformed::Type));
    }

    #[test]
    fn a_range_of_a_profile_is_selected_by_its_clock() {
        let time = Column {
            attribute: Member::TIME,
            element: 0,
        };
        let midnight = "2026-09-01T00:00:00Z".parse().unwrap();
        let noon = "2026-09-01T12:00:00Z".parse().unwrap();
        let bytes = captured_between(time, midnight, noon).encode();
        let expected = [
            "0204",
            "02041200080906000001 0000FF0F02120000",
            "090C07EA09010200000000000000",
            "090C07EA0901020C000000000000",
            "0100",
        ];
        let expected = expected.concat().replace(' ', "");
        assert_eq!(bytes, hex(&expected));
        let columns = Value::Array(vec![time.value()]);
        assert_eq!(Column::parse_all(&columns), Ok(vec![time]));
        assert!(Column::parse_all(&Value::Array(vec![Value::Null])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>) {
            if let Ok(value) = Value::decode(&bytes) {
                let _ = (ScalerUnit::parse(&value), PushDestination::parse(&value), listed_objects(&value));
                let _ = Column::parse_all(&value);
            }
        }
    }
}
