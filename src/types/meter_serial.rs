use std::fmt;
use std::str::FromStr;

/// A meter's serial number as its plate or a flow has it: 1 to 32 printable ASCII characters.
///
/// Spaces and case are used inconsistently in the industry, so two serials are the same meter when their normalised
/// forms are equal; the original text is kept for people. A serial is unique only together with the meter's make.
#[derive(Clone, Debug)]
pub struct MeterSerial {
    original: String,
    normalised: String,
}

impl MeterSerial {
    /// As it was written.
    pub fn original(&self) -> &str {
        &self.original
    }

    /// Upper case, without spaces: what is compared and stored as a key.
    pub fn normalised(&self) -> &str {
        &self.normalised
    }
}

impl PartialEq for MeterSerial {
    fn eq(&self, other: &Self) -> bool {
        self.normalised == other.normalised
    }
}

impl Eq for MeterSerial {}

impl FromStr for MeterSerial {
    type Err = InvalidMeterSerial;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let normalised: String = text
            .chars()
            .filter(|c| *c != ' ')
            .map(|c| c.to_ascii_uppercase())
            .collect();
        if !printable || text.len() > 32 || normalised.is_empty() {
            return Err(InvalidMeterSerial);
        }
        Ok(Self {
            original: text.to_owned(),
            normalised,
        })
    }
}

impl fmt::Display for MeterSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.original)
    }
}

super::serde_as_text!(MeterSerial);

/// The text is not a meter serial number.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a meter serial is 1 to 32 printable characters")]
pub struct InvalidMeterSerial;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_spaces_do_not_make_another_meter() {
        let plate: MeterSerial = "F75A 00802".parse().unwrap();
        let flow: MeterSerial = "f75a00802".parse().unwrap();
        assert_eq!(plate, flow);
        assert_eq!(plate.to_string(), "F75A 00802");
    }

    #[test]
    fn refuses_what_no_plate_carries() {
        for text in ["", "   ", "A\tB", "É1", &"9".repeat(33)] {
            assert_eq!(
                text.parse::<MeterSerial>(),
                Err(InvalidMeterSerial),
                "{text:?}"
            );
        }
    }
}
