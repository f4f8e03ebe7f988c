//! Data sets, and the blocks of them that a meter answers with.
//!
//! ```text
//! address ( value [* unit] )      the address may be missing, and then belongs to the set before
//! ```

use std::fmt;

use zeroize::Zeroizing;

use super::{ETX, Malformed, STX, bcc, is_plain};

/// One data set. Its value may be a password, so `Debug` does not show it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct DataSet<'a> {
    address: &'a str,
    value: &'a str,
    unit: Option<&'a str>,
}

impl<'a> DataSet<'a> {
    /// A data set; each part has a length and characters that it may not have.
    pub fn new(address: &'a str, value: &'a str, unit: Option<&'a str>) -> Result<Self, Malformed> {
        let is_right = is_plain(address, MAX_ADDRESS, b"()/!*")
            && is_plain(value, MAX_VALUE, b"()/!*")
            && unit.is_none_or(|unit| is_plain(unit, MAX_UNIT, b"()/!*"));
        let set = Self {
            address,
            value,
            unit,
        };
        is_right.then_some(set).ok_or(Malformed::Form)
    }

    /// An address with nothing in its brackets: what a read asks for.
    pub fn of(address: &'a str) -> Result<Self, Malformed> {
        Self::new(address, "", None)
    }

    /// The name of the register; empty if it has none.
    pub fn address(&self) -> &'a str {
        self.address
    }

    /// What it shows.
    pub fn value(&self) -> &'a str {
        self.value
    }

    /// In what, if the meter says.
    pub fn unit(&self) -> Option<&'a str> {
        self.unit
    }

    /// The one data set that `text` is.
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed> {
        match Self::split(text)? {
            (set, "") => Ok(set),
            _ => Err(Malformed::Form),
        }
    }

    fn split(text: &'a str) -> Result<(Self, &'a str), Malformed> {
        let (address, rest) = text.split_once('(').ok_or(Malformed::Form)?;
        let (content, rest) = rest.split_once(')').ok_or(Malformed::Form)?;
        let (value, unit) = match content.split_once('*') {
            Some((value, unit)) => (value, Some(unit)),
            None => (content, None),
        };
        Ok((Self::new(address, value, unit)?, rest))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let unit = self.unit.map(|unit| ["*", unit]);
        let unit = unit.as_ref().map_or(&[][..], |unit| &unit[..]);
        let parts = [self.address, "(", self.value];
        for part in parts.iter().chain(unit).chain(&[")"]) {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl fmt::Debug for DataSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(redacted)", self.address)
    }
}

/// What a meter answers with between STX and ETX.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// Data sets, in the order of the meter.
    Sets(Vec<DataSet<'a>>),
    /// It does not want to: what stands behind `ER`, such as `R3` of `(ERR3)`. What it means is the maker's secret.
    Refused(&'a str),
}

impl<'a> Reply<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let lines = text.strip_suffix("!\r\n").unwrap_or(text);
        let mut sets = Vec::new();
        for line in lines.split_terminator("\r\n") {
            let mut rest = line;
            while !rest.is_empty() {
                let set;
                (set, rest) = DataSet::split(rest)?;
                sets.push(set);
            }
        }
        match &sets[..] {
            [only] if only.address.is_empty() => match only.value.strip_prefix("ER") {
                Some(code) => Ok(Self::Refused(code)),
                None => Ok(Self::Sets(sets)),
            },
            _ => Ok(Self::Sets(sets)),
        }
    }
}

/// A block with these data sets, as it goes out.
pub fn block<'a>(sets: impl IntoIterator<Item = DataSet<'a>>) -> Zeroizing<Vec<u8>> {
    let mut out = begun();
    for set in sets {
        set.write(&mut out);
    }
    ended(out)
}

/// A readout as it goes out: a line for each data set, and the line that ends it.
pub fn readout<'a>(sets: impl IntoIterator<Item = DataSet<'a>>) -> Zeroizing<Vec<u8>> {
    let mut out = begun();
    for set in sets {
        set.write(&mut out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"!\r\n");
    ended(out)
}

fn begun() -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(64));
    out.push(STX);
    out
}

fn ended(mut out: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    out.push(ETX);
    let check = bcc(&out[1..]);
    out.push(check);
    out
}

/// Characters of an address, of a value in programming mode, and of a unit.
const MAX_ADDRESS: usize = 16;
const MAX_VALUE: usize = 128;
const MAX_UNIT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(address: &'a str, value: &'a str, unit: Option<&'a str>) -> DataSet<'a> {
        DataSet::new(address, value, unit).unwrap()
    }

    #[test]
    fn a_block_has_the_bytes_of_the_standard() {
        let bytes = block([set("1.8.0", "0012345.67", Some("kWh"))]);
        assert_eq!(bytes[..], *b"\x021.8.0(0012345.67*kWh)\x03[");
    }

    #[test]
    fn sets_stand_in_lines_or_one_behind_the_other() {
        let parsed = Reply::parse("1.6.1(0.12*kW)(2511280915)\r\n1.8.0(7*kWh)\r\n!\r\n");
        let sets = vec![
            set("1.6.1", "0.12", Some("kW")),
            set("", "2511280915", None),
            set("1.8.0", "7", Some("kWh")),
        ];
        assert_eq!(parsed, Ok(Reply::Sets(sets)));
        assert_eq!(Reply::parse("!\r\n"), Ok(Reply::Sets(Vec::new())));
    }

    #[test]
    fn a_refusal_is_a_set_without_an_address_that_begins_with_er() {
        assert_eq!(Reply::parse("(ERR3)"), Ok(Reply::Refused("R3")));
        assert_eq!(Reply::parse("(ER07)"), Ok(Reply::Refused("07")));
        for data in ["(3)", "1.8.0(ERR3)", "(ERR3)(1)"] {
            assert!(matches!(Reply::parse(data), Ok(Reply::Sets(_))), "{data}");
        }
    }

    #[test]
    fn what_is_no_data_set_is_refused() {
        let long = "1".repeat(129);
        for text in [
            "1.8.0",
            "1.8.0(",
            "1.8.0)7(",
            "1.8.0(7",
            "1.8.0(7)x",
            "1.8.0((7))",
            "1.8.0(7*kWh*h)",
            "1/8(7)",
            "1.8.0(\n)",
            "1.8.0(é)",
            "12345678901234567(7)",
            &format!("1.8.0({long})"),
        ] {
            assert_eq!(Reply::parse(text), Err(Malformed::Form), "{text}");
        }
    }

    #[test]
    fn a_value_does_not_print() {
        assert_eq!(
            format!("{:?}", set("C003.1", "FEDC0003", None)),
            "C003.1(redacted)"
        );
    }
}
