//! How a handover ends: the gaining supplier confirms, or says that the credentials do not open the meter.

use std::sync::Arc;

use serde_json::{Value, json};

use super::allowance::Use;
use super::ledger::{Act, Ledger};
use super::refusal::Recorded;
use super::release_facts::window_of;
use super::sequencer::{Answer, Command, Idempotency, Remembered, Verdict};
use super::supplier::{registration_of, stands};
use super::{Caller, Escrow, Failure, Shared};
use crate::envelope::Recipient;
use crate::envelope::SignedDocument;
use crate::envelope::statement::{Confirmation, Outcome};
use crate::handover::{Event, State};
use crate::store::{Grant, Handover, Held, Needs, Origin, StoredEnvelope, SupplyPointFacts};
use crate::types::{Code, Component, Digest, HandoverId, PartyId, SupplyPoint};

impl Escrow {
    /// Takes a signed confirmation: how the takeover ended and, if keys were rotated, which generation opens the meter.
    pub async fn confirm(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        handover: HandoverId,
        document: SignedDocument,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        if self.is_remembered(&caller, &idempotency).await? {
            return self.submit(caller, Some(idempotency), Remembered).await;
        }
        let confirmation: Confirmation = self.verified(&party, &document)?;
        if confirmation.handover != handover
            || confirmation.party != Recipient::Party(party.clone())
        {
            return Err(Failure::because(
                Code::SignatureInvalid,
                "the confirmation is for another handover",
            ));
        }
        let terms = self.terms();
        if !terms.is_fresh(confirmation.at, self.shared.clock.now()) {
            return Err(Failure::refused(Code::StaleRequest));
        }
        if (confirmation.outcome == Outcome::Rotated) != confirmation.generation.is_some() {
            return Err(Failure::because(
                Code::MalformedRequest,
                "`rotated`, and nothing else, names a generation",
            ));
        }
        let supply_point = self.shared.supply_point_of(handover).await?;
        let command = Recorded {
            act: "confirm",
            supply_point: supply_point.clone(),
            handover,
            command: Confirm {
                supply_point,
                digest: Digest::of(&document.to_json()),
                confirmation,
                shared: Arc::clone(&self.shared),
            },
        };
        self.limited(&party, self.submit(caller, Some(idempotency), command))
            .await
    }

    /// Records that the released credentials do not open the meter; the losing supplier owes others. Saying it again,
    /// for whatever reason, changes nothing until others were released.
    pub async fn reject(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        handover: HandoverId,
        reason: String,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        if reason.is_empty() || reason.len() > MAX_REASON {
            return Err(Failure::because(
                Code::MalformedRequest,
                "`reason` must have 1 to 200 bytes",
            ));
        }
        let supply_point = self.shared.supply_point_of(handover).await?;
        let command = Recorded {
            act: "reject",
            supply_point: supply_point.clone(),
            handover,
            command: Reject {
                supply_point,
                handover,
                reason,
            },
        };
        self.limited(&party, self.submit(caller, Some(idempotency), command))
            .await
    }
}

impl Shared {
    /// Where a handover is. One that does not exist is looked for where another one is, and not found there: after the
    /// same work, and with the same answer, as one that is somebody else's.
    pub(super) async fn supply_point_of(
        &self,
        handover: HandoverId,
    ) -> Result<SupplyPoint, Failure> {
        let near = self.store.supply_point_near(handover).await?;
        Ok(near.unwrap_or_else(|| {
            // There is no handover at all, hence none to tell from others.
            NOWHERE
                .parse()
                .expect("a supply point with its check digit")
        }))
    }
}

/// The handover, if the caller is its gaining supplier, by the registration and the directory of the transaction.
pub(super) fn gained(
    caller: &Caller,
    ledger: &Ledger<'_>,
    supply_point: &SupplyPoint,
    id: HandoverId,
) -> Result<Handover, Verdict> {
    let party = &caller.identity.id;
    let known = &ledger.point(supply_point).handovers;
    let handover = known.iter().find(|h| h.id == id);
    let code = match handover {
        Some(handover) if ledger.gains(party, handover) => {
            return Ok(handover.clone().in_the_hands_of(party));
        }
        Some(handover) if ledger.is_involved(party, handover) => Code::NotGainingSupplier,
        _ => Code::NotFound,
    };
    Err(Verdict::Refused(Failure::refused(code)))
}

impl Handover {
    /// With its present gaining supplier: what another one said before is not this one's word, and its receipts are not
    /// for this one.
    fn in_the_hands_of(self, party: &PartyId) -> Self {
        match self.gaining_party.as_ref() == Some(party) {
            true => self,
            false => Self {
                gaining_party: Some(party.clone()),
                confirmed_entry: None,
                rejected_entry: None,
                read_entry: None,
                ..self
            },
        }
    }
}

struct Confirm {
    supply_point: SupplyPoint,
    confirmation: Confirmation,
    digest: Digest,
    /// For how often the party has said something else.
    shared: Arc<Shared>,
}

impl Command for Confirm {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let Confirmation {
            outcome,
            generation,
            handover,
            ..
        } = self.confirmation;
        let handover = match gained(caller, ledger, &self.supply_point, handover) {
            Ok(handover) => handover,
            Err(refusal) => return refusal,
        };
        if let Some(entry) = self.said_before(&handover) {
            return Verdict::Done {
                answer: self.answer(&handover),
                entry: Some(entry),
            };
        }
        let state = match self.next(&handover, caller, ledger) {
            Ok(state) => state,
            Err(code) => return Verdict::Refused(Failure::refused(code)),
        };
        // Another word about the same takeover is an entry every time.
        if handover.confirmed_at.is_some()
            && let Err(spent) =
                self.shared
                    .allow(Use::Repeat, &caller.identity.id, &ledger.rules.terms)
        {
            return Verdict::Refused(spent);
        }
        let changed = match generation {
            None => Vec::new(),
            Some(generation) => match self.retire(generation, caller, ledger) {
                Some(changed) => changed,
                None => {
                    return Verdict::Refused(Failure::because(
                        Code::WrongState,
                        "no live generation of this number was deposited by the gaining supplier",
                    ));
                }
            },
        };
        let entry = ledger.append(
            Act::of("handover.confirmed", caller)
                .about(&self.supply_point)
                .shows("outcome", outcome.as_str())
                .shows("confirmation", self.digest.to_string())
                .hides("handover", handover.id.to_string())
                .hides("generation", json!(generation))
                .hides("address_of", json!(self.confirmation.address_of))
                .hides("retired", changed.len()),
        );
        // What another generation retires has its whole grace; saying the same again, or something else about the
        // same generation, prolongs nothing.
        let retires = generation.is_some() && generation != handover.confirmed_generation;
        let erased_after = match handover.erased_after {
            Some(fixed) if !retires => fixed,
            _ => ledger.now.after(ledger.rules.terms.grace()),
        };
        let handover = Handover {
            state,
            confirmed_at: Some(ledger.now),
            outcome: Some(outcome.as_str().to_owned()),
            confirmed_generation: generation.or(handover.confirmed_generation),
            confirmed_entry: Some(entry),
            erased_after: Some(erased_after),
            ..handover
        };
        let answer = self.answer(&handover);
        ledger.put_handover(handover);
        Verdict::Done {
            answer,
            entry: Some(entry),
        }
    }
}

impl Confirm {
    /// The state that the confirmation leads to. New keys can be in a meter only if the supplier's registration stands,
    /// its window is open, and it was given, for this very handover, the keys that open the meter.
    fn next(
        &self,
        handover: &Handover,
        caller: &Caller,
        ledger: &Ledger<'_>,
    ) -> Result<State, Code> {
        if self.confirmation.outcome != Outcome::Rotated {
            return crate::handover::next(handover.state, Event::EndedUnrotated);
        }
        let point = ledger.point(&self.supply_point);
        let registration = registration_of(point, handover).ok_or(Code::RegistrationNotSecured)?;
        if let Some(code) = stands(&point.registrations, registration, ledger.now).refusal() {
            return Err(code);
        }
        if ledger.now < window_of(Some(registration), &ledger.rules.terms).opens_at {
            return Err(Code::BeforeWindow);
        }
        let granted = point.grants.iter().any(|grant| {
            grant.handover == handover.id
                && grant.party == caller.identity.id
                && point.holds_credentials(grant)
        });
        match granted {
            true => crate::handover::next(handover.state, Event::Rotated),
            false => Err(Code::WrongState),
        }
    }

    /// The entry of the same confirmation, if nothing else was said since.
    fn said_before(&self, handover: &Handover) -> Option<u64> {
        let Confirmation {
            outcome,
            generation,
            ..
        } = self.confirmation;
        let same = matches!(handover.state, State::Confirmed | State::Closed)
            && handover.outcome.as_deref() == Some(outcome.as_str())
            && (generation.is_none() || generation == handover.confirmed_generation);
        handover.confirmed_entry.filter(|_| same)
    }

    fn answer(&self, handover: &Handover) -> Value {
        json!({
            "handover": handover.id,
            "state": handover.state.as_str(),
            "outcome": handover.outcome,
            "current_generation": self.confirmation.generation,
            "erased_after": handover.erased_after,
        })
    }

    /// Makes the confirmed generation current and retires those before it; none if it is not the caller's to confirm.
    fn retire(
        &self,
        generation: u32,
        caller: &Caller,
        ledger: &mut Ledger<'_>,
    ) -> Option<Vec<StoredEnvelope>> {
        let point = ledger.point(&self.supply_point);
        let own = |e: &StoredEnvelope| {
            e.component == Component::Credentials
                && e.generation == generation
                && e.depositor == caller.identity.id
                && e.origin != Origin::Former
                // Whoever comes next needs it as well.
                && e.held == Held::DataKey
        };
        point.envelopes.iter().find(|e| own(e))?;
        let kept = point.generations(Component::Credentials);
        let changes = crate::handover::confirm(&kept, generation)?;
        let changed: Vec<StoredEnvelope> = point
            .envelopes
            .iter()
            .filter(|e| e.component == Component::Credentials)
            .filter_map(|e| {
                let (_, status) = changes.iter().find(|(n, _)| *n == e.generation)?;
                Some(StoredEnvelope {
                    status: *status,
                    ..e.clone()
                })
            })
            .collect();
        for envelope in &changed {
            ledger.change_status(envelope.clone());
        }
        Some(changed)
    }
}

impl SupplyPointFacts {
    /// Whether a grant gave credentials that are not erased since.
    pub(super) fn holds_credentials(&self, grant: &Grant) -> bool {
        let credentials = |e: &&StoredEnvelope| e.component == Component::Credentials;
        let mut credentials = self.envelopes.iter().filter(credentials);
        credentials.any(|e| grant.envelopes.iter().any(|granted| granted.id == e.id))
    }
}

struct Reject {
    supply_point: SupplyPoint,
    handover: HandoverId,
    reason: String,
}

impl Command for Reject {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let handover = match gained(caller, ledger, &self.supply_point, self.handover) {
            Ok(handover) => handover,
            Err(refusal) => return refusal,
        };
        let answer = |state: State| json!({ "handover": self.handover, "state": state.as_str() });
        if handover.state == State::Rejected {
            return Verdict::Done {
                answer: answer(handover.state),
                entry: handover.rejected_entry,
            };
        }
        let state = match crate::handover::next(handover.state, Event::CredentialsRejected) {
            Ok(state) => state,
            Err(code) => return Verdict::Refused(Failure::refused(code)),
        };
        let entry = ledger.append(
            Act::of("handover.rejected", caller)
                .about(&self.supply_point)
                .hides("handover", handover.id.to_string())
                .hides("reason", self.reason.as_str()),
        );
        ledger.put_handover(Handover {
            state,
            rejected_entry: Some(entry),
            ..handover
        });
        Verdict::Done {
            answer: answer(state),
            entry: Some(entry),
        }
    }
}

/// A supply point that nobody has.
const NOWHERE: &str = "2499999999991";
/// Bytes of a reason.
const MAX_REASON: usize = 200;
