//! COSEM date-times: twelve bytes, any field of which may be left open.
//!
//! ```text
//! year u16 | month | day | weekday (1 = Monday) | hour | minute | second | hundredths | deviation i16 | status
//! ```

use super::Malformed;
use super::axdr::Value;
use crate::types::Timestamp;

/// The instant a clock shows. `None` if a field is left open or the deviation from UTC is not told.
pub fn instant(value: &Value) -> Result<Option<Timestamp>, Malformed> {
    let bytes: [u8; 12] = match value {
        Value::DateTime(bytes) => *bytes,
        other => other
            .as_bytes()?
            .try_into()
            .map_err(|_| Malformed::Length)?,
    };
    let [y0, y1, month, day, _, hour, minute, second, _, d0, d1, _] = bytes;
    let year = i64::from(u16::from_be_bytes([y0, y1]));
    let behind_utc = i64::from(i16::from_be_bytes([d0, d1]));
    let valid = (1970..9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && (hour < 24 && minute < 60 && second < 60)
        && (-720..=840).contains(&behind_utc);
    if !valid {
        return Ok(None);
    }
    let days = days_before(year, month) + i64::from(day) - 1;
    let minutes = (days * 24 + i64::from(hour)) * 60 + i64::from(minute) + behind_utc;
    let seconds = u64::try_from(minutes * 60 + i64::from(second)).ok();
    Ok(seconds.map(Timestamp::from_seconds))
}

/// A UTC instant as a clock would show it.
pub fn date_time(instant: Timestamp) -> Value {
    let days = i64::try_from(instant.as_seconds() / SECONDS_A_DAY).unwrap_or(i64::MAX);
    let seconds = instant.as_seconds() % SECONDS_A_DAY;
    let days = days.min(days_before(9998, 12));
    // A first guess that is never too late, then forward.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12)
        .rev()
        .find(|month| days_before(year, *month) <= days)
        .unwrap_or(1);
    let byte = |number: i64| u8::try_from(number).unwrap_or(0xFF);
    let part = |unit: u64, of: u64| u8::try_from(seconds / unit % of).unwrap_or(0xFF);
    let [y0, y1] = u16::try_from(year).unwrap_or(u16::MAX).to_be_bytes();
    let day = byte(days - days_before(year, month) + 1);
    let weekday = byte((days + 3) % 7 + 1);
    let (hour, minute, second) = (part(3600, 24), part(60, 60), part(1, 60));
    Value::OctetString(vec![
        y0, y1, month, day, weekday, hour, minute, second, 0, 0, 0, 0,
    ])
}

/// Days from the epoch to the first of a month.
fn days_before(year: i64, month: u8) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - LEAP_DAYS_BEFORE_1970;
    let months: i64 = (1..month)
        .map(|earlier| i64::from(days_in(year, earlier)))
        .sum();
    (year - 1970) * 365 + leap_days + months
}

fn days_in(year: i64, month: u8) -> u8 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const LEAP_DAYS_BEFORE_1970: i64 = 477;
const SECONDS_A_DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn published_instants_hold() {
        for (text, weekday) in [
            ("1970-01-01T00:00:00Z", 4),
            ("2000-02-29T12:00:00Z", 2),
            ("2024-02-29T00:00:00Z", 4),
            ("2026-03-01T00:00:00Z", 7),
            ("2025-12-31T23:59:59Z", 3),
        ] {
            let time: Timestamp = text.parse().unwrap();
            let value = date_time(time);
            assert_eq!(value.as_bytes().unwrap()[4], weekday, "{text}");
            assert_eq!(instant(&value), Ok(Some(time)), "{text}");
        }
    }

    #[test]
    fn the_deviation_counts_towards_utc() {
        // 2025-01-15 12:00 in a zone one hour ahead of UTC.
        let bytes = [0x07, 0xE9, 1, 15, 3, 12, 0, 0, 0, 0xFF, 0xC4, 0];
        let expected = "2025-01-15T11:00:00Z".parse().unwrap();
        assert_eq!(instant(&Value::DateTime(bytes)), Ok(Some(expected)));
    }

    #[test]
    fn an_open_field_is_no_instant() {
        let mut bytes = [0x07, 0xE9, 1, 15, 3, 12, 0, 0, 0, 0x80, 0x00, 0];
        assert_eq!(instant(&Value::DateTime(bytes)), Ok(None));
        bytes[9..11].fill(0);
        bytes[3] = 0xFE;
        assert_eq!(instant(&Value::DateTime(bytes)), Ok(None));
        assert_eq!(
            instant(&Value::OctetString(vec![1])),
            Err(Malformed::Length)
        );
    }

    proptest! {
        #[test]
        fn a_clock_shows_the_instant_it_was_set_to(seconds in 0_u64..200_000_000_000) {
            let time = Timestamp::from_seconds(seconds);
            prop_assert_eq!(instant(&date_time(time)), Ok(Some(time)));
        }

        #[test]
        fn no_bytes_make_the_clock_panic(bytes: [u8; 12]) {
            let _ = instant(&Value::DateTime(bytes));
        }
    }
}
