//! Derives what checks 5 to 11 of a release need from stored evidence: nothing is taken from a front end's word.

use serde_json::{Value, json};

use super::ReleaseRequest;
use super::room::has_room;
use super::supplier::{holder, is_involved, registration_of, stands};
use crate::handover::{Kept, Registration, Terms, Window, precedence, supplier_at};
use crate::policy::{Purpose, ReleaseFacts, Standing};
use crate::store::{
    Directory, Facts, Grant, GrantedEnvelope, Ground, Held, Origin, ReadState, SealingKey,
    StoredEnvelope, SupplyPointFacts,
};
use crate::types::{
    Component, EnvelopeId, HandoverId, KeyId, MeterSerial, PartyId, Role, SupplyPoint, Timestamp,
};

/// What is asked, by whomever.
#[derive(Clone)]
pub(super) struct Ask {
    /// The handover whose package is asked for; none to get one's own keys back.
    pub(super) handover: Option<HandoverId>,
    pub(super) supply_point: SupplyPoint,
    pub(super) request: ReleaseRequest,
}

/// What the facts say about an ask.
pub(super) struct Assessed {
    pub(super) facts: ReleaseFacts,
    /// Under which handover a grant is given.
    pub(super) handover: Option<HandoverId>,
    /// Whether the requester may see why it was refused.
    pub(super) involved: bool,
    /// What would be released, newest first.
    pub(super) candidates: Vec<StoredEnvelope>,
    /// What would be too, but for something that is wrong with it.
    pub(super) left_out: Vec<LeftOut>,
    /// Grants given before.
    pub(super) grants: Vec<Grant>,
    /// The key to seal to.
    pub(super) key: Option<SealingKey>,
    /// Whether the losing supplier's package came after the supply start.
    pub(super) late: bool,
    /// The registration that the decision rests on.
    pub(super) evidence: Value,
}

/// An envelope of the meter that is asked for, which is not released.
#[derive(serde::Serialize)]
pub(super) struct LeftOut {
    envelope: EnvelopeId,
    component: Component,
    why: Flaw,
}

/// Why an envelope is left out of a release: it harms nobody else's.
#[derive(Clone, Copy, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Flaw {
    /// The records of its time do not bear it out.
    NotRightlyDeposited,
    /// Its depositor sealed it to other keys alone.
    SealedToOthers,
}

impl Ask {
    /// Looks everything up as it stands in `facts`.
    pub(super) fn assess(
        &self,
        party: &PartyId,
        facts: &Facts,
        terms: &Terms,
        now: Timestamp,
    ) -> Assessed {
        let unknown = SupplyPointFacts::default();
        let point = facts
            .supply_points
            .get(&self.supply_point)
            .unwrap_or(&unknown);
        let directory = &*facts.directory;
        let handover = self
            .handover
            .and_then(|id| point.handovers.iter().find(|h| h.id == id));
        let registration = match self.handover {
            Some(_) => handover.and_then(|h| registration_of(point, h)),
            None => supplier_at(&point.registrations, now),
        };
        let registered = registration.and_then(|r| holder(directory, r, now));
        let (component, candidates) = self.candidates(point);
        let exists = !candidates.is_empty();
        let key = match &self.request.key_id {
            Some(id) => directory.key(party, id),
            None => directory.active_key(party, now),
        };
        let flaw = |envelope: &StoredEnvelope| {
            if !rightly_deposited(envelope, point, directory) {
                Some(Flaw::NotRightlyDeposited)
            } else if !key.is_none_or(|key| can_be_sealed(envelope, key)) {
                Some(Flaw::SealedToOthers)
            } else {
                None
            }
        };
        let of_meter = candidates
            .into_iter()
            .filter(|envelope| envelope.serial == self.request.meter_serial);
        let (matching, left_out) = sifted(of_meter, flaw);
        let serial_agrees = !(matching.is_empty() && left_out.is_empty());
        let is_released = matching.iter().any(|e| e.component == component);
        let is_left_out = |why| {
            let mut left_out = left_out.iter();
            left_out.any(|left| left.component == component && left.why == why)
        };
        let sealable = is_released || !is_left_out(Flaw::SealedToOthers);
        let depositor_allowed = is_released || !sealable || !is_left_out(Flaw::NotRightlyDeposited);
        let matching = newest_of_each(matching.into_iter());
        let window = window_of(registration, terms);
        let meter = registration.and_then(|r| r.meter.as_ref());
        let facts = ReleaseFacts {
            purpose: match self.handover {
                Some(_) => Purpose::Handover,
                None => Purpose::Recovery,
            },
            requester: party.clone(),
            requester_live: directory.is_live(party),
            component,
            package_exists: exists,
            depositor_allowed,
            registered: registered.cloned(),
            standing: registration.map_or(Standing::NotSecured, |r| {
                stands(&point.registrations, r, now)
            }),
            feed_fresh: now.since(facts.head.feed_at) <= terms.feed_staleness(),
            now,
            window_opens_at: window.opens_at,
            window_closes_at: window.closes_at,
            serial_agrees: serial_agrees || !exists,
            registered_meter_agrees: meter.is_none_or(|m| *m == self.request.meter_serial),
            key_active: key.is_some_and(|key| key.active_at(now)),
            key_owner: key.map(|key| key.party.clone()),
            sealable,
            over_threshold: false,
            read_disputed: self.is_disputed(party, point, (registration, &matching)),
            dispute_holds: terms.dispute_holds_credentials,
            on_hold: false,
        };
        Assessed {
            handover: match self.handover {
                Some(_) => handover.map(|h| h.id),
                None => {
                    registration.map(|r| HandoverId::of(&self.supply_point, &r.registration_id))
                }
            },
            involved: match self.handover {
                Some(_) => handover.is_some_and(|h| is_involved(party, directory, point, h, now)),
                None => facts.registered.as_ref() == Some(party),
            },
            late: handover.is_some_and(|h| h.deposited_at.is_some_and(|at| at > h.effective_at)),
            grants: point.grants.clone(),
            key: key.cloned(),
            evidence: registration.map_or(Value::Null, evidence),
            candidates: matching,
            left_out,
            facts,
        }
    }

    /// Whether a dispute that came before the first release is about what is asked for: that of the handover; or, where a
    /// supplier wants keys back that others deposited, that of the handover by which it supplies. Otherwise getting
    /// one's own keys back would be the way round every hold.
    fn is_disputed(
        &self,
        party: &PartyId,
        point: &SupplyPointFacts,
        (registration, asked): (Option<&Registration>, &[StoredEnvelope]),
    ) -> bool {
        let about = self.handover.or_else(|| {
            let of_others = asked.iter().any(|envelope| envelope.depositor != *party);
            let registration = registration.filter(|_| of_others)?;
            Some(HandoverId::of(
                &self.supply_point,
                &registration.registration_id,
            ))
        });
        let mut handovers = point.handovers.iter();
        handovers.any(|h| {
            Some(h.id) == about
                && h.released_at.is_none()
                && matches!(h.read, ReadState::Disputed { .. })
        })
    }

    /// Everything that the meter may hold, newest first, and the closing reads; and which component decides.
    fn candidates(&self, point: &SupplyPointFacts) -> (Component, Vec<StoredEnvelope>) {
        let of = |component| {
            let live = point
                .envelopes
                .iter()
                .filter(|e| e.component == component && e.status.is_live())
                .filter(|e| component == Component::Credentials || e.handover == self.handover);
            let mut live: Vec<_> = live.map(|e| (point.kept(e), e)).collect();
            let all: Vec<Kept<'_>> = live.iter().map(|(kept, _)| *kept).collect();
            live.sort_by_key(|(kept, _)| std::cmp::Reverse(precedence(&all, kept)));
            live.into_iter().map(|(_, e)| e.clone()).collect()
        };
        match self.request.component {
            Some(component) => (component, of(component)),
            None => {
                let mut credentials = of(Component::Credentials);
                if !credentials.is_empty() {
                    credentials.extend(of(Component::Read));
                }
                (Component::Credentials, credentials)
            }
        }
    }
}

impl Assessed {
    /// What a grant for these candidates holds.
    pub(super) fn granted(&self) -> Vec<GrantedEnvelope> {
        let granted = self.candidates.iter().map(|envelope| GrantedEnvelope {
            id: envelope.id,
            component: envelope.component,
            generation: envelope.generation,
            status: envelope.status,
        });
        granted.collect()
    }

    /// Whether exactly these would be released, in this order.
    pub(super) fn is_about(&self, envelopes: &[GrantedEnvelope]) -> bool {
        let candidates = self.candidates.iter().map(|e| e.id);
        candidates.eq(envelopes.iter().map(|e| e.id))
    }

    /// Whether the party may be given another grant under this handover, beside those that it has.
    pub(super) fn has_room(&self, party: &PartyId, now: Timestamp) -> bool {
        let own = |g: &&Grant| Some(g.handover) == self.handover && g.party == *party;
        let given = self.grants.iter().filter(own);
        has_room(given.map(|grant| grant.granted_at), 1, now)
    }

    /// The grant of exactly these candidates, to this party, sealed to this key.
    pub(super) fn granted_before(&self, party: &PartyId, key: &KeyId) -> Option<&Grant> {
        self.grants.iter().find(|grant| {
            Some(grant.handover) == self.handover
                && grant.party == *party
                && grant.key_id == *key
                && grant
                    .envelopes
                    .iter()
                    .map(|granted| granted.id)
                    .eq(self.candidates.iter().map(|envelope| envelope.id))
        })
    }

    /// What the taker of the newest credentials will miss.
    pub(super) fn gaps(&self) -> Vec<String> {
        let credentials = |e: &&StoredEnvelope| e.component == Component::Credentials;
        let newest = self.candidates.iter().find(credentials);
        newest.map(|e| e.gaps.clone()).unwrap_or_default()
    }
}

/// When a package may be released; never, as long as nobody has said when supply starts.
pub(super) fn window_of(registration: Option<&Registration>, terms: &Terms) -> Window {
    registration.and_then(|r| r.supply_start_date).map_or(
        Window {
            opens_at: Timestamp::from_millis(u64::MAX),
            closes_at: Timestamp::default(),
        },
        |date| terms.window(date),
    )
}

/// What has no flaw, and what is left out for one, in their order.
fn sifted(
    candidates: impl Iterator<Item = StoredEnvelope>,
    flaw: impl Fn(&StoredEnvelope) -> Option<Flaw>,
) -> (Vec<StoredEnvelope>, Vec<LeftOut>) {
    let (mut sound, mut left_out) = (Vec::new(), Vec::new());
    for envelope in candidates {
        match flaw(&envelope) {
            None => sound.push(envelope),
            Some(why) => left_out.push(LeftOut {
                envelope: envelope.id,
                component: envelope.component,
                why,
            }),
        }
    }
    (sound, left_out)
}

/// Whether the service can seal an envelope to a key, or its depositor has.
fn can_be_sealed(envelope: &StoredEnvelope, key: &SealingKey) -> bool {
    let is_it = |(party, id): &(PartyId, KeyId)| *party == key.party && *id == key.key_id;
    envelope.held == Held::DataKey || envelope.sealed_to.iter().any(is_it)
}

/// The newest few of each depositor: no depositor, however often it deposits, crowds the others out of a release or
/// makes it larger than a release can be.
fn newest_of_each(newest_first: impl Iterator<Item = StoredEnvelope>) -> Vec<StoredEnvelope> {
    let mut kept: Vec<StoredEnvelope> = Vec::new();
    for envelope in newest_first {
        let alike = kept.iter().filter(|e| e.component == envelope.component);
        let of_the_same = alike.clone().filter(|e| e.depositor == envelope.depositor);
        if of_the_same.count() < MAX_OF_EACH && alike.count() < MAX_OF_COMPONENT {
            kept.push(envelope);
        }
    }
    kept
}

/// Whether the records of the time bear out the ground on which an envelope was admitted. A meter may hold what its
/// supplier deposited, whatever has become of the registration since; so nothing that was recorded later counts.
fn rightly_deposited(
    envelope: &StoredEnvelope,
    point: &SupplyPointFacts,
    directory: &Directory,
) -> bool {
    let depositor = &envelope.depositor;
    match &envelope.ground {
        Ground::Grant(id) => point
            .grants
            .iter()
            .any(|grant| grant.id == *id && grant.party == *depositor),
        Ground::Registration(name) => {
            let Some(registration) = point.version(name) else {
                return false;
            };
            let handover = point
                .handovers
                .iter()
                .find(|h| Some(h.id) == envelope.handover);
            let eve = handover.map(|h| h.supply_start_date.previous().effective_at());
            let mut supplied = [Some(envelope.deposited_at), eve].into_iter().flatten();
            supplied.any(|at| {
                registration.in_force_at(at)
                    && registration
                        .supplier
                        .is_some_and(|mpid| directory.had(depositor, mpid, Role::Supplier, at))
            })
        }
    }
}

fn evidence(registration: &Registration) -> Value {
    json!({
        "registration": registration.registration_id,
        "version": registration.version,
        "status": registration.status,
        "supplier": registration.supplier,
        "supply_start_date": registration.supply_start_date,
        "source": registration.source,
        "event": registration.event_id,
    })
}

/// The meter that a party must name, as the newest live deposit has it; a former supplier's only if there is no other.
pub(super) fn serial_of(point: &SupplyPointFacts) -> Option<&MeterSerial> {
    point
        .envelopes
        .iter()
        .filter(|e| e.component == Component::Credentials && e.status.is_live())
        .max_by_key(|e| (e.origin != Origin::Former, e.generation))
        .map(|e| &e.serial)
}

/// Envelopes of one component and one depositor in a release.
const MAX_OF_EACH: usize = 8;
/// Envelopes of one component in a release; a release holds twice as many.
const MAX_OF_COMPONENT: usize = 32;
