//! Registration events come in; handovers follow from them.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::ledger::{Act, Ledger};
use super::recover::UNHEARD;
use super::sequencer::{Command, Verdict};
use super::supplier::{holder, registration_of, stands};
use super::{Caller, Escrow, Failure};
use crate::handover::{
    Change, Event, Registration, RegistrationEvent, State, Status, previous_supplier,
};
use crate::identity::Kind;
use crate::policy::Standing;
use crate::store::{Handover, Needs, ReadState, SupplyPointFacts};
use crate::types::{Code, Component, HandoverId, SupplyPoint, Timestamp};

/// What became of one record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "code")]
pub enum RecordResult {
    /// It was new and is recorded.
    Recorded,
    /// It was known, or says nothing new.
    Known,
    /// It was refused; the others are not touched by that.
    Refused(Code),
}

impl Escrow {
    /// Records events of a registration source, in their order; each is recorded or refused by itself.
    pub async fn record_registrations(
        &self,
        caller: Caller,
        events: Vec<RegistrationEvent>,
    ) -> Result<Vec<RecordResult>, Failure> {
        caller.require(Kind::Registrar)?;
        let count = events.len();
        let answer = self.submit(caller, None, Record { events }).await?;
        let results: Vec<_> = answer.body.as_array().cloned().unwrap_or_default();
        let results: Vec<_> = results.iter().filter_map(result_of).collect();
        if results.len() == count {
            Ok(results)
        } else {
            Err(Failure::Broken("records and results differ".to_owned()))
        }
    }

    /// How long the registration feed has been silent, and whether that is too long. No time where it has never spoken,
    /// or not since the log was recovered.
    pub async fn feed_silence(&self) -> Result<(Option<Duration>, bool), Failure> {
        let head = self.shared.store.head().await?;
        let silence = self.shared.clock.now().since(head.feed_at);
        let is_too_long = silence > self.terms().feed_staleness();
        Ok(((head.feed_at > UNHEARD).then_some(silence), is_too_long))
    }
}

fn result_of(word: &serde_json::Value) -> Option<RecordResult> {
    match word.as_str()? {
        "recorded" => Some(RecordResult::Recorded),
        "known" => Some(RecordResult::Known),
        word => Code::ALL
            .iter()
            .find(|code| code.as_str() == word)
            .map(|code| RecordResult::Refused(*code)),
    }
}

struct Record {
    events: Vec<RegistrationEvent>,
}

impl Command for Record {
    fn needs(&self, needs: &mut Needs) {
        for event in &self.events {
            needs.supply_points.insert(event.supply_point.clone());
            needs.registrations.insert(event.registration_id.clone());
            needs
                .registration_events
                .insert((event.source.clone(), event.event_id.clone()));
        }
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let mut words = Vec::new();
        let mut last = None;
        let mut heard = false;
        for event in &self.events {
            let recorded = record(event, caller, ledger);
            heard |= recorded.is_ok();
            words.push(match recorded {
                Ok(Some(entry)) => {
                    last = Some(entry);
                    json!("recorded")
                }
                Ok(None) => json!("known"),
                Err(code) => json!(code.as_str()),
            });
        }
        // A feed that only repeats itself is not silent; one that only contradicts what is known says nothing.
        if heard {
            ledger.changes.head.feed_at = ledger.now;
            ledger.facts.head.feed_at = ledger.now;
        }
        Verdict::Done {
            answer: json!(words),
            entry: last,
        }
    }
}

/// Records one event; the entry, if it says something new.
fn record(
    event: &RegistrationEvent,
    caller: &Caller,
    ledger: &mut Ledger<'_>,
) -> Result<Option<u64>, Code> {
    let seen = (event.source.clone(), event.event_id.clone());
    let content = event.content();
    match ledger.facts.known_events.get(&seen) {
        Some(said) if *said == content => return Ok(None),
        // Taken for a repetition, it would be a cancellation that nobody hears.
        Some(_) => return Err(Code::RegistrationConflict),
        None => {}
    }
    // What is said to happen later would outlast everything that is said until then.
    if event.occurred_at > ledger.now.after(MAX_AHEAD) {
        return Err(Code::RegistrationInvalid);
    }
    let elsewhere = ledger.facts.registered_at.get(&event.registration_id);
    if elsewhere.is_some_and(|known| *known != event.supply_point) {
        return Err(Code::RegistrationConflict);
    }
    let known = ledger
        .point(&event.supply_point)
        .registrations
        .iter()
        .find(|r| r.registration_id == event.registration_id);
    if known.is_none() && ledger.point(&event.supply_point).registrations.len() >= MAX_AT_A_POINT {
        tracing::warn!(source = %event.source, "a supply point has too many registrations");
        return Err(Code::RegistrationInvalid);
    }
    let Some(registration) = Registration::apply(known, event)? else {
        return Ok(None);
    };
    ledger.facts.known_events.insert(seen.clone(), content);
    ledger
        .facts
        .registered_at
        .insert(event.registration_id.clone(), event.supply_point.clone());
    let (source, name) = seen;
    ledger
        .changes
        .registration_events
        .push((source, name, content));
    let point = ledger.point_mut(&event.supply_point);
    let replaced = point
        .registrations
        .extract_if(.., |r| r.registration_id == registration.registration_id);
    point.earlier.extend(replaced);
    point.registrations.push(registration.clone());
    ledger
        .changes
        .registrations
        .push((registration.clone(), ledger.now));

    let entry = ledger.append(
        Act::of("registration.recorded", caller)
            .about(&event.supply_point)
            .shows("source", event.source.as_str())
            .shows("status", json!(registration.status))
            .hides("registration", event.registration_id.as_str())
            .hides("version", registration.version)
            .hides("event", event.event_id.as_str())
            .hides("supplier", json!(registration.supplier))
            .hides("supply_start_date", json!(registration.supply_start_date)),
    );
    follow(&registration, &event.change, ledger);
    Ok(Some(entry))
}

/// What a new version of a registration means for the handovers of its supply point.
fn follow(registration: &Registration, change: &Change, ledger: &mut Ledger<'_>) {
    let id = HandoverId::of(&registration.supply_point, &registration.registration_id);
    let known = ledger
        .point(&registration.supply_point)
        .handovers
        .iter()
        .find(|h| h.id == id)
        .cloned();
    let handover = match known {
        Some(handover) => Some(settled(handover, registration, ledger)),
        None if matches!(change, Change::Snapshot { .. }) => None,
        None => opened(id, registration, ledger),
    };
    if let Some(handover) = handover {
        ledger.put_handover(handover);
    }
    learn_losers(&registration.supply_point, ledger);
    restore_overtaken(&registration.supply_point, ledger);
}

/// The handover as the registration's new status leaves it.
fn settled(mut handover: Handover, registration: &Registration, ledger: &Ledger<'_>) -> Handover {
    let event = match registration.status {
        Status::Pending | Status::Secured => Event::RegistrationRestored,
        Status::Rejected | Status::Cancelled => Event::RegistrationWithdrawn,
        Status::Annulled => Event::RegistrationAnnulled,
    };
    if let Ok(state) = crate::handover::next(handover.state, event) {
        handover.state = state;
    }
    if event == Event::RegistrationRestored {
        resume(&mut handover, ledger);
    }
    handover.erroneous_return = registration.erroneous_return;
    // The supplier may have joined, or taken the MPID over, since the handover was opened.
    if let Some(gaining) = holder(&ledger.facts.directory, registration, ledger.now) {
        handover.gaining_party = Some(gaining.clone());
    }
    handover
}

/// A new handover, once it is known who gains the supply point and when.
fn opened(id: HandoverId, registration: &Registration, ledger: &Ledger<'_>) -> Option<Handover> {
    let gaining_mpid = registration.supplier?;
    let supply_start_date = registration.supply_start_date?;
    if !matches!(registration.status, Status::Pending | Status::Secured) {
        return None;
    }
    let directory = &ledger.facts.directory;
    let mut handover = Handover {
        id,
        supply_point: registration.supply_point.clone(),
        registration_id: registration.registration_id.clone(),
        supply_start_date,
        effective_at: supply_start_date.effective_at(),
        losing_party: None,
        losing_mpid: None,
        losing_registration: None,
        gaining_party: holder(directory, registration, ledger.now).cloned(),
        gaining_mpid,
        state: State::Expected,
        version: 0,
        opened_at: ledger.now,
        deposited_at: None,
        released_at: None,
        confirmed_at: None,
        outcome: None,
        confirmed_generation: None,
        confirmed_entry: None,
        rejected_entry: None,
        erased_after: None,
        read: ReadState::Open,
        read_entry: None,
        erroneous_return: registration.erroneous_return,
    };
    learn_loser(&mut handover, ledger);
    deposited_before(&mut handover, ledger);
    Some(handover)
}

/// The registration before may come in later than the one after it.
fn learn_losers(supply_point: &SupplyPoint, ledger: &mut Ledger<'_>) {
    for before in ledger.point(supply_point).handovers.clone() {
        let mut handover = before.clone();
        learn_loser(&mut handover, ledger);
        deposited_before(&mut handover, ledger);
        if handover != before {
            ledger.put_handover(handover);
        }
    }
}

fn learn_loser(handover: &mut Handover, ledger: &Ledger<'_>) {
    let point = ledger.point(&handover.supply_point);
    let Some(registration) = registration_of(point, handover) else {
        return;
    };
    let losing = previous_supplier(&point.registrations, registration);
    let Some((losing, mpid)) = losing.and_then(|losing| Some((losing, losing.supplier?))) else {
        // Who was thought to be the loser was not; once something was released, it is part of what happened.
        if matches!(
            handover.state,
            State::Expected | State::Overdue | State::Deposited
        ) {
            handover.losing_party = None;
            handover.losing_mpid = None;
            handover.losing_registration = None;
        }
        return;
    };
    // The version that first said so: a later one that still does is not worth a new version of the handover.
    let known = handover.losing_registration.as_ref();
    if known.is_none_or(|known| known.registration_id != losing.registration_id) {
        handover.losing_registration = Some(losing.name());
    }
    let eve = handover.supply_start_date.previous().effective_at();
    handover.losing_mpid = Some(mpid);
    handover.losing_party = ledger
        .facts
        .directory
        .holder(mpid, crate::types::Role::Supplier, eve)
        .cloned();
}

/// A standing deposit of the losing supplier serves its next handover.
fn deposited_before(handover: &mut Handover, ledger: &Ledger<'_>) {
    let Some(losing) = &handover.losing_party else {
        return;
    };
    let point = ledger.point(&handover.supply_point);
    let standing = point.envelopes.iter().find(|e| {
        e.component == Component::Credentials && e.status.is_live() && e.depositor == *losing
    });
    if let Some(envelope) = standing
        && matches!(handover.state, State::Expected | State::Overdue)
        && let Ok(state) = crate::handover::next(handover.state, Event::DepositReceived)
    {
        handover.state = state;
        handover.deposited_at.get_or_insert(envelope.deposited_at);
    }
}

/// A handover that begins anew is where the deposit and the release of before have brought it.
fn resume(handover: &mut Handover, ledger: &Ledger<'_>) {
    if handover.state != State::Expected {
        return;
    }
    deposited_before(handover, ledger);
    if handover.released_at.is_some()
        && let Ok(state) = crate::handover::next(handover.state, Event::Granted)
    {
        handover.state = state;
    }
}

/// What a later switch had overtaken is its supplier's again once that switch is void.
fn restore_overtaken(supply_point: &SupplyPoint, ledger: &mut Ledger<'_>) {
    let point = ledger.point(supply_point);
    let restored = point.handovers.iter().filter_map(|handover| {
        let state = crate::handover::next(handover.state, Event::SuccessorVoided).ok()?;
        let handover = Handover {
            state,
            ..handover.clone()
        };
        (!is_overtaken(&handover, point, ledger.now)).then_some(handover)
    });
    for mut handover in restored.collect::<Vec<_>>() {
        resume(&mut handover, ledger);
        ledger.put_handover(handover);
    }
}

/// Whether a handover's own registration does not stand, or a later one that has been granted the keys does.
fn is_overtaken(handover: &Handover, point: &SupplyPointFacts, now: Timestamp) -> bool {
    let secured = |handover: &Handover| {
        registration_of(point, handover)
            .is_some_and(|r| stands(&point.registrations, r, now) == Standing::Secured)
    };
    let mut others = point.handovers.iter();
    !secured(handover)
        || others.any(|later| {
            later.effective_at > handover.effective_at
                && later.released_at.is_some()
                && secured(later)
        })
}

/// Registrations of one supply point: a feed that has lost its way must not keep the one writer busy for all others.
const MAX_AT_A_POINT: usize = 200;
/// How far the source's clock may be ahead of ours.
const MAX_AHEAD: Duration = Duration::from_mins(5);
