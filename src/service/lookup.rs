//! Is this supply point smart, which meter is it, who manages its head end? Each asker gets what it may know.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::allowance::Use;
use super::ledger::{Act, Ledger};
use super::release_facts::serial_of;
use super::sequencer::{Answer, Command, Verdict};
use super::{Caller, Escrow, Failure, Shared};
use crate::handover::Status;
use crate::policy::LookupFacts;
use crate::store::Needs;
use crate::types::{Code, Role, SupplyPoint};

/// A question about a supply point.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// About which.
    #[schema(value_type = String, example = "9693016118873")]
    pub supply_point: SupplyPoint,
    /// Why, if the asker neither supplies the point nor is about to: recorded in the log.
    #[schema(example = "quotation 4711")]
    pub purpose: Option<String>,
}

impl Escrow {
    /// Answers a question about a supply point. One about somebody else's is an entry.
    pub async fn look_up(&self, caller: Caller, request: LookupRequest) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let stated = request.purpose.as_deref().unwrap_or_default();
        if stated.len() > MAX_PURPOSE {
            return Err(Failure::because(
                Code::MalformedRequest,
                "`purpose` has at most 200 bytes",
            ));
        }
        let command = LookUp {
            request,
            shared: Arc::clone(&self.shared),
        };
        self.limited(&party, self.submit(caller, None, command))
            .await
    }
}

struct LookUp {
    request: LookupRequest,
    /// For how often the party has looked up what is not its own: only the transaction knows whether this is.
    shared: Arc<Shared>,
}

impl Command for LookUp {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.request.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let party = &caller.identity.id;
        let facts = self.facts(caller, ledger);
        let decision = ledger.rules.policy.decide_lookup(&facts);
        let own = facts.registered || facts.gaining;
        let kind = match decision.refusal {
            None => "supply_point.looked_up",
            Some(_) => "lookup.refused",
        };
        let act = Act::of(kind, caller)
            .about(&self.request.supply_point)
            .outside(!own)
            .shows("policy", ledger.rules.policy.digest().to_string())
            .shows("policies", json!(decision.policies))
            .hides("purpose", json!(self.request.purpose));
        if let Some(code) = decision.refusal {
            ledger.append(act.refused(code));
            return Verdict::Refused(Failure::recorded(code));
        }
        // Answers about others must not add up to a list of who has what. One's own is told to nobody else.
        let entry = if own {
            None
        } else {
            let terms = &ledger.rules.terms;
            if let Err(spent) = self.shared.allow(Use::LookUp, party, terms) {
                return Verdict::Refused(spent);
            }
            Some(ledger.append(act))
        };
        let point = ledger.point(&self.request.supply_point);
        let mut answer = json!({
            "supply_point": self.request.supply_point,
            // Never heard of is not the same as not smart.
            "smart": match &point.meter {
                None => "unknown",
                Some(meter) if meter.smart => "yes",
                Some(_) => "no",
            },
        });
        if let Some(meter) = &point.meter {
            answer["class"] = json!(meter.class);
            answer["effective_from"] = json!(meter.effective_from);
        }
        if own {
            answer["serial"] = match &point.meter {
                Some(meter) => json!(meter.serial),
                None => json!(serial_of(point)),
            };
            answer["head_end_manager"] = json!(
                point
                    .meter
                    .as_ref()
                    .and_then(|m| m.head_end_manager.as_ref())
            );
            answer["installed"] = json!(point.meter.as_ref().and_then(|m| m.installed));
            answer["handovers"] = point
                .handovers
                .iter()
                .filter(|handover| ledger.is_involved(party, handover))
                .map(|handover| {
                    json!({
                        "id": handover.id, "state": handover.state,
                        "supply_start_date": handover.supply_start_date,
                        "losing": handover.losing_mpid, "gaining": handover.gaining_mpid,
                    })
                })
                .collect::<Value>();
        }
        Verdict::Done { answer, entry }
    }
}

impl LookUp {
    fn facts(&self, caller: &Caller, ledger: &Ledger<'_>) -> LookupFacts {
        let party = &caller.identity.id;
        let directory = &ledger.facts.directory;
        let point = ledger.point(&self.request.supply_point);
        let gaining = point.registrations.iter().any(|registration| {
            let live = matches!(registration.status, Status::Pending | Status::Secured);
            let starts = registration.effective_at();
            let mpid = registration.supplier;
            let holder = mpid.zip(starts).and_then(|(mpid, starts)| {
                directory.holder(mpid, Role::Supplier, starts.max(ledger.now))
            });
            live && starts.is_some_and(|starts| starts > ledger.now) && holder == Some(party)
        });
        LookupFacts {
            requester: party.clone(),
            requester_live: directory.is_live(party),
            registered: ledger
                .registered_party(&self.request.supply_point, ledger.now)
                .as_ref()
                == Some(party),
            gaining,
            purpose: self
                .request
                .purpose
                .as_ref()
                .is_some_and(|p| !p.trim().is_empty()),
        }
    }
}

/// Bytes of a stated purpose.
const MAX_PURPOSE: usize = 200;
