//! How many refusals a party may cause, so that nobody can fill a log that is never pruned.
//!
//! Refusals of checks 1 to 4 and those above the quota are only counted; the counts become one entry a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::sequencer::Command;
use super::{Answer, Caller, Escrow, Failure, Idempotency};
use crate::identity::{Identity, Kind};
use crate::types::{Code, PartyId, Timestamp};

impl Escrow {
    /// Counts a refusal that has no entry of its own, to be summarised. Others are not counted here.
    pub fn count_refusal(&self, identity: &Identity, code: Code) {
        if is_only_counted(code) {
            let now = self.shared.clock.now();
            self.shared.quota.count(&name(identity), code, now);
        }
    }

    /// Submits a command of a party whose refusals are entries, as long as it was not refused too often this minute.
    pub(super) async fn submit_within_quota(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        command: impl Command + 'static,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let now = self.shared.clock.now();
        self.within_quota(&party, now)?;
        let answer = self.submit(caller, idempotency, command).await;
        if let Err(failure) = &answer {
            self.shared.quota.charge(&party, failure, now);
        }
        answer
    }

    /// Refuses a party that was refused too often this minute.
    pub(super) fn within_quota(&self, party: &PartyId, now: Timestamp) -> Result<(), Failure> {
        let limit = self.shared.rules.load().terms.refusals_per_minute;
        let quota = &self.shared.quota;
        if quota.exhausted(party.as_str(), limit, now) {
            quota.count(party.as_str(), Code::RateLimited, now);
            return Err(Failure::refused(Code::RateLimited));
        }
        Ok(())
    }
}

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

    /// Counts a failure that is the party's doing, and not the service's.
    pub(super) fn charge(&self, party: &PartyId, failure: &Failure, now: Timestamp) {
        match failure {
            Failure::Refused {
                code: Code::ClockBack | Code::Fenced | Code::Unavailable,
                ..
            }
            | Failure::Unavailable(_)
            | Failure::Broken(_) => {}
            Failure::Refused { .. } => self.spend(party.as_str(), now),
        }
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

    /// Puts counts back that could not be written.
    pub(super) fn put_back(&self, summaries: Vec<Summary>, now: Timestamp) {
        let mut counts = self.counts(now);
        for summary in summaries {
            let minute = summary.minute.as_seconds() / 60;
            let key = (minute, summary.party, summary.code);
            *counts.unwritten.entry(key).or_default() += summary.count;
        }
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

/// The name under which refusals are counted.
fn name(identity: &Identity) -> String {
    match identity.kind {
        Kind::Party => identity.id.to_string(),
        _ => identity.to_string(),
    }
}

/// Checks 1 to 4, and what is refused before a transaction.
fn is_only_counted(code: Code) -> bool {
    matches!(
        code,
        Code::CertificateInvalid
            | Code::CertificateExpired
            | Code::CertificateRevoked
            | Code::RevocationUnknown
            | Code::WrongRole
            | Code::PartyUnknown
            | Code::PartySuspended
            | Code::IdempotencyKeyMissing
            | Code::IdempotencyKeyReused
            | Code::StaleRequest
            | Code::MalformedRequest
            | Code::MalformedSupplyPoint
            | Code::CheckDigit
            | Code::TooLarge
            | Code::WrongState
            | Code::EnvelopeMalformed
            | Code::EnvelopeDoesNotOpen
            | Code::SignatureInvalid
            | Code::StanzaForeign
            | Code::PackageInvalid
            | Code::ReadInvalid
            | Code::SealServerForbidden
            | Code::StatementInvalid
            | Code::StatementSequence
            | Code::PossessionFailed
    )
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
        assert_eq!(quota.take_finished(NEXT), vec![expected.clone()]);
        assert_eq!(quota.take_finished(NEXT), []);
        quota.put_back(vec![expected.clone()], NEXT);
        assert_eq!(quota.take_finished(NEXT), [expected]);
    }
}
