//! How many refusals a party may cause, so that nobody can fill a log that is never pruned.
//!
//! Refusals that no entry records (those of checks 1 to 4, those above the quota) are counted; the counts become one
//! entry a minute. Look-ups by a party that neither supplies the point nor is about to have a limit of their own, so
//! that answers do not add up to a list of who has what.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Escrow, Failure};
use crate::identity::{Identity, Kind};
use crate::types::{Code, PartyId, Random, Timestamp};

impl Escrow {
    /// Counts a refusal that has no entry of its own (`Failure::unrecorded`), to be summarised.
    pub fn count_refusal(&self, identity: &Identity, code: Code) {
        let now = self.shared.clock.now();
        self.shared.quota.count(&name(identity), code, now);
    }

    /// Does what a party asks, as long as it was not refused too often this minute; a refusal counts towards that,
    /// whatever its reason and wherever it is found.
    pub(super) async fn limited<T>(
        &self,
        party: &PartyId,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let now = self.shared.clock.now();
        let limit = self.shared.rules.load().terms.refusals_per_minute;
        let quota = &self.shared.quota;
        if quota.exhausted(party.as_str(), limit, now) {
            return Err(Failure::refused(Code::RateLimited));
        }
        let done = work.await;
        if let Err(failure) = &done {
            quota.charge(party, failure, now);
        }
        done
    }
}

/// Refusals of this minute, and counts that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    minute: u64,
    spent: BTreeMap<String, u32>,
    looked_up: BTreeMap<String, u32>,
    unwritten: BTreeMap<(u64, String, Code), u64>,
    unanswered: Option<Finished>,
}

/// Summaries on their way into the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finished {
    pub(super) key: String,
    pub(super) summaries: Vec<Summary>,
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

    /// Counts a failure that is the party's doing, and not the service's.
    pub(super) fn charge(&self, party: &PartyId, failure: &Failure, now: Timestamp) {
        match failure.blames() {
            // Who waits for the next minute is not refused anything that it could find out by asking.
            None | Some(Code::RateLimited) => {}
            Some(_) => self.spend(party.as_str(), now),
        }
    }

    /// Takes one of the party's look-ups of this minute; none is left if it answers `false`.
    pub(super) fn look_up(&self, party: &str, limit: u32, now: Timestamp) -> bool {
        let mut counts = self.counts(now);
        let taken = counts.looked_up.entry(party.to_owned()).or_default();
        let left = *taken < limit;
        *taken += u32::from(left);
        left
    }

    /// Counts a refusal that is not.
    pub(super) fn count(&self, party: &str, code: Code, now: Timestamp) {
        let mut counts = self.counts(now);
        let key = (counts.minute, party.to_owned(), code);
        *counts.unwritten.entry(key).or_default() += 1;
    }

    /// The counts of minutes that are over, under the key that they are written with. Until `written` is called the
    /// same ones come again, under the same key: if they were committed, and only the answer was lost, that is known.
    pub(super) fn finished(&self, now: Timestamp, random: &dyn Random) -> Option<Finished> {
        let mut counts = self.counts(now);
        if counts.unanswered.is_none() {
            let summaries = counts.take_finished();
            counts.unanswered = (!summaries.is_empty()).then(|| {
                let mut key = [0; 16];
                random.fill(&mut key);
                let key = key.map(|byte| format!("{byte:02x}")).concat();
                Finished { key, summaries }
            });
        }
        counts.unanswered.clone()
    }

    /// What `finished` gave is in the log.
    pub(super) fn written(&self, now: Timestamp) {
        self.counts(now).unanswered = None;
    }

    fn counts(&self, now: Timestamp) -> MutexGuard<'_, Counts> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_seconds() / 60;
        if counts.minute != minute {
            counts.minute = minute;
            counts.spent.clear();
            counts.looked_up.clear();
        }
        counts
    }
}

impl Counts {
    fn take_finished(&mut self) -> Vec<Summary> {
        let counts = self;
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
}

/// The name under which refusals are counted.
fn name(identity: &Identity) -> String {
    match identity.kind {
        Kind::Party => identity.id.to_string(),
        _ => identity.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SystemRandom;

    const NOW: Timestamp = Timestamp::from_seconds(600);
    const NEXT: Timestamp = Timestamp::from_seconds(660);
    const LATER: Timestamp = Timestamp::from_seconds(720);

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
        assert_eq!(quota.finished(NOW, &SystemRandom), None);
        let expected = Summary {
            minute: NOW,
            party: "a".to_owned(),
            code: Code::CheckDigit,
            count: 2,
        };
        let finished = quota.finished(NEXT, &SystemRandom).unwrap();
        assert_eq!(finished.summaries, [expected]);
        quota.count("a", Code::CheckDigit, NEXT);
        let again = quota.finished(LATER, &SystemRandom);
        assert_eq!(again, Some(finished), "until it is known to be written");
        quota.written(LATER);
        let others = quota.finished(LATER, &SystemRandom).unwrap();
        assert_eq!(others.summaries[0].minute, NEXT);
        quota.written(LATER);
        assert_eq!(quota.finished(LATER, &SystemRandom), None);
    }

    #[test]
    fn look_ups_are_limited_per_party_and_minute() {
        let quota = Quota::default();
        let taken = |party, now| quota.look_up(party, 1, now);
        assert!(taken("a", NOW));
        assert!(!taken("a", NOW));
        assert!(taken("b", NOW));
        assert!(taken("a", NEXT));
    }
}
