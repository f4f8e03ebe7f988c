//! Handing packages out: one grant, many deliveries.
//!
//! `issue` has made a release after deciding in advance; here everything is decided again, inside the transaction, over
//! facts that cannot change before the commit. What was made for other facts is thrown away.

use std::sync::Arc;

use serde_json::{Value, json};

use super::allowance::Use;
use super::issue::Prepared;
use super::ledger::{Act, Ledger};
use super::release_facts::{Ask, Assessed};
use super::sequencer::{Command, Idempotency, Settled, Submission, Verdict};
use super::{Caller, Escrow, Failure, Receipt, Rules, Shared};
use crate::handover::Event;
use crate::policy::{Decision, Purpose};
use crate::store::{Grant, Handover, IdempotentAnswer, Maker, Needs, StanzaAddress};
use crate::types::{
    Code, Component, Digest, EnvelopeId, GrantId, HandoverId, KeyId, MeterSerial, PartyId,
    SupplyPoint,
};

/// What a party asks to have released.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The serial on the meter, as the requester knows it.
    #[schema(value_type = String, example = "E19B762798")]
    pub meter_serial: MeterSerial,
    /// Seal to this key of the requester; to its newest active one if none is named.
    #[schema(value_type = Option<String>)]
    pub key_id: Option<KeyId>,
    /// Only this component; both if none is named.
    #[schema(value_type = Option<String>, example = "read")]
    pub component: Option<Component>,
    /// The depositor's own stanza does not open: the service seals anew what it can, under another grant.
    #[serde(default)]
    pub reseal: bool,
}

/// A release on its way out.
#[derive(Debug)]
pub struct Released {
    /// What the answer says about it.
    pub body: Value,
    /// The release as `envelope::Release` writes it: the same bytes at each delivery.
    pub release: Vec<u8>,
    /// Proof that it was recorded first.
    pub receipt: Receipt,
}

impl Escrow {
    /// Releases the package of a handover to its gaining supplier.
    pub async fn release(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        handover: HandoverId,
        request: ReleaseRequest,
    ) -> Result<Released, Failure> {
        let ask = Ask {
            handover: Some(handover),
            supply_point: self.shared.supply_point_of(handover).await?,
            request,
            again: None,
        };
        self.release_for(caller, idempotency, ask).await
    }

    /// Gives a registered supplier the keys of its own meter back.
    pub async fn recover(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        supply_point: SupplyPoint,
        request: ReleaseRequest,
    ) -> Result<Released, Failure> {
        let ask = Ask {
            handover: None,
            supply_point,
            request,
            again: None,
        };
        self.release_for(caller, idempotency, ask).await
    }

    async fn release_for(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        ask: Ask,
    ) -> Result<Released, Failure> {
        let party = caller.party()?.clone();
        let handed_out = self.hand_out(caller, &party, idempotency, ask);
        self.limited(&party, handed_out).await
    }

    async fn hand_out(
        &self,
        caller: Caller,
        party: &PartyId,
        idempotency: Idempotency,
        ask: Ask,
    ) -> Result<Released, Failure> {
        let key = idempotency.of(&caller.identity);
        for _ in 0..MAX_ATTEMPTS {
            let facts = self
                .shared
                .facts(|needs| {
                    needs.guarded.insert(ask.supply_point.clone());
                    needs.idempotency.insert(key.clone());
                })
                .await?;
            let before = facts.idempotency.get(&key);
            let before = before.filter(|before| before.request == idempotency.request);
            let ask = Ask {
                again: before.and_then(granted_in),
                ..ask.clone()
            };
            let prepared = self.shared.prepare(party, &ask, &facts).await?;
            let release = prepared.as_ref().map(|prepared| prepared.release.clone());
            let settled = self
                .sequencer
                .submit(Submission {
                    caller: caller.clone(),
                    idempotency: Some(idempotency.clone()),
                    command: Box::new(Hand {
                        ask,
                        prepared,
                        shared: Arc::clone(&self.shared),
                    }),
                })
                .await?;
            match settled {
                Settled::Stale => {}
                Settled::Answer(answer) => {
                    let (Some(release), Some(receipt)) = (release, answer.receipt) else {
                        return Err(Failure::Broken("a release without its bytes".to_owned()));
                    };
                    return Ok(Released {
                        body: answer.body,
                        release,
                        receipt,
                    });
                }
            }
        }
        Err(Failure::Unavailable(
            "the facts kept changing while a release was prepared".to_owned(),
        ))
    }
}

/// The grant of an answer that was given before.
fn granted_in(before: &IdempotentAnswer) -> Option<GrantId> {
    let answer: Value = serde_json::from_str(&before.answer).ok()?;
    answer["grant"].as_str()?.parse().ok()
}

struct Hand {
    ask: Ask,
    prepared: Option<Prepared>,
    /// For how often the party has had something delivered again.
    shared: Arc<Shared>,
}

impl Command for Hand {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.ask.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let party = caller.identity.id.clone();
        let rules = ledger.rules;
        let assessed = self
            .ask
            .assess(&party, &ledger.facts, &rules.terms, ledger.now);
        let decision = rules.policy.decide_release(&assessed.facts);
        let (Some(handover), None, Some(key)) =
            (assessed.handover, decision.refusal, &assessed.key)
        else {
            return self.refuse(&decision, &assessed, caller, ledger);
        };
        let Some(prepared) = &self.prepared else {
            return Verdict::Stale;
        };
        if prepared.key_id != key.key_id
            || !assessed.is_about(&prepared.envelopes)
            || assessed.is_sealed_since(&party, &prepared.key_id, &prepared.stanzas)
        {
            return Verdict::Stale;
        }
        let known = assessed.granted_before(&party, &prepared.key_id).cloned();
        let release = Digest::of(&prepared.release);
        if let Some(known) = &known {
            if let Err(verdict) = self.check_delivery(known, prepared.grant, release, rules) {
                return verdict;
            }
        } else if !assessed.has_room(&party, ledger.now) {
            let refusal = Some(Code::RateLimited);
            let full = Decision {
                refusal,
                ..decision
            };
            return self.refuse(&full, &assessed, caller, ledger);
        }
        let kind = match known {
            Some(_) => "release.delivered",
            None => "release.granted",
        };
        let act = Act::of(kind, caller)
            .about(&self.ask.supply_point)
            .shows("policies", json!(decision.policies))
            .shows("policy", rules.policy.digest().to_string());
        let entry =
            ledger.append(describe(act, &assessed, prepared).shows("release", release.to_string()));
        let grant = known.unwrap_or_else(|| {
            let grant = Grant {
                id: prepared.grant,
                handover,
                supply_point: self.ask.supply_point.clone(),
                party,
                key_id: prepared.key_id,
                granted_at: prepared.granted_at,
                envelopes: prepared.envelopes.clone(),
                resealed: assessed.resealed,
                release,
                entry,
            };
            self.record(&grant, &prepared.stanzas, ledger);
            grant
        });
        Verdict::Done {
            answer: json!({
                "handover": handover,
                "grant": grant.id,
                "granted_at": grant.granted_at,
                "key_id": grant.key_id,
                "release_digest": release,
                "late": assessed.late,
                "gaps": assessed.gaps(),
            }),
            entry: Some(entry),
        }
    }
}

impl Hand {
    /// Whether what was prepared is delivered as one more delivery of a known grant.
    fn check_delivery(
        &self,
        known: &Grant,
        prepared: GrantId,
        release: Digest,
        rules: &Rules,
    ) -> Result<(), Verdict> {
        if known.id != prepared {
            // Somebody with the same rights was faster: its bytes are the ones to hand out.
            return Err(Verdict::Stale);
        }
        if known.release != release {
            return Err(Verdict::Refused(Failure::Broken(format!(
                "grant {prepared} would be delivered with other bytes than before"
            ))));
        }
        self.shared
            .allow(Use::Repeat, &known.party, &rules.terms)
            .map_err(Verdict::Refused)
    }

    fn refuse(
        &self,
        decision: &Decision,
        assessed: &Assessed,
        caller: &Caller,
        ledger: &mut Ledger<'_>,
    ) -> Verdict {
        let act = Act::of("release.refused", caller)
            .shows("policy", ledger.rules.policy.digest().to_string())
            .hides("handover", json!(self.ask.handover))
            .hides("meter", self.ask.request.meter_serial.normalised())
            .hides("envelopes_left_out", json!(assessed.left_out))
            .hides("evidence", assessed.evidence.clone());
        let (act, code) = match self.ask.handover.is_some() && assessed.handover.is_none() {
            // There is no such handover, hence no supply point that the entry could be about.
            true => (
                act.hides("supply_point", json!(null))
                    .shows("policies", json!([])),
                Code::NotFound,
            ),
            false => {
                let party = &caller.identity.id;
                let outside = !ledger.has_part(party, &self.ask.supply_point);
                let act = act
                    .about(&self.ask.supply_point)
                    .outside(outside)
                    .shows("policies", json!(decision.policies));
                (act, decision.refusal.unwrap_or(Code::NotFound))
            }
        };
        ledger.append(act.refused(code));
        Verdict::Refused(Failure::recorded(match assessed.involved {
            true => code,
            false => Code::NotFound,
        }))
    }

    /// Stores a new grant and its stanzas, and moves the handover.
    fn record(&self, grant: &Grant, stanzas: &[(EnvelopeId, Vec<u8>)], ledger: &mut Ledger<'_>) {
        for (envelope, sealed) in stanzas {
            let address = StanzaAddress {
                envelope: *envelope,
                party: grant.party.clone(),
                key_id: grant.key_id,
                made_by: Maker::Escrow,
            };
            ledger.changes.stanzas.push((address, sealed.clone()));
        }
        ledger
            .point_mut(&self.ask.supply_point)
            .grants
            .push(grant.clone());
        ledger.changes.grants.push(grant.clone());
        // The read alone opens no meter, and who gets its own keys back is handed nothing over: neither is a step of the
        // handover, nor ends what holds it.
        let point = ledger.point(&self.ask.supply_point);
        let hands_over = point.envelopes.iter().any(|envelope| {
            envelope.component == Component::Credentials
                && (self.ask.handover.is_some() || envelope.depositor != grant.party)
                && grant.envelopes.iter().any(|given| given.id == envelope.id)
        });
        if hands_over {
            advance(&self.ask.supply_point, grant.handover, ledger);
        }
    }
}

/// What the entry of a release says of it.
fn describe<'a>(act: Act<'a>, assessed: &Assessed, prepared: &Prepared) -> Act<'a> {
    let recovery = assessed.facts.purpose == Purpose::Recovery;
    act.shows("grant", prepared.grant.to_string())
        .shows("key_id", prepared.key_id.to_string())
        .shows("late", assessed.late)
        .shows("partial", !assessed.gaps().is_empty())
        .shows("recovery", recovery)
        .shows("resealed", assessed.resealed)
        .shows("left_out", assessed.left_out.len())
        .hides("handover", json!(assessed.handover))
        .hides("envelopes", json!(prepared.envelopes))
        .hides("envelopes_left_out", json!(assessed.left_out))
        .hides("evidence", assessed.evidence.clone())
}

/// The handover is released now; earlier ones that nobody finished are superseded by it.
fn advance(supply_point: &SupplyPoint, id: HandoverId, ledger: &mut Ledger<'_>) {
    let handovers = ledger.point(supply_point).handovers.clone();
    let Some(released) = handovers.iter().find(|h| h.id == id).cloned() else {
        return;
    };
    for earlier in handovers {
        if earlier.effective_at < released.effective_at
            && let Ok(state) = crate::handover::next(earlier.state, Event::RegistrationSuperseded)
            && state != earlier.state
        {
            ledger.put_handover(Handover { state, ..earlier });
        }
    }
    if let Ok(state) = crate::handover::next(released.state, Event::Granted)
        && (state != released.state || released.released_at.is_none())
    {
        ledger.put_handover(Handover {
            state,
            released_at: released.released_at.or(Some(ledger.now)),
            ..released
        });
    }
}

/// How often a release is prepared anew when the facts change underneath it.
const MAX_ATTEMPTS: usize = 3;
