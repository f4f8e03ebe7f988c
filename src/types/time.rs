use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC. As text RFC 3339 with milliseconds and `Z`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The instant `seconds` seconds after the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This instant moved forward; stays at the end of time rather than wrapping.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This instant moved back; stays at the epoch rather than wrapping.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time from `earlier` until this instant, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{instant:.3}")
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    /// Any RFC 3339 instant at or after the epoch; finer digits than milliseconds are cut off.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        u64::try_from(instant.as_millisecond())
            .map(Self)
            .map_err(|_| InvalidTime)
    }
}

/// The date from which a supplier supplies: a GB local calendar date, `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SupplyStartDate(jiff::civil::Date);

impl SupplyStartDate {
    /// The instant at which supply starts: 00:00 in London on that date.
    pub fn effective_at(self) -> Timestamp {
        let instant = self
            .0
            .in_tz(LONDON)
            .map(|zoned| zoned.timestamp().as_millisecond())
            .ok()
            .and_then(|millis| u64::try_from(millis).ok());
        Timestamp(instant.expect("a date is within `YEARS`"))
    }

    /// Gate closure, when a switch on that date can no longer be stopped: 17:00 in London the day before.
    pub fn gate_closure_at(self) -> Timestamp {
        let eve = self.previous().0.at(17, 0, 0, 0);
        let instant = eve
            .in_tz(LONDON)
            .map(|zoned| zoned.timestamp().as_millisecond())
            .ok()
            .and_then(|millis| u64::try_from(millis).ok());
        Timestamp(instant.expect("a date is within `YEARS`"))
    }

    /// The London date on which `instant` falls.
    pub fn containing(instant: Timestamp) -> Result<Self, InvalidTime> {
        let millis = i64::try_from(instant.0).map_err(|_| InvalidTime)?;
        let instant = jiff::Timestamp::from_millisecond(millis).map_err(|_| InvalidTime)?;
        let local = instant.in_tz(LONDON).map_err(|_| InvalidTime)?;
        Self::within_years(local.date())
    }

    fn within_years(date: jiff::civil::Date) -> Result<Self, InvalidTime> {
        YEARS
            .contains(&date.year())
            .then_some(Self(date))
            .ok_or(InvalidTime)
    }

    /// The day before.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.yesterday().unwrap_or(self.0))
    }
}

impl FromStr for SupplyStartDate {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 10 {
            return Err(InvalidTime);
        }
        Self::within_years(text.parse().map_err(|_| InvalidTime)?)
    }
}

impl fmt::Display for SupplyStartDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The text is not a time or date of this form.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not an RFC 3339 time or date after 1970")]
pub struct InvalidTime;

/// The years of a supply start: every instant that is derived from one is after the epoch and can be written.
const YEARS: std::ops::Range<i16> = 1971..9000;

super::serde_as_text!(Timestamp, SupplyStartDate);

/// Tells the time. The service has one that asks the system; tests set theirs.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system for the time"
    )]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(millis(since))
    }
}

/// A clock that stands still until it is moved. Clones share the hands.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    /// Moves the hands to `now`, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the hands forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(millis(duration), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The zone of the GB market; the time-zone database is compiled in.
const LONDON: &str = "Europe/London";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supply_starts_at_midnight_in_london() {
        for (date, instant) in [
            ("2025-03-30", "2025-03-30T00:00:00.000Z"),
            ("2025-03-31", "2025-03-30T23:00:00.000Z"),
            ("2025-07-01", "2025-06-30T23:00:00.000Z"),
            ("2025-10-26", "2025-10-25T23:00:00.000Z"),
            ("2025-10-27", "2025-10-27T00:00:00.000Z"),
        ] {
            let date: SupplyStartDate = date.parse().unwrap();
            assert_eq!(date.effective_at().to_string(), instant);
            assert_eq!(SupplyStartDate::containing(date.effective_at()), Ok(date));
        }
    }

    #[test]
    fn the_gate_closes_at_five_in_the_afternoon_before() {
        for (date, instant) in [
            ("2025-07-01", "2025-06-30T16:00:00.000Z"),
            ("2025-03-30", "2025-03-29T17:00:00.000Z"),
            ("2025-03-31", "2025-03-30T16:00:00.000Z"),
            ("2025-10-27", "2025-10-26T17:00:00.000Z"),
        ] {
            let date: SupplyStartDate = date.parse().unwrap();
            assert_eq!(date.gate_closure_at().to_string(), instant);
        }
    }

    #[test]
    fn a_time_parses_what_it_prints() {
        let time = Timestamp::from_millis(1_790_000_000_123);
        assert_eq!(time.to_string(), "2026-09-21T14:13:20.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn refuses_other_text() {
        for text in ["", "2025-1-01", "2025-02-30", "1960-01-01", "20250101"] {
            assert!(text.parse::<SupplyStartDate>().is_err(), "{text:?}");
        }
        for text in ["", "2025-01-01", "1969-12-31T23:59:59Z", "now"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }
}
