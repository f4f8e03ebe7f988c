//! Derives what checks 5 to 11 of a release need from stored evidence: nothing is taken from a front end's word.

use serde_json::{Value, json};

use super::ReleaseRequest;
use super::offer::LeftOut;
use super::room::has_room;
use super::supplier::{holder, is_involved, registration_of, stands};
use crate::handover::{Registration, Terms, Window, supplier_at};
use crate::policy::{Purpose, ReleaseFacts, Standing};
use crate::store::{
    Facts, Grant, GrantedEnvelope, Maker, Origin, ReadState, SealingKey, StoredEnvelope,
    SupplyPointFacts,
};
use crate::types::{
    Component, EnvelopeId, GrantId, HandoverId, KeyId, MeterSerial, PartyId, SupplyPoint, Timestamp,
};

/// What is asked, by whomever.
#[derive(Clone)]
pub(super) struct Ask {
    /// The handover whose package is asked for; none to get one's own keys back.
    pub(super) handover: Option<HandoverId>,
    pub(super) supply_point: SupplyPoint,
    pub(super) request: ReleaseRequest,
    /// The grant that the same request was answered with before.
    pub(super) again: Option<GrantId>,
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
    /// Whether the escrow's own stanzas are wanted where it can make them.
    pub(super) resealed: bool,
    /// Grants given before.
    pub(super) grants: Vec<Grant>,
    /// The key to seal to.
    pub(super) key: Option<SealingKey>,
    /// Whether the losing supplier's package came after the supply start.
    pub(super) late: bool,
    /// The registration that the decision rests on.
    pub(super) evidence: Value,
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
        let under = match self.handover {
            Some(_) => handover.map(|h| h.id),
            None => registration.map(|r| HandoverId::of(&self.supply_point, &r.registration_id)),
        };
        let offer = self.offer(party, (point, directory), under, now);
        let window = window_of(registration, terms);
        let meter = registration.and_then(|r| r.meter.as_ref());
        let facts = ReleaseFacts {
            purpose: match self.handover {
                Some(_) => Purpose::Handover,
                None => Purpose::Recovery,
            },
            requester: party.clone(),
            requester_live: directory.is_live(party),
            component: offer.component,
            package_exists: offer.exists,
            depositor_allowed: offer.is_rightly_deposited(),
            registered: registered.cloned(),
            standing: registration.map_or(Standing::NotSecured, |r| {
                stands(&point.registrations, r, now)
            }),
            feed_fresh: now.since(facts.head.feed_at) <= terms.feed_staleness(),
            now,
            window_opens_at: window.opens_at,
            window_closes_at: window.closes_at,
            serial_agrees: offer.has_the_meter() || !offer.exists,
            registered_meter_agrees: meter.is_none_or(|m| *m == self.request.meter_serial),
            key_active: offer.key.as_ref().is_some_and(|key| key.active_at(now)),
            key_owner: offer.key.as_ref().map(|key| key.party.clone()),
            sealable: offer.is_sealable(),
            over_threshold: false,
            read_disputed: self.is_disputed(party, point, (registration, &offer.envelopes)),
            dispute_holds: terms.dispute_holds_credentials,
            on_hold: false,
        };
        Assessed {
            handover: under,
            involved: match self.handover {
                Some(_) => handover.is_some_and(|h| is_involved(party, directory, point, h, now)),
                None => facts.registered.as_ref() == Some(party),
            },
            late: handover.is_some_and(|h| h.deposited_at.is_some_and(|at| at > h.effective_at)),
            grants: point.grants.clone(),
            key: offer.key,
            evidence: registration.map_or(Value::Null, evidence),
            candidates: offer.envelopes,
            left_out: offer.left_out,
            resealed: self.request.reseal,
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

    /// Whether the escrow has sealed one of these envelopes to the key by now: the stanza of that grant is the one that is
    /// kept, and handed out.
    pub(super) fn is_sealed_since(
        &self,
        party: &PartyId,
        key: &KeyId,
        fresh: &[(EnvelopeId, Vec<u8>)],
    ) -> bool {
        let candidates = self.candidates.iter();
        let mut fresh = candidates.filter(|e| fresh.iter().any(|(id, _)| *id == e.id));
        fresh.any(|envelope| {
            self.grants.iter().any(|grant| {
                grant.party == *party
                    && grant.key_id == *key
                    && grant
                        .envelopes
                        .iter()
                        .any(|granted| granted.id == envelope.id)
                    && envelope.maker(party, key, grant.resealed) == Maker::Escrow
            })
        })
    }

    /// The grant of exactly these candidates, to this party, sealed to this key.
    pub(super) fn granted_before(&self, party: &PartyId, key: &KeyId) -> Option<&Grant> {
        self.grants.iter().find(|grant| {
            Some(grant.handover) == self.handover
                && grant.party == *party
                && grant.key_id == *key
                && grant.resealed == self.resealed
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
