//! Taking packages in: sealed by the depositor, or in clear to be sealed at once.
//!
//! `intake` has verified and opened it by then; here it is decided whether it may be deposited, and as what.

use serde_json::json;

use super::generation::{Admitted, Prepared, origin_of, store};
use super::ledger::{Act, Ledger};
use super::room::has_room;
use super::sequencer::{Answer, Command, Idempotency, Remembered, Verdict};
use super::supplier::holder;
use super::{Caller, Escrow, Failure};
use crate::envelope::SignedDocument;
use crate::handover::{Event, Registration, State, supplier_at};
use crate::policy::DepositFacts;
use crate::store::{Ground, Handover, Held, Needs, Origin};
use crate::types::{Code, Component, HandoverId, PartyId, Secret, SupplyPoint};

/// A deposit as it comes in.
pub struct DepositRequest {
    /// The handover it is for; none for a standing deposit.
    pub handover: Option<HandoverId>,
    /// What is deposited.
    pub seal: Seal,
}

/// Who seals.
pub enum Seal {
    /// The depositor did: one envelope per component.
    Client(Vec<Vec<u8>>),
    /// The service does.
    Server {
        /// The package, as JSON.
        package: Secret,
        /// The closing read, as JSON.
        read: Option<Secret>,
        /// The depositor's signature over the package.
        attestation: Option<Box<SignedDocument>>,
    },
}

impl Escrow {
    /// Takes a deposit in. The answer says which generation it became and what a taker would miss.
    pub async fn deposit(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        request: DepositRequest,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let deposited = async {
            if self.is_remembered(&caller, &idempotency).await? {
                return self.submit(caller, Some(idempotency), Remembered).await;
            }
            let command = self.prepared_deposit(&party, request).await?;
            self.submit(caller, Some(idempotency), command).await
        };
        self.limited(&party, deposited).await
    }
}

/// A deposit that is verified, and waits for its transaction.
pub(super) struct Deposit {
    pub(super) handover: Option<HandoverId>,
    pub(super) supply_point: SupplyPoint,
    pub(super) prepared: Vec<Prepared>,
}

impl Command for Deposit {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.supply_point.clone());
        let ids = self.prepared.iter();
        needs
            .envelopes
            .extend(ids.map(|prepared| prepared.body.header().envelope_id));
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let party = caller.identity.id.clone();
        let admitted = match self.admitted(&party, ledger) {
            Ok(admitted) => admitted,
            Err(refused) => return self.refuse(refused, caller, ledger),
        };
        let mut stored = Vec::new();
        let mut entry = None;
        for prepared in &self.prepared {
            let (view, index) = store(prepared, &admitted, caller, ledger);
            stored.push(view);
            entry = Some(index);
        }
        let handover = admitted.handover;
        // A closing read alone is not what a losing supplier owes.
        let touched = match self.brings(Component::Credentials) {
            true => advance(&party, &self.supply_point, handover.as_ref(), ledger),
            false => handover.as_ref().map(|h| h.state),
        };
        let late = handover.as_ref().is_some_and(|h| {
            h.losing_party.as_ref() == Some(&party) && ledger.now > h.effective_at
        });
        Verdict::Done {
            answer: json!({
                "handover": handover.as_ref().map(|h| h.id),
                "state": touched.map(|state| state.as_str()),
                "late": late,
                "envelopes": stored,
            }),
            entry,
        }
    }
}

/// Why a deposit is not admitted, and which policies say so where it came to them.
struct Refused {
    code: Code,
    policies: Vec<String>,
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        let policies = Vec::new();
        Self { code, policies }
    }
}

impl Deposit {
    /// Whether it is a closing read with its commitment, and nothing else.
    pub(super) fn is_one_read(&self) -> bool {
        let [only] = self.prepared.as_slice() else {
            return false;
        };
        let header = only.body.header();
        header.component == Component::Read && header.read_commitment.is_some()
    }

    fn brings(&self, component: Component) -> bool {
        let mut components = self.prepared.iter().map(|p| p.body.header().component);
        components.any(|brought| brought == component)
    }

    fn admitted(&self, party: &PartyId, ledger: &Ledger<'_>) -> Result<Admitted, Refused> {
        let handover = self.handover_for(party, ledger)?;
        let (ground, policies) = self.admissible(party, handover.as_ref(), ledger)?;
        let admitted = Admitted {
            handover,
            ground,
            policies,
        };
        self.check_sealed(party, &admitted, ledger)?;
        match self.has_room(party, ledger) {
            true => Ok(admitted),
            false => Err(Code::RateLimited.into()),
        }
    }

    /// The handover that was named, if the depositor has a part in it.
    fn handover_for(&self, party: &PartyId, ledger: &Ledger<'_>) -> Result<Option<Handover>, Code> {
        let Some(id) = self.handover else {
            return Ok(None);
        };
        let known = &ledger.point(&self.supply_point).handovers;
        let handover = known.iter().find(|h| h.id == id);
        match handover {
            Some(handover) if ledger.is_involved(party, handover) => Ok(Some(handover.clone())),
            _ => Err(Code::NotFound),
        }
    }

    /// The ground on which the deposit is admitted and the policies that permit it, or why it is not.
    fn admissible(
        &self,
        party: &PartyId,
        handover: Option<&Handover>,
        ledger: &Ledger<'_>,
    ) -> Result<(Ground, Vec<String>), Refused> {
        let point = ledger.point(&self.supply_point);
        // Once the grace is over, what the losing supplier says of the meter is of no use to anybody.
        let over =
            |h: &Handover| h.state == State::Closed && h.losing_party.as_ref() == Some(party);
        if handover.is_some_and(over) {
            return Err(Code::WrongState.into());
        }
        for prepared in &self.prepared {
            let header = prepared.body.header();
            if ledger.facts.known_envelopes.contains(&header.envelope_id) {
                return Err(Code::EnvelopeReused.into());
            }
            if (ledger.rules.terms).is_ahead(header.created_at, ledger.now) {
                return Err(Code::StaleRequest.into());
            }
            if let (Some(handover), Some(date)) = (handover, header.supply_start)
                && handover.supply_start_date != date
            {
                return Err(Code::EnvelopeMismatch.into());
            }
        }
        let directory = &*ledger.facts.directory;
        let registered = supplier_at(&point.registrations, ledger.now)
            .filter(|registration| holder(directory, registration, ledger.now) == Some(party));
        let losing = handover
            .filter(|h| h.losing_party.as_ref() == Some(party))
            .and_then(|h| h.losing_registration.clone());
        // A grant for this very handover says more than another one; one of a closing read says nothing of keys.
        let grants = point.grants.iter();
        let grants = grants.filter(|grant| grant.party == *party && grant.has_credentials());
        let grant = grants.max_by_key(|grant| Some(grant.handover) == self.handover);
        let facts = DepositFacts {
            depositor: party.clone(),
            depositor_live: directory.is_live(party),
            registered_now: registered.is_some(),
            registered_before_switch: losing.is_some(),
            holds_grant: grant.is_some(),
        };
        let decision = ledger.rules.policy.decide_deposit(&facts);
        let ground = registered
            .map(Registration::name)
            .or(losing)
            .map(Ground::Registration)
            .or(grant.map(|grant| Ground::Grant(grant.id)));
        match (decision.refusal, ground) {
            (None, Some(ground)) => Ok((ground, decision.policies)),
            (refusal, _) => Err(Refused {
                code: refusal.unwrap_or(Code::DepositorNotAllowed),
                policies: decision.policies,
            }),
        }
    }

    /// Whether the escrow can hand on what it is to keep. Only a losing supplier may seal past it, to the gaining one: that
    /// costs the suppliers after that one nothing that they could not have from anybody else. Keys that are brought into
    /// a meter past the escrow would leave it to their bearer alone.
    fn check_sealed(
        &self,
        party: &PartyId,
        admitted: &Admitted,
        ledger: &Ledger<'_>,
    ) -> Result<(), Code> {
        for prepared in self.prepared.iter().filter(|p| p.held == Held::Nothing) {
            let component = prepared.body.header().component;
            let origin = origin_of(component, party, admitted, ledger);
            let handover = admitted.handover.as_ref();
            let mut stanzas = prepared.stanzas.iter();
            let is_for_the_gainer =
                stanzas.any(|(to, ..)| handover.is_some_and(|h| ledger.gains(to, h)));
            if origin != Origin::Losing || !is_for_the_gainer {
                return Err(Code::EscrowLeftOut);
            }
        }
        Ok(())
    }

    /// Whether the depositor may add to what is kept of it at this supply point.
    fn has_room(&self, party: &PartyId, ledger: &Ledger<'_>) -> bool {
        let kept = &ledger.point(&self.supply_point).envelopes;
        self.prepared.iter().all(|prepared| {
            let component = prepared.body.header().component;
            let added = self.prepared.iter();
            let added = added.filter(|p| p.body.header().component == component);
            // What comes unsigned takes no room of what is signed: it may be a thief's.
            let alike = kept.iter().filter(|e| {
                e.component == component
                    && e.depositor == *party
                    && e.attribution == prepared.attribution
            });
            has_room(alike.map(|e| e.deposited_at), added.count(), ledger.now)
        })
    }

    fn refuse(&self, refused: Refused, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let Refused { code, policies } = refused;
        let outside = !ledger.has_part(&caller.identity.id, &self.supply_point);
        ledger.append(
            Act::of("deposit.refused", caller)
                .about(&self.supply_point)
                .outside(outside)
                .refused(code)
                .shows("policies", json!(policies))
                .shows("policy", ledger.rules.policy.digest().to_string())
                .hides("handover", json!(self.handover)),
        );
        // An outsider learns nothing: a handover that it has no part in is not found, and without one the answer is
        // the same whoever supplies.
        Verdict::Refused(Failure::recorded(code))
    }
}

/// Moves every open handover that this deposit serves; the state of the named one, if one was named.
fn advance(
    party: &PartyId,
    supply_point: &SupplyPoint,
    named: Option<&Handover>,
    ledger: &mut Ledger<'_>,
) -> Option<State> {
    let mut state = named.map(|h| h.state);
    for mut handover in ledger.point(supply_point).handovers.clone() {
        let serves = handover.losing_party.as_ref() == Some(party)
            && named.is_none_or(|named| named.id == handover.id);
        if !serves {
            continue;
        }
        let Ok(next) = crate::handover::next(handover.state, Event::DepositReceived) else {
            continue;
        };
        handover.deposited_at.get_or_insert(ledger.now);
        handover.state = next;
        if named.is_some() {
            state = Some(next);
        }
        ledger.put_handover(handover);
    }
    state
}
