//! The header of an envelope: all that the service and an auditor can know of a sealed package.
//!
//! It is authenticated with the payload, bound into every stanza and covered by the depositor's signature. There is
//! exactly one encoding of a header (primitives in `wire`):
//!
//! ```text
//! format           u8       1
//! suite            u8       1 = HKDF-SHA256, AES-256-GCM, commitment (see `payload`)
//! envelope id      [16]     random
//! component        u8       1 = credentials, 2 = read
//! created          u64      milliseconds since 1970-01-01T00:00Z
//! supply point     text8    MPAN core of 13 digits or MPRN of 6 to 10
//! meter make       text8    0 to 40 characters; empty where unknown
//! meter serial     text8    normalised: upper case, no spaces; 1 to 32 characters
//! depositor        text8    party id
//! supply start     text8    YYYY-MM-DD, or empty
//! read commitment  u8       0, or 1 followed by [32]
//! inventory        u8 n     at most 128, then n times text8, strictly ascending by bytes:
//!                           names of 1 to 48 characters of a-z 0-9 `_` `.`
//! ```
//! `H(header)` everywhere else is SHA-256 of these bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::types::{
    Component, Digest, EnvelopeId, MeterSerial, PartyId, SupplyPoint, SupplyStartDate, Timestamp,
};

use super::wire::{Decoder, Encoder, FormatError};

/// What everybody who holds an envelope can read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The random name of the envelope.
    pub envelope_id: EnvelopeId,
    /// Keys or read.
    pub component: Component,
    /// When it was sealed, by the depositor's clock.
    pub created_at: Timestamp,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// Who made the meter.
    pub meter_make: MeterMake,
    /// Which meter. Only the normalised form travels.
    pub meter_serial: MeterSerial,
    /// Who sealed and signed it.
    pub depositor: PartyId,
    /// For which change of supplier, where one is known.
    pub supply_start: Option<SupplyStartDate>,
    /// The salted commitment of the closing read, where there is one.
    pub read_commitment: Option<Digest>,
    /// Which fields the sealed content has.
    pub inventory: Inventory,
}

impl Header {
    /// The one encoding.
    pub fn encode(&self) -> Vec<u8> {
        let start = self.supply_start.map(|date| date.to_string());
        let encoder = Encoder::default()
            .u8(FORMAT)
            .u8(SUITE)
            .raw(self.envelope_id.as_bytes())
            .u8(component_code(self.component))
            .u64(self.created_at.as_millis())
            .text8(self.supply_point.as_str())
            .text8(self.meter_make.as_str())
            .text8(self.meter_serial.normalised())
            .text8(self.depositor.as_str())
            .text8(start.as_deref().unwrap_or_default());
        let encoder = match &self.read_commitment {
            None => encoder.u8(0),
            Some(commitment) => encoder.u8(1).raw(commitment.as_bytes()),
        };
        encoder
            .count(self.inventory.0.len())
            .each(&self.inventory.0, |e, name| e.text8(name.as_str()))
            .finish()
    }

    /// Reads the one encoding; any other is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Decoder::after_magic(bytes, &[FORMAT])?;
        if fields.u8()? != SUITE {
            return Err(FormatError::UnknownSuite);
        }
        let header = Self {
            envelope_id: EnvelopeId(fields.array()?),
            component: component_of(fields.u8()?)?,
            created_at: Timestamp::from_millis(fields.u64()?),
            supply_point: fields.parsed("supply_point")?,
            meter_make: fields.parsed("meter_make")?,
            meter_serial: normalised_serial(&mut fields)?,
            depositor: fields.parsed("depositor")?,
            supply_start: optional_date(&mut fields)?,
            read_commitment: match fields.present("read_commitment")? {
                false => None,
                true => Some(Digest(fields.array()?)),
            },
            inventory: Inventory::decode(&mut fields)?,
        };
        fields.finish()?;
        Ok(header)
    }

    /// `H(header)`: what stanzas, keys and records are bound to.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

fn normalised_serial(fields: &mut Decoder<'_>) -> Result<MeterSerial, FormatError> {
    let serial: MeterSerial = fields.parsed("meter_serial")?;
    if serial.original() == serial.normalised() {
        Ok(serial)
    } else {
        Err(FormatError::Field("meter_serial"))
    }
}

fn optional_date(fields: &mut Decoder<'_>) -> Result<Option<SupplyStartDate>, FormatError> {
    const FIELD: &str = "supply_start";
    let text = fields.text8(FIELD)?;
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<SupplyStartDate>() {
        Ok(date) if date.to_string() == text => Ok(Some(date)),
        _ => Err(FormatError::Field(FIELD)),
    }
}

fn component_code(component: Component) -> u8 {
    match component {
        Component::Credentials => 1,
        Component::Read => 2,
    }
}

fn component_of(code: u8) -> Result<Component, FormatError> {
    match code {
        1 => Ok(Component::Credentials),
        2 => Ok(Component::Read),
        _ => Err(FormatError::Field("component")),
    }
}

/// Who made a meter, and its type: up to 40 printable ASCII characters, empty where unknown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MeterMake(String);

impl MeterMake {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MeterMake {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() <= 40 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        fits.then(|| Self(text.to_owned()))
            .ok_or(FormatError::Field("meter_make"))
    }
}

impl fmt::Display for MeterMake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A short machine word: 1 to 48 characters of `a-z 0-9 _ .`, such as `dlms.guek` or `current`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Word(String);

impl Word {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
        let fits = (1..=48).contains(&text.len()) && text.bytes().all(valid);
        fits.then(|| Self(text.to_owned()))
            .ok_or(FormatError::Field("word"))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of the fields that a sealed package has: what can be checked without opening it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inventory(BTreeSet<Word>);

impl Inventory {
    /// The inventory of these names; repeated names count once.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, FormatError> {
        let names: BTreeSet<Word> = names
            .into_iter()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if names.len() > MAX_NAMES {
            return Err(FormatError::TooLarge("inventory"));
        }
        Ok(Self(names))
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|present| present.as_str() == name)
    }

    /// The names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Word::as_str)
    }

    /// What a gaining supplier will miss, as far as it shows without opening the package.
    ///
    /// Several credentials share one inventory, so that a field missing from only one of them does not show here;
    /// `Package::gaps` sees it.
    pub fn gaps(&self) -> Vec<&'static str> {
        let mut gaps = Vec::new();
        let starts = |prefix: &str| self.names().any(|name| name.starts_with(prefix));
        let (dlms, password) = (starts("dlms."), starts("password."));
        if !dlms && !password {
            gaps.push("credentials");
        }
        let needed = (COMMS_NEEDED.iter())
            .chain(DLMS_NEEDED.iter().filter(|_| dlms))
            .chain(PASSWORD_NEEDED.iter().filter(|_| password));
        gaps.extend(needed.filter(|name| !self.has(name)));
        gaps
    }

    fn decode(fields: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let names: Vec<Word> = fields.list("inventory", MAX_NAMES, |f| f.parsed("inventory"))?;
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::OutOfOrder("inventory"));
        }
        Ok(Self(names.into_iter().collect()))
    }
}

/// Without these a gaining supplier cannot reach the meter.
pub(super) const COMMS_NEEDED: &[&str] = &["comms.address", "comms.port"];
/// Without these a DLMS meter cannot be taken over: a new key is sent under the KEK.
pub(super) const DLMS_NEEDED: &[&str] = &["dlms.gak", "dlms.guek", "dlms.kek"];
/// Level 3 is the one that changes passwords, and the one that industry flows most often lack.
pub(super) const PASSWORD_NEEDED: &[&str] =
    &["password.level_1", "password.level_2", "password.level_3"];

const FORMAT: u8 = 1;
const SUITE: u8 = 1;
const MAX_NAMES: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::testing;

    #[test]
    fn a_header_decodes_to_what_was_encoded() {
        let header = testing::header();
        let bytes = header.encode();
        let read = Header::decode(&bytes).unwrap();
        assert_eq!((&read, read.encode()), (&header, bytes));
    }

    #[test]
    fn a_serial_that_is_not_normalised_is_refused() {
        let bytes = testing::header().encode();
        let serial = b"E19B762798";
        let at = bytes.windows(10).position(|w| w == serial).unwrap();
        let mut lower = bytes;
        lower[at] = b'e';
        assert_eq!(
            Header::decode(&lower),
            Err(FormatError::Field("meter_serial"))
        );
    }

    #[test]
    fn an_inventory_out_of_order_or_with_repetitions_is_refused() {
        let header = Header {
            inventory: Inventory::from_names(["a", "b"]).unwrap(),
            ..testing::header()
        };
        let good = header.encode();
        for tail in [b"\x01b\x01a", b"\x01a\x01a"] {
            let mut bytes = good.clone();
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(tail);
            assert_eq!(
                Header::decode(&bytes),
                Err(FormatError::OutOfOrder("inventory"))
            );
        }
    }

    #[test]
    fn truncated_and_extended_headers_are_refused() {
        let bytes = testing::header().encode();
        for length in 0..bytes.len() {
            assert!(Header::decode(&bytes[..length]).is_err(), "{length}");
        }
        let extended = [&bytes[..], &[0]].concat();
        assert_eq!(Header::decode(&extended), Err(FormatError::TrailingBytes));
    }

    #[test]
    fn gaps_show_in_the_inventory() {
        let gaps = |names: &[&str]| {
            Inventory::from_names(names.iter().copied())
                .unwrap()
                .gaps()
                .join(" ")
        };
        assert_eq!(gaps(&[]), "credentials comms.address comms.port");
        let comms = ["comms.address", "comms.port"];
        assert_eq!(
            gaps(&[&comms[..], &["dlms.guek"]].concat()),
            "dlms.gak dlms.kek"
        );
        assert_eq!(
            gaps(&[&comms[..], &["password.level_1", "password.level_2"]].concat()),
            "password.level_3"
        );
    }

    proptest! {
        #[test]
        fn what_decodes_has_one_encoding(mut bytes in Just(testing::header().encode()), at in 0..200_usize, to: u8) {
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = Header::decode(&bytes);
            let _ = Header::decode(&[&[1, 1], &bytes[..]].concat());
        }
    }
}
