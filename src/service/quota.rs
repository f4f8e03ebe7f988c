//! How many refusals a party may cause, so that nobody can fill a log that is never pruned.
//!
//! Refusals of checks 1 to 4 and those above the quota are only counted; the counts become one entry a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::{Code, Timestamp};

/// Refusals of this minute, and counts that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    minute: u64,
    spent: BTreeMap<String, u32>,
    unwritten: BTreeMap<(u64, String, Code), u64>,
}

/// How often a party was refused with a code within a minute, without an entry of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Summary {
    pub(super) minute: Timestamp,
    pub(super) party: String,
    pub(super) code: Code,
    pub(super) count: u64,
}

impl Quota {
    /// Whether the party has caused more refusals this minute than it may.
    pub(super) fn exhausted(&self, party: &str, limit: u32, now: Timestamp) -> bool {
        let mut counts = self.counts(now);
        counts.spent.entry(party.to_owned()).or_default();
        counts.spent.get(party).is_some_and(|spent| *spent >= limit)
    }

    /// Counts a refusal that is an entry of its own.
    pub(super) fn spend(&self, party: &str, now: Timestamp) {
        *self.counts(now).spent.entry(party.to_owned()).or_default() += 1;
    }

    /// Counts a refusal that is not.
    pub(super) fn count(&self, party: &str, code: Code, now: Timestamp) {
        let mut counts = self.counts(now);
        let key = (counts.minute, party.to_owned(), code);
        *counts.unwritten.entry(key).or_default() += 1;
    }

    /// Takes the counts of minutes that are over.
    pub(super) fn take_finished(&self, now: Timestamp) -> Vec<Summary> {
        let mut counts = self.counts(now);
        let running = counts.minute;
        let later = counts
            .unwritten
            .split_off(&(running, String::new(), Code::ALL[0]));
        let finished = std::mem::replace(&mut counts.unwritten, later);
        finished
            .into_iter()
            .map(|((minute, party, code), count)| Summary {
                minute: Timestamp::from_seconds(minute * 60),
                party,
                code,
                count,
            })
            .collect()
    }

    fn counts(&self, now: Timestamp) -> MutexGuard<'_, Counts> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_seconds() / 60;
        if counts.minute != minute {
            counts.minute = minute;
            counts.spent.clear();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(600);
    const NEXT: Timestamp = Timestamp::from_seconds(660);

    #[test]
    fn the_quota_is_per_party_and_minute() {
        let quota = Quota::default();
        quota.spend("a", NOW);
        quota.spend("a", NOW);
        assert!(quota.exhausted("a", 2, NOW));
        assert!(!quota.exhausted("b", 2, NOW));
        assert!(!quota.exhausted("a", 2, NEXT));
    }

    #[test]
    fn counts_are_taken_once_their_minute_is_over() {
        let quota = Quota::default();
        quota.count("a", Code::CheckDigit, NOW);
        quota.count("a", Code::CheckDigit, NOW);
        assert_eq!(quota.take_finished(NOW), []);
        let expected = Summary {
            minute: NOW,
            party: "a".to_owned(),
            code: Code::CheckDigit,
            count: 2,
        };
        assert_eq!(quota.take_finished(NEXT), [expected]);
        assert_eq!(quota.take_finished(NEXT), []);
    }
}
