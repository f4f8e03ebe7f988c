//! How many refusals a party may cause, so that nobody can fill a log that is never pruned.
//!
//! A refusal is an entry of its own (`deposit.refused`, `release.refused`, `handover.refused`, `lookup.refused`) where it
//! was decided in a transaction. Others are counted: those of checks 1 to 4, which have no transaction (form, signatures,
//! times, envelopes that do not open), and those above the quota or an allowance. The counts become one entry a minute.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Escrow, Failure};
use crate::identity::{Identity, Kind};
use crate::types::{Clock, Code, PartyId, Random, Timestamp};

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
        let limit = self.shared.rules.load().terms.refusals_per_minute;
        let quota = &self.shared.quota;
        let Some(mut attempt) = quota.attempt(party, limit, &*self.shared.clock).await else {
            return Err(Failure::refused(Code::RateLimited));
        };
        let done = work.await;
        attempt.is_charged = done.as_ref().is_err_and(is_charged);
        done
    }
}

/// Refusals of this minute, and counts that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Quota {
    counts: Mutex<Counts>,
    /// Told whenever an attempt has ended.
    ended: Notify,
}

/// Something that a party asks and may be refused. It holds one refusal of the quota until it is dropped; one that is
/// given up before it is answered stays charged, since what it has begun may still be refused.
struct Attempt<'a> {
    quota: &'a Quota,
    party: &'a PartyId,
    clock: &'a dyn Clock,
    is_charged: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let party = self.party.as_str();
        // The minute in which it ended: the refusal may be long after the question.
        self.quota.end(party, self.is_charged, self.clock.now());
    }
}

/// Whether a party may ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leave {
    Granted,
    /// Not before something else that it asks has been answered: all of it could be refused.
    Later,
    /// It was refused too often this minute.
    Exhausted,
}

#[derive(Debug, Default)]
struct Counts {
    minute: u64,
    spent: BTreeMap<String, u32>,
    /// Attempts under way, whatever the minute.
    running: BTreeMap<String, u32>,
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
    /// Waits until the party may ask; nothing if it was refused too often this minute.
    async fn attempt<'a>(
        &'a self,
        party: &'a PartyId,
        limit: u32,
        clock: &'a dyn Clock,
    ) -> Option<Attempt<'a>> {
        loop {
            let mut ended = pin!(self.ended.notified());
            // ORDER: before the look, so that no end between the two is missed.
            ended.as_mut().enable();
            match self.begin(party.as_str(), limit, clock.now()) {
                Leave::Granted => break,
                Leave::Later => ended.await,
                Leave::Exhausted => return None,
            }
        }
        Some(Attempt {
            quota: self,
            party,
            clock,
            is_charged: true,
        })
    }

    /// Takes one refusal of the quota for an attempt, if one is left.
    fn begin(&self, party: &str, limit: u32, now: Timestamp) -> Leave {
        let mut counts = self.counts(now);
        let of = |counts: &BTreeMap<String, u32>| counts.get(party).copied().unwrap_or_default();
        let (spent, running) = (of(&counts.spent), of(&counts.running));
        if spent >= limit {
            return Leave::Exhausted;
        }
        if spent.saturating_add(running) >= limit {
            return Leave::Later;
        }
        counts.running.insert(party.to_owned(), running + 1);
        Leave::Granted
    }

    /// Gives back what an attempt took, or charges it.
    fn end(&self, party: &str, is_charged: bool, now: Timestamp) {
        let mut counts = self.counts(now);
        match counts.running.get_mut(party) {
            Some(running) if *running > 1 => *running -= 1,
            _ => {
                counts.running.remove(party);
            }
        }
        if is_charged {
            *counts.spent.entry(party.to_owned()).or_default() += 1;
        }
        drop(counts);
        self.ended.notify_waiters();
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
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_seconds() / 60;
        // Only forwards: whoever read the clock earlier and comes later must not give everybody a fresh quota.
        if counts.minute < minute {
            counts.minute = minute;
            counts.spent.clear();
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

/// Whether a failure is the party's doing, and not the service's.
fn is_charged(failure: &Failure) -> bool {
    match failure.blames() {
        // Who is told to wait is not refused anything that it could find out by asking.
        None | Some(Code::RateLimited | Code::AllowanceSpent) => false,
        Some(_) => true,
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
    use futures_util::FutureExt as _;

    use super::*;
    use crate::types::{ManualClock, SystemRandom};

    const NOW: Timestamp = Timestamp::from_seconds(600);
    const NEXT: Timestamp = Timestamp::from_seconds(660);
    const LATER: Timestamp = Timestamp::from_seconds(720);

    #[test]
    fn the_quota_is_per_party_and_minute() {
        let quota = Quota::default();
        for _ in 0..2 {
            assert_eq!(quota.begin("a", 2, NOW), Leave::Granted);
            quota.end("a", true, NOW);
        }
        assert_eq!(quota.begin("a", 2, NOW), Leave::Exhausted);
        assert_eq!(quota.begin("b", 2, NOW), Leave::Granted);
        assert_eq!(quota.begin("a", 2, NEXT), Leave::Granted);
    }

    #[test]
    fn a_late_reading_of_the_clock_renews_no_quota() {
        let quota = Quota::default();
        assert_eq!(quota.begin("a", 1, NEXT), Leave::Granted);
        quota.end("a", true, NEXT);
        assert_eq!(quota.begin("b", 1, NOW), Leave::Granted);
        quota.end("b", true, NOW);
        for party in ["a", "b"] {
            assert_eq!(quota.begin(party, 1, NEXT), Leave::Exhausted);
        }
    }

    #[tokio::test]
    async fn no_more_is_under_way_than_may_be_refused() {
        let (quota, clock) = (Quota::default(), ManualClock::at(NOW));
        let party: PartyId = "a".parse().unwrap();
        let attempt = || quota.attempt(&party, 2, &clock);
        let (mut first, second) = (attempt().await.unwrap(), attempt().await.unwrap());
        let mut third = pin!(attempt());
        let early = third.as_mut().now_or_never();
        assert!(early.is_none(), "both could still be refused");
        first.is_charged = false;
        drop(first);
        let third = third.now_or_never().expect("one was given back").unwrap();
        // Both are given up without an answer.
        drop((second, third));
        assert!(attempt().await.is_none());
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
}
