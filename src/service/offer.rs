//! Which envelopes a release would hold: all that the meter may hold and that can be sealed to the requester; or, where
//! the same request is made again, what it was answered with before.

use super::release_facts::Ask;
use crate::handover::{Kept, precedence};
use crate::store::{
    Directory, GrantedEnvelope, Ground, Held, SealingKey, StoredEnvelope, SupplyPointFacts,
};
use crate::types::{Component, EnvelopeId, HandoverId, PartyId, Role, Timestamp};

/// What there is for an ask.
pub(super) struct Offer {
    /// Which component decides whether there is something.
    pub(super) component: Component,
    /// The key to seal to.
    pub(super) key: Option<SealingKey>,
    /// Whether there is something, of whatever meter.
    pub(super) exists: bool,
    /// What would be released, the likeliest first.
    pub(super) envelopes: Vec<StoredEnvelope>,
    /// What would be too, but for something that is wrong with it.
    pub(super) left_out: Vec<LeftOut>,
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
    /// What there is for it, under a handover: the same as before for the same request.
    pub(super) fn offer(
        &self,
        party: &PartyId,
        known: (&SupplyPointFacts, &Directory),
        under: Option<HandoverId>,
        now: Timestamp,
    ) -> Offer {
        self.offered_before(party, known, under, now)
            .unwrap_or_else(|| self.offered_now(party, known, now))
    }

    /// What the same request was answered with, as long as the key that it was sealed to is active and nothing of it is
    /// erased. What was retired since is in it: who asks has it already.
    fn offered_before(
        &self,
        party: &PartyId,
        (point, directory): (&SupplyPointFacts, &Directory),
        under: Option<HandoverId>,
        now: Timestamp,
    ) -> Option<Offer> {
        let grant = point.grants.iter().find(|grant| {
            Some(grant.id) == self.again && grant.party == *party && Some(grant.handover) == under
        })?;
        let key = directory.key(party, &grant.key_id);
        let key = key.filter(|key| key.active_at(now))?;
        let kept = |granted: &GrantedEnvelope| {
            let mut kept = point.envelopes.iter();
            let kept = kept.find(|e| e.id == granted.id && e.status.keeps_secrets());
            kept.cloned()
        };
        let envelopes = grant
            .envelopes
            .iter()
            .map(kept)
            .collect::<Option<Vec<_>>>()?;
        Some(Offer {
            component: self.request.component.unwrap_or(Component::Credentials),
            key: Some(key.clone()),
            exists: true,
            envelopes,
            left_out: Vec::new(),
        })
    }

    fn offered_now(
        &self,
        party: &PartyId,
        (point, directory): (&SupplyPointFacts, &Directory),
        now: Timestamp,
    ) -> Offer {
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
        let (component, candidates) = self.candidates(point);
        let exists = !candidates.is_empty();
        let of_meter = candidates
            .into_iter()
            .filter(|envelope| envelope.serial == self.request.meter_serial);
        let (sound, left_out) = sifted(of_meter, flaw);
        Offer {
            component,
            key: key.cloned(),
            exists,
            envelopes: newest_of_each(sound.into_iter()),
            left_out,
        }
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

impl Offer {
    /// Whether there is something of the meter that is asked for.
    pub(super) fn has_the_meter(&self) -> bool {
        !(self.envelopes.is_empty() && self.left_out.is_empty())
    }

    /// Whether the records bear out something that decides, or there is nothing for them to bear out.
    pub(super) fn is_rightly_deposited(&self) -> bool {
        self.decides() || !self.is_sealable() || !self.lacks(Flaw::NotRightlyDeposited)
    }

    /// Whether something that decides can be sealed to the key, or there is nothing to seal.
    pub(super) fn is_sealable(&self) -> bool {
        self.decides() || !self.lacks(Flaw::SealedToOthers)
    }

    fn decides(&self) -> bool {
        self.envelopes.iter().any(|e| e.component == self.component)
    }

    fn lacks(&self, why: Flaw) -> bool {
        let mut left_out = self.left_out.iter();
        left_out.any(|left| left.component == self.component && left.why == why)
    }
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
    envelope.held == Held::DataKey || envelope.is_sealed_to(&key.party, &key.key_id)
}

/// The newest few of each depositor, signed and unsigned apart: no depositor, however often it deposits, and nobody that
/// has no more of it than its connection, crowds the others out of a release or makes it larger than a release can be.
fn newest_of_each(newest_first: impl Iterator<Item = StoredEnvelope>) -> Vec<StoredEnvelope> {
    let mut kept: Vec<StoredEnvelope> = Vec::new();
    for envelope in newest_first {
        let alike = kept.iter().filter(|e| e.component == envelope.component);
        let of_the_same = alike.clone().filter(|e| {
            (&e.depositor, e.attribution) == (&envelope.depositor, envelope.attribution)
        });
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

/// Envelopes of one component and one depositor in a release.
const MAX_OF_EACH: usize = 8;
/// Envelopes of one component in a release; a release holds twice as many.
const MAX_OF_COMPONENT: usize = 32;
