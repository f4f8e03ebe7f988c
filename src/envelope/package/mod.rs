//! The package: what a supplier needs to reach and control a meter, as plain JSON `cos-escrow/package/1`.
//!
//! ```json
//! { "format": "cos-escrow/package/1",
//!   "supply_point": "9693016118873",
//!   "supply_start_date": "2025-10-19",
//!   "payment_mode": "credit",
//!   "meter": { "serial": "E19B762798", "make": "EDMI Mk10A", "class": "RCAMR", "outstation_id": "E19B762798",
//!              "guid": "F0:F3:AD:6C:DF:4E:6F:76", "installed": "2019-11-28",
//!              "device_name": "EDM0000000E19B76", "firmware": "2.31" },
//!   "comms": { "type": "IP", "method": "GS", "address": "10.31.22.221", "port": 8080, "apn": "smart.example",
//!              "iccid": "8944106393601680724", "imsi": "001019274574098", "msisdn": "003459010858854815",
//!              "baud": 9600, "dial": "I", "provider": "NETC", "head_end": "zchl-hes-1", "protocol": "dlms-cosem",
//!              "reachable_until": "2025-11-18T00:00:00.000Z" },
//!   "credentials": [
//!     { "dlms": { "association": "management", "client_sap": 1, "mechanism": 5, "suite": 0,
//!                 "system_title": "454C535B1C104119", "kek": "…", "guek": "…", "gak": "…", "gbek": "…",
//!                 "hls_secret": "…", "invocation_counter": 268004, "broadcast_counter": 7 } },
//!     { "password": { "levels": [ { "level": 1, "user": "", "password": "…" } ],
//!                     "reader_password": "…", "pin": "…", "encryption_key": "…" } } ] }
//! ```
//! Required are `format`, `supply_point`, `meter.serial`, `comms` (may be empty) and `credentials` (may be empty); of a
//! `dlms` credential `association`, `client_sap`, `mechanism`, `suite`; of a `password` credential `levels`, of a level
//! `level` and `password`. Unknown and repeated fields are refused; `null` is the same as absent. The canonical form is
//! RFC 8785 without absent fields, keys in capitals, levels ascending, an empty `user` or `make` left out.

mod comms;
mod credential;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::types::{MeterSerial, Secret, SupplyPoint, SupplyStartDate};

use super::header::{COMMS_NEEDED, Inventory, MeterMake};
use super::json::{self, ContentError, ObjectWriter, Problem};
use super::text::read_text;

pub use super::text::{SecretDigits, SecretHex, SecretText, Text};
pub use comms::Comms;
pub use credential::{Credential, Dlms, Level, Password};

/// What a supplier needs to reach and control a meter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    #[serde(rename = "format")]
    _format: Format,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// For which change of supplier, where one is known.
    #[serde(default)]
    pub supply_start_date: Option<SupplyStartDate>,
    /// Which meter.
    pub meter: Meter,
    /// How it is reached.
    pub comms: Comms,
    /// How the customer pays.
    #[serde(default)]
    pub payment_mode: Option<PaymentMode>,
    /// What opens it. One meter may need several.
    pub credentials: Vec<Credential>,
}

/// A meter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// The serial number on its plate.
    pub serial: MeterSerial,
    /// Who made it, and its type.
    #[serde(default)]
    pub make: MeterMake,
    /// What class of meter it is, such as `S1` or `RCAMR`.
    #[serde(default)]
    pub class: Option<Text<1, 16>>,
    /// What it calls itself on the line.
    #[serde(default)]
    pub outstation_id: Option<Text<1, 64>>,
    /// The logical device name of a DLMS meter.
    #[serde(default)]
    pub device_name: Option<Text<1, 64>>,
    /// The version of its firmware, as the meter tells it.
    #[serde(default)]
    pub firmware: Option<Text<1, 64>>,
    /// Its EUI-64, such as `F0:F3:AD:6C:DF:4E:6F:76`.
    #[serde(default)]
    pub guid: Option<Guid>,
    /// When it was installed.
    #[serde(default)]
    pub installed: Option<CalendarDate>,
}

/// How the customer pays.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMode {
    /// After use.
    Credit,
    /// Before use.
    Prepayment,
}

impl PaymentMode {
    /// The word used in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Prepayment => "prepayment",
        }
    }
}

impl Package {
    /// A package with nothing in it but the meter.
    pub fn of(supply_point: SupplyPoint, meter: Meter) -> Self {
        Self {
            _format: Format,
            supply_point,
            supply_start_date: None,
            meter,
            comms: Comms::default(),
            payment_mode: None,
            credentials: Vec::new(),
        }
    }

    /// Reads and validates a package.
    pub fn parse(json: &[u8]) -> Result<Self, ContentError> {
        let mut package: Self = json::parse(json, MAX_BYTES)?;
        if package.credentials.len() > MAX_CREDENTIALS {
            return Err(ContentError::at("credentials", Problem::TooLarge));
        }
        for (n, credential) in package.credentials.iter_mut().enumerate() {
            credential.put_in_order();
            if let Some((place, problem)) = credential.problem() {
                let path = format!("credentials[{n}].{place}");
                return Err(ContentError::at(path, problem));
            }
        }
        Ok(package)
    }

    /// The canonical form.
    pub fn to_json(&self) -> Secret {
        ObjectWriter::document(|o| {
            o.object("comms", |o| self.comms.write(o));
            o.objects("credentials", &self.credentials, |o, c| c.write(o));
            o.text("format", FORMAT);
            o.object("meter", |o| self.meter.write(o));
            o.optional_text("payment_mode", self.payment_mode.map(PaymentMode::as_str));
            o.text("supply_point", self.supply_point.as_str());
            let start = self.supply_start_date.map(|date| date.to_string());
            o.optional_text("supply_start_date", start.as_deref());
        })
    }

    /// The names of the fields that are there, for the header.
    pub fn inventory(&self) -> Inventory {
        let payment = self.payment_mode.map(|_| "payment_mode");
        let names = (self.meter.present().into_iter())
            .chain(self.comms.present())
            .chain(payment)
            .chain(self.credentials.iter().flat_map(Credential::present));
        Inventory::from_names(names).expect("the format has fewer names than an inventory holds")
    }

    /// What a gaining supplier will miss, by credential: such as `credentials[1].password.level_3`.
    pub fn gaps(&self) -> Vec<String> {
        let present = self.comms.present();
        let comms = COMMS_NEEDED.iter().filter(|name| !present.contains(name));
        let none = self.credentials.is_empty().then_some("credentials");
        let inside = self
            .credentials
            .iter()
            .enumerate()
            .flat_map(|(n, credential)| {
                let gaps = credential.gaps().into_iter();
                gaps.map(move |name| format!("credentials[{n}].{name}"))
            });
        comms
            .copied()
            .chain(none)
            .map(str::to_owned)
            .chain(inside)
            .collect()
    }

    /// What is odd but allowed: such as an ICCID whose check digit does not hold.
    pub fn warnings(&self) -> Vec<&'static str> {
        let wrong = |iccid: &SecretDigits<18, 22>| !iccid.luhn_holds();
        let odd = self.comms.iccid.as_ref().is_some_and(wrong);
        odd.then_some("the check digit of `comms.iccid` does not hold")
            .into_iter()
            .collect()
    }
}

impl Meter {
    /// A meter of which only serial number and make are known.
    pub fn of(serial: MeterSerial, make: MeterMake) -> Self {
        Self {
            serial,
            make,
            class: None,
            outstation_id: None,
            device_name: None,
            firmware: None,
            guid: None,
            installed: None,
        }
    }

    fn write(&self, o: &mut ObjectWriter<'_>) {
        o.optional_text("class", self.class.as_ref().map(Text::as_str));
        let device_name = self.device_name.as_ref().map(Text::as_str);
        o.optional_text("device_name", device_name);
        o.optional_text("firmware", self.firmware.as_ref().map(Text::as_str));
        o.optional_text("guid", self.guid.as_ref().map(|guid| guid.0.as_str()));
        let installed = self.installed.map(|date| date.to_string());
        o.optional_text("installed", installed.as_deref());
        let make = self.make.as_str();
        o.optional_text("make", (!make.is_empty()).then_some(make));
        let outstation = self.outstation_id.as_ref().map(Text::as_str);
        o.optional_text("outstation_id", outstation);
        o.text("serial", self.serial.original());
    }

    fn present(&self) -> Vec<&'static str> {
        [
            ("meter.class", self.class.is_some()),
            ("meter.device_name", self.device_name.is_some()),
            ("meter.firmware", self.firmware.is_some()),
            ("meter.guid", self.guid.is_some()),
            ("meter.installed", self.installed.is_some()),
            ("meter.outstation_id", self.outstation_id.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
}

/// An EUI-64: eight pairs of hexadecimal digits in capitals, with colons between.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guid(String);

impl Guid {
    /// The GUID of this text, in either case.
    pub fn from_text(text: &str) -> Option<Self> {
        let pair = |p: &str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
        let valid = text.len() == 23 && text.split(':').count() == 8 && text.split(':').all(pair);
        valid.then(|| Self(text.to_ascii_uppercase()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A calendar date, `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CalendarDate(jiff::civil::Date);

impl CalendarDate {
    /// The date of this text.
    pub fn from_text(text: &str) -> Option<Self> {
        (text.len() == 10)
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
    }
}

impl fmt::Display for CalendarDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The constant in the field `format`.
#[derive(Debug)]
struct Format;

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| (text == FORMAT).then_some(Self))
    }
}

impl<'de> Deserialize<'de> for Guid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, Self::from_text)
    }
}

impl<'de> Deserialize<'de> for CalendarDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, Self::from_text)
    }
}

impl<'de> Deserialize<'de> for MeterMake {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, |text| text.parse().ok())
    }
}

const FORMAT: &str = "cos-escrow/package/1";
const MAX_BYTES: usize = 128 * 1024;
const MAX_CREDENTIALS: usize = 16;
