//! The CoS read: the registers of a meter at the change of supplier, as plain JSON `cos-escrow/read/1`.
//!
//! ```json
//! { "format": "cos-escrow/read/1",
//!   "supply_point": "9693016118873",
//!   "supply_start_date": "2025-10-19",
//!   "meter_serial": "E19B762798",
//!   "type": "D",
//!   "source": "head end",
//!   "salt": "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU",
//!   "registers": [ { "id": "01", "tpr": "00043", "quantity": "AI", "digits": 5, "multiplier": "1.00",
//!                    "value": "10229.9", "at": "2025-10-18T23:00:00.000Z" } ] }
//! ```
//! Required are `format`, `supply_point`, `meter_serial`, `type` (one capital letter: A actual, C customer's own,
//! D deemed, O old supplier's, X …) and `registers` (1 to 64, each with `id`, `value`, `at`; no two with the same `id`
//! and `at`). The canonical form is RFC 8785 without absent fields, registers ascending by `id`, then by `at`.
//!
//! ```text
//! commitment = SHA-256(u64 28 ‖ "cos-escrow/read-commitment/1" ‖ u64 32 ‖ salt ‖ u64 length ‖ canonical form)
//! ```
//! with the canonical form without its `salt`, which is 32 random bytes in unpadded base64url and travels sealed with
//! the read, so that whoever gets the read can check the commitment and nobody else can guess it.

use serde::{Deserialize, Deserializer};

use crate::types::{Digest, MeterSerial, Random, Secret, SupplyPoint, SupplyStartDate, Timestamp};

use super::header::Inventory;
use super::json::{self, ContentError, ObjectWriter, Problem};
use super::text::{Text, read_text};

/// The registers of a meter at the change of supplier.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    #[serde(rename = "format")]
    _format: Format,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// For which change of supplier, where one is known.
    #[serde(default)]
    pub supply_start_date: Option<SupplyStartDate>,
    /// Which meter.
    pub meter_serial: MeterSerial,
    /// How the read came about.
    #[serde(rename = "type")]
    pub kind: ReadType,
    /// Where it came from, for people.
    #[serde(default)]
    pub source: Option<Text<1, 64>>,
    /// What makes its commitment unguessable.
    #[serde(default)]
    pub salt: Option<Salt>,
    registers: Vec<Register>,
}

/// One register at one instant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The meter's name for it.
    pub id: Text<1, 16>,
    /// When it was so.
    pub at: Timestamp,
    /// What it showed.
    pub value: Decimal,
    /// Time pattern regime.
    #[serde(default)]
    pub tpr: Option<Text<0, 8>>,
    /// What is measured, by the industry's code, such as `AI`.
    #[serde(default)]
    pub quantity: Option<Text<1, 8>>,
    /// How many digits it shows before the point.
    #[serde(default)]
    pub digits: Option<u8>,
    /// What its value is multiplied with.
    #[serde(default)]
    pub multiplier: Option<Decimal>,
}

/// How a read came about: the industry's code, one capital letter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadType(char);

impl ReadType {
    /// The type with this code.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        let code = chars.next().filter(char::is_ascii_uppercase)?;
        chars.next().is_none().then_some(Self(code))
    }

    /// The code.
    pub fn code(&self) -> char {
        self.0
    }
}

/// 32 random bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Salt(Digest);

impl Salt {
    /// A new salt.
    pub fn random(random: &dyn Random) -> Self {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        Self(Digest(bytes))
    }
}

/// A number in decimal notation, kept as it was written: up to 12 digits, then up to 6 after a point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decimal(String);

impl Decimal {
    /// The number of this text.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        let valid = match text.split_once('.') {
            None => digits(text, 12),
            Some((whole, fraction)) => digits(whole, 12) && digits(fraction, 6),
        };
        valid.then(|| Self(text.to_owned()))
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are the same number, however written.
    pub fn equals(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }

    fn significant(&self) -> (&str, &str) {
        let (whole, fraction) = self.0.split_once('.').unwrap_or((&self.0, ""));
        (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        )
    }
}

impl Read {
    /// A read of these registers; refused like a document with them.
    pub fn of(
        supply_point: SupplyPoint,
        meter_serial: MeterSerial,
        kind: ReadType,
        registers: Vec<Register>,
    ) -> Result<Self, ContentError> {
        Self {
            _format: Format,
            supply_point,
            supply_start_date: None,
            meter_serial,
            kind,
            source: None,
            salt: None,
            registers,
        }
        .in_order()
    }

    /// Reads and validates a read.
    pub fn parse(json: &[u8]) -> Result<Self, ContentError> {
        json::parse::<Self>(json, MAX_BYTES)?.in_order()
    }

    /// The registers, ascending by id and instant.
    pub fn registers(&self) -> &[Register] {
        &self.registers
    }

    /// The canonical form. Not a key, but personal data.
    pub fn to_json(&self) -> Secret {
        self.to_json_with(self.salt.as_ref())
    }

    fn to_json_with(&self, salt: Option<&Salt>) -> Secret {
        ObjectWriter::document(|o| {
            o.text("format", FORMAT);
            o.text("meter_serial", self.meter_serial.original());
            o.objects("registers", &self.registers, |o, register| {
                register.write(o)
            });
            let salt = salt.map(|salt| salt.0.to_string());
            o.optional_text("salt", salt.as_deref());
            o.optional_text("source", self.source.as_ref().map(Text::as_str));
            o.text("supply_point", self.supply_point.as_str());
            let start = self.supply_start_date.map(|date| date.to_string());
            o.optional_text("supply_start_date", start.as_deref());
            o.text("type", self.kind.0.encode_utf8(&mut [0; 4]));
        })
    }

    /// Binds the depositor to this read without showing it.
    pub fn commitment(&self, salt: &Salt) -> Digest {
        let unsalted = self.to_json_with(None);
        Digest::of_pieces(&[COMMITMENT_LABEL, salt.0.as_bytes(), unsalted.expose()])
    }

    /// The names of the fields that are there, for the header.
    pub fn inventory(&self) -> Inventory {
        let source = self.source.as_ref().map(|_| "read.source");
        Inventory::from_names(["read.registers", "read.type"].into_iter().chain(source))
            .expect("the names are words")
    }

    /// Whether both say the same: the same registers with the same values at the same instants. How the read came about
    /// and how the numbers are written do not matter.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.supply_point == other.supply_point
            && self.meter_serial == other.meter_serial
            && self.registers.len() == other.registers.len()
            && (self.registers.iter().zip(&other.registers)).all(|(a, b)| a.agrees_with(b))
    }

    fn in_order(mut self) -> Result<Self, ContentError> {
        if self.registers.is_empty() {
            return Err(ContentError::at("registers", Problem::Missing));
        }
        if self.registers.len() > MAX_REGISTERS {
            return Err(ContentError::at("registers", Problem::TooLarge));
        }
        self.registers.sort_by(|a, b| a.key().cmp(&b.key()));
        if !self.registers.is_sorted_by(|a, b| a.key() < b.key()) {
            return Err(ContentError::at("registers", Problem::Repeated));
        }
        Ok(self)
    }
}

impl Register {
    /// A register of which only this is known.
    pub fn of(id: Text<1, 16>, at: Timestamp, value: Decimal) -> Self {
        Self {
            id,
            at,
            value,
            tpr: None,
            quantity: None,
            digits: None,
            multiplier: None,
        }
    }

    fn key(&self) -> (&str, Timestamp) {
        (self.id.as_str(), self.at)
    }

    fn agrees_with(&self, other: &Self) -> bool {
        self.key() == other.key() && self.value.equals(&other.value)
    }

    fn write(&self, o: &mut ObjectWriter<'_>) {
        o.text("at", &self.at.to_string());
        o.optional_number("digits", self.digits.map(u32::from));
        o.text("id", self.id.as_str());
        o.optional_text("multiplier", self.multiplier.as_ref().map(Decimal::as_str));
        o.optional_text("quantity", self.quantity.as_ref().map(Text::as_str));
        o.optional_text("tpr", self.tpr.as_ref().map(Text::as_str));
        o.text("value", self.value.as_str());
    }
}

/// The constant in the field `format`.
#[derive(Clone, Debug)]
struct Format;

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| (text == FORMAT).then_some(Self))
    }
}

impl<'de> Deserialize<'de> for ReadType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, Self::from_text)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, Self::from_text)
    }
}

const FORMAT: &str = "cos-escrow/read/1";
const COMMITMENT_LABEL: &[u8] = b"cos-escrow/read-commitment/1";
const MAX_BYTES: usize = 128 * 1024;
const MAX_REGISTERS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::envelope::testing::Counter;

    fn full() -> Value {
        json!({
            "format": "cos-escrow/read/1", "supply_point": "9693016118873", "supply_start_date": "2025-10-19",
            "meter_serial": "E19B762798", "type": "D", "source": "head end",
            "salt": "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU",
            "registers": [
                { "id": "01", "tpr": "00043", "quantity": "AI", "digits": 5, "multiplier": "1.00",
                  "value": "10229.9", "at": "2025-10-18T23:00:00.000Z" },
                { "id": "02", "value": "87546", "at": "2025-10-18T23:00:00.000Z" }
            ]
        })
    }

    fn parse(value: &Value) -> Result<Read, ContentError> {
        Read::parse(&serde_json::to_vec(value).unwrap())
    }

    fn with(pointer: &str, to: Value) -> Read {
        let mut value = full();
        *value.pointer_mut(pointer).unwrap() = to;
        parse(&value).unwrap()
    }

    #[test]
    fn the_canonical_form_is_rfc_8785() {
        let canonical = parse(&full()).unwrap().to_json();
        let other_implementation = serde_json_canonicalizer::to_vec(&full()).unwrap();
        assert_eq!(
            str::from_utf8(canonical.expose()),
            str::from_utf8(&other_implementation)
        );
    }

    #[test]
    fn reads_agree_when_registers_values_and_instants_do() {
        let read = parse(&full()).unwrap();
        for same in [
            with("/type", json!("A")),
            with("/source", json!("customer")),
            with("/meter_serial", json!("e19b 762798")),
            with("/registers/0/value", json!("010229.900")),
            with("/registers/1/value", json!("87546.0")),
            with("/registers/0/digits", json!(6)),
        ] {
            assert!(read.agrees_with(&same) && same.agrees_with(&read));
        }
        for other in [
            with("/registers/0/value", json!("10229.8")),
            with("/registers/1/value", json!("875460")),
            with("/registers/0/id", json!("03")),
            with("/registers/0/at", json!("2025-10-18T23:30:00.000Z")),
            with("/registers", json!([full()["registers"][0]])),
            with("/supply_point", json!("1312345678907")),
            with("/meter_serial", json!("E19B762799")),
        ] {
            assert!(!read.agrees_with(&other) && !other.agrees_with(&read));
        }
    }

    #[test]
    fn the_order_of_registers_does_not_matter() {
        let mut value = full();
        value["registers"].as_array_mut().unwrap().reverse();
        let (a, b) = (parse(&full()).unwrap(), parse(&value).unwrap());
        assert!(a.agrees_with(&b));
        assert_eq!(a.to_json().expose(), b.to_json().expose());
    }

    #[test]
    fn a_commitment_binds_the_read_and_needs_the_salt() {
        let read = parse(&full()).unwrap();
        let random = Counter::seeded(1);
        let (salt, other) = (Salt::random(&random), Salt::random(&random));
        let commitment = read.commitment(&salt);
        assert_eq!(parse(&full()).unwrap().commitment(&salt), commitment);
        assert_ne!(read.commitment(&other), commitment);
        let changed = with("/registers/0/value", json!("10229.8"));
        assert_ne!(changed.commitment(&salt), commitment);
        // The salt travels in the document and is not itself committed to.
        let salted = Read {
            salt: Some(salt),
            ..read
        };
        let arrived = Read::parse(salted.to_json().expose()).unwrap();
        assert_eq!(arrived.commitment(&arrived.salt.unwrap()), commitment);
    }

    #[test]
    fn what_is_no_read_is_refused() {
        let mut repeated = full();
        repeated["registers"][1] = repeated["registers"][0].clone();
        let mut none = full();
        none["registers"] = json!([]);
        for (value, path, problem) in [
            (repeated, "registers", Problem::Repeated),
            (none, "registers", Problem::Missing),
        ] {
            assert_eq!(parse(&value).unwrap_err(), ContentError::at(path, problem));
        }
        for value in [
            "",
            "-1",
            "1e3",
            "1.",
            ".5",
            "1,5",
            "1234567890123",
            "1.1234567",
        ] {
            let mut json = full();
            json["registers"][0]["value"] = json!(value);
            let error = ContentError::at("registers[0].value", Problem::Invalid);
            assert_eq!(parse(&json).unwrap_err(), error, "{value:?}");
        }
        for kind in ["", "a", "AB", "1"] {
            let mut json = full();
            json["type"] = json!(kind);
            assert!(parse(&json).is_err(), "{kind:?}");
        }
    }
}
