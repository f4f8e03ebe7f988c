//! How often a party may have done again what is an entry each time, so that nobody fills a log that is never pruned by
//! being answered well.
//!
//! A bucket of tokens a party and a kind of act: it holds a minute's worth and fills evenly, so that who has spent it
//! waits for one token, not for the next minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Failure, Shared};
use crate::handover::Terms;
use crate::types::{Code, PartyId, Timestamp};

impl Shared {
    /// Takes one of the acts of this kind that the party has left; else refuses it for as long as the next is not there.
    /// What is decided twice, as its batch failed, counts twice.
    pub(super) fn allow(&self, what: Use, party: &PartyId, terms: &Terms) -> Result<(), Failure> {
        let per_minute = match what {
            Use::Repeat => terms.repeats_per_minute,
            Use::LookUp => terms.lookups_per_minute,
        };
        let now = self.clock.now();
        let taken = self.allowances.take(what, party, per_minute, now);
        taken.map_err(|wait| Failure::for_now(Code::AllowanceSpent, wait))
    }
}

/// What a bucket is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Use {
    /// Another delivery of a release, another word about a handover or a meter.
    Repeat,
    /// A look-up where the party neither supplies nor is about to.
    LookUp,
}

/// What the parties have left.
#[derive(Debug, Default)]
pub(super) struct Allowances(Mutex<BTreeMap<(Use, PartyId), Bucket>>);

/// Tokens in parts of which a minute fills `per_minute` tokens, whatever that is, without a remainder.
#[derive(Debug)]
struct Bucket {
    parts: u64,
    at: Timestamp,
}

impl Allowances {
    /// Takes one of the `per_minute` (1 at least) acts that a party has; else says how long to wait for the next.
    pub(super) fn take(
        &self,
        what: Use,
        party: &PartyId,
        per_minute: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let rate = u64::from(per_minute);
        let full = rate * TOKEN;
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((what, party.clone())).or_insert(Bucket {
            parts: full,
            at: now,
        });
        let passed = u64::try_from(now.since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.parts = bucket
            .parts
            .saturating_add(passed.saturating_mul(rate))
            .min(full);
        bucket.at = bucket.at.max(now);
        match bucket.parts.checked_sub(TOKEN) {
            Some(left) => {
                bucket.parts = left;
                Ok(())
            }
            None => Err(Duration::from_millis((TOKEN - bucket.parts).div_ceil(rate))),
        }
    }
}

/// Parts of one token: a rate of one a minute fills one part a millisecond.
const TOKEN: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(600);

    #[test]
    fn a_minutes_worth_is_there_at_once_and_then_one_after_the_other() {
        let (allowances, party) = (Allowances::default(), "a".parse().unwrap());
        let take = |now| allowances.take(Use::Repeat, &party, 120, now);
        for _ in 0..120 {
            assert_eq!(take(NOW), Ok(()));
        }
        let wait = Duration::from_millis(500);
        assert_eq!(take(NOW), Err(wait));
        assert_eq!(take(NOW.after(wait / 2)), Err(wait / 2));
        assert_eq!(take(NOW.after(wait)), Ok(()));
        assert_eq!(take(NOW.after(wait)), Err(wait));
        // No more than a minute's worth is saved up.
        let later = NOW.after(Duration::from_hours(1));
        assert_eq!((0..200).filter(|_| take(later).is_ok()).count(), 120);
    }

    #[test]
    fn parties_and_acts_have_buckets_of_their_own_and_a_clock_that_goes_back_fills_none() {
        let allowances = Allowances::default();
        let take = |what, party: &str, now| {
            let party = party.parse().unwrap();
            allowances.take(what, &party, 1, now).is_ok()
        };
        assert!(take(Use::Repeat, "a", NOW));
        assert!(!take(Use::Repeat, "a", NOW));
        assert!(take(Use::LookUp, "a", NOW));
        assert!(take(Use::Repeat, "b", NOW));
        assert!(!take(Use::Repeat, "a", NOW.before(Duration::from_hours(1))));
        assert!(!take(Use::Repeat, "a", NOW.after(Duration::from_secs(59))));
        assert!(take(Use::Repeat, "a", NOW.after(Duration::from_secs(60))));
    }
}
