//! What registers show: decimal numbers, and times without a zone.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Malformed;
use crate::types::Timestamp;

/// A decimal number as a meter shows it: digits × 10^exponent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decimal {
    /// All digits, with the sign.
    pub digits: i64,
    /// Zero, or minus the digits behind the point.
    pub exponent: i8,
}

impl Decimal {
    /// The number that `text` is, such as `0012345.67` or `-1.5`.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (sign, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => ("-", unsigned),
            None => ("", text),
        };
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return Err(Malformed::Form);
        }
        let digits = format!("{sign}{whole}{fraction}").parse();
        let behind = i8::try_from(fraction.len()).map_err(|_| Malformed::Form)?;
        Ok(Self {
            digits: digits.map_err(|_| Malformed::Form)?,
            exponent: -behind,
        })
    }
}

/// The instant of a date `yymmdd` and a time `hhmmss`, with or without `-` and `:` between. The meters of Great Britain
/// keep GMT all year.
pub fn instant(date: &str, time: &str) -> Result<Timestamp, Malformed> {
    let [year, month, day] = pairs(date, '-')?;
    let [hour, minute, second] = pairs(time, ':')?;
    let shown = DateTime::new(2000 + i16::from(year), month, day, hour, minute, second, 0);
    let instant = shown.and_then(|shown| TimeZone::UTC.to_timestamp(shown));
    let instant = instant.map_err(|_| Malformed::Form)?;
    u64::try_from(instant.as_millisecond())
        .map(Timestamp::from_millis)
        .map_err(|_| Malformed::Form)
}

/// An instant as date `yymmdd` and time `hhmmss`.
pub fn date_and_time(at: Timestamp) -> (String, String) {
    let text = at.to_string();
    let pieces = |from: usize, to: usize| {
        text.get(from..to)
            .unwrap_or_default()
            .replace(['-', ':'], "")
    };
    (pieces(2, 10), pieces(11, 19))
}

fn pairs(text: &str, between: char) -> Result<[i8; 3], Malformed> {
    let bare = text.replace(between, "");
    let pair = |at: usize| {
        let pair = bare
            .get(at..at + 2)
            .filter(|pair| pair.bytes().all(|b| b.is_ascii_digit()));
        pair.and_then(|pair| pair.parse().ok())
            .ok_or(Malformed::Form)
    };
    match bare.len() {
        6 => Ok([pair(0)?, pair(2)?, pair(4)?]),
        _ => Err(Malformed::Form),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_with_their_point() {
        for (text, digits, exponent) in [
            ("0012345.67", 1_234_567, -2),
            ("7", 7, 0),
            ("-1.5", -15, -1),
            ("0.000", 0, -3),
            ("5.", 5, 0),
        ] {
            assert_eq!(
                Decimal::parse(text),
                Ok(Decimal { digits, exponent }),
                "{text}"
            );
        }
        for text in [
            "",
            "-",
            ".5",
            "1,5",
            "1.2.3",
            "+1",
            "1e3",
            "99999999999999999999",
            "٣",
        ] {
            assert_eq!(Decimal::parse(text), Err(Malformed::Form), "{text}");
        }
    }

    #[test]
    fn a_clock_is_read_in_both_spellings() {
        let expected: Timestamp = "2026-11-28T09:15:59Z".parse().unwrap();
        assert_eq!(instant("261128", "091559"), Ok(expected));
        assert_eq!(instant("26-11-28", "09:15:59"), Ok(expected));
        assert_eq!(
            date_and_time(expected),
            ("261128".to_owned(), "091559".to_owned())
        );
        for (date, time) in [
            ("261328", "091559"),
            ("261128", "0915"),
            ("26112x", "091559"),
            ("", ""),
            ("2é128", "091559"),
        ] {
            assert_eq!(instant(date, time), Err(Malformed::Form), "{date} {time}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(one in ".{0,24}", other in ".{0,24}") {
            let _ = (Decimal::parse(&one), instant(&one, &other));
        }
    }
}
