//! Windows, delays and limits: the documented defaults, and the bounds within which an operator may move them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{SupplyStartDate, Timestamp};

/// Windows, delays and limits of the service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// How long before the supply start a release is possible: hours, 0 to 24.
    pub release_lead_hours: u32,
    /// How long after the supply start it is: days, 1 to 400.
    pub release_window_days: u32,
    /// How long after a confirmation the retired generations are kept: hours, 24 to 2,160.
    pub grace_hours: u32,
    /// How long before a further key of a party is sealed to: hours, 1 to 168.
    pub key_activation_delay_hours: u32,
    /// After which silence of the registration feed nothing is released: hours, 1 to 168.
    pub feed_staleness_hours: u32,
    /// How far the time in a signed request may be from now: seconds, 30 to 900.
    pub confirm_skew_seconds: u32,
    /// Refusals that a party may cause in a minute before it is answered 429: 1 to 10,000.
    pub refusals_per_minute: u32,
    /// Acts a minute of a party that are an entry each time although they were done before, such as deliveries of a
    /// release after the first: 60 to 10,000, so that nobody waits longer than a second for the next.
    pub repeats_per_minute: u32,
    /// Look-ups a minute of supply points that a party neither supplies nor is about to: 1 to 10,000.
    pub lookups_per_minute: u32,
    /// Whether a dispute about the closing read holds the credentials back.
    pub dispute_holds_credentials: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            release_lead_hours: 0,
            release_window_days: 60,
            grace_hours: 72,
            key_activation_delay_hours: 24,
            feed_staleness_hours: 26,
            confirm_skew_seconds: 300,
            refusals_per_minute: 60,
            repeats_per_minute: 600,
            lookups_per_minute: 60,
            dispute_holds_credentials: true,
        }
    }
}

impl Terms {
    /// Refuses values outside the bounds: no operator can widen a release beyond them.
    pub fn validated(self) -> Result<Self, InvalidTerms> {
        let bounds = [
            ("release_lead_hours", self.release_lead_hours, 0, 24),
            ("release_window_days", self.release_window_days, 1, 400),
            ("grace_hours", self.grace_hours, 24, 2_160),
            (
                "key_activation_delay_hours",
                self.key_activation_delay_hours,
                1,
                168,
            ),
            ("feed_staleness_hours", self.feed_staleness_hours, 1, 168),
            ("confirm_skew_seconds", self.confirm_skew_seconds, 30, 900),
            ("refusals_per_minute", self.refusals_per_minute, 1, 10_000),
            ("repeats_per_minute", self.repeats_per_minute, 60, 10_000),
            ("lookups_per_minute", self.lookups_per_minute, 1, 10_000),
        ];
        match bounds
            .into_iter()
            .find(|(_, value, min, max)| value < min || value > max)
        {
            Some((name, value, min, max)) => Err(InvalidTerms {
                name,
                value,
                min,
                max,
            }),
            None => Ok(self),
        }
    }

    /// When a handover's package may be released.
    pub fn window(&self, supply_start: SupplyStartDate) -> Window {
        let start = supply_start.effective_at();
        Window {
            opens_at: start.before(hours(self.release_lead_hours)),
            closes_at: start.after(hours(self.release_window_days * 24)),
        }
    }

    /// How long retired generations are kept.
    pub fn grace(&self) -> Duration {
        hours(self.grace_hours)
    }

    /// How long before a further key of a party is sealed to.
    pub fn key_activation_delay(&self) -> Duration {
        hours(self.key_activation_delay_hours)
    }

    /// After which silence of the feed nothing is released.
    pub fn feed_staleness(&self) -> Duration {
        hours(self.feed_staleness_hours)
    }

    /// Whether the time in a signed request is close enough to now.
    pub fn is_fresh(&self, signed_at: Timestamp, now: Timestamp) -> bool {
        let distance = signed_at.since(now).max(now.since(signed_at));
        distance <= self.confirm_skew()
    }

    /// Whether something says that it was made later than now, beyond what clocks may differ by.
    pub fn is_ahead(&self, made_at: Timestamp, now: Timestamp) -> bool {
        made_at.since(now) > self.confirm_skew()
    }

    fn confirm_skew(&self) -> Duration {
        Duration::from_secs(u64::from(self.confirm_skew_seconds))
    }
}

fn hours(hours: u32) -> Duration {
    Duration::from_secs(u64::from(hours) * 3600)
}

/// From when until when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// From this instant on.
    pub opens_at: Timestamp,
    /// Before this instant.
    pub closes_at: Timestamp,
}

/// A value outside its bounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{name}` is {value} but must be {min} to {max}")]
pub struct InvalidTerms {
    /// Which value.
    pub name: &'static str,
    /// What it is.
    pub value: u32,
    /// The least that it may be.
    pub min: u32,
    /// The most that it may be.
    pub max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        assert_eq!(Terms::default().validated(), Ok(Terms::default()));
    }

    #[test]
    fn a_lead_of_more_than_a_day_is_refused() {
        let terms = Terms {
            release_lead_hours: 25,
            ..Terms::default()
        };
        assert_eq!(
            terms.validated().map_err(|e| e.name),
            Err("release_lead_hours")
        );
    }

    #[test]
    fn no_allowance_keeps_a_retry_waiting_for_more_than_a_second() {
        let terms = Terms {
            repeats_per_minute: 59,
            ..Terms::default()
        };
        assert_eq!(
            terms.validated().map_err(|e| e.name),
            Err("repeats_per_minute")
        );
    }

    #[test]
    fn the_window_opens_at_midnight_in_london() {
        let window = Terms::default().window("2025-07-01".parse().unwrap());
        assert_eq!(window.opens_at.to_string(), "2025-06-30T23:00:00.000Z");
    }

    #[test]
    fn freshness_is_symmetric() {
        let (terms, now) = (Terms::default(), Timestamp::from_seconds(10_000));
        for (seconds, fresh) in [
            (9_700, true),
            (10_300, true),
            (9_699, false),
            (10_301, false),
        ] {
            assert_eq!(terms.is_fresh(Timestamp::from_seconds(seconds), now), fresh);
        }
    }
}
