//! What the losing supplier knew is destroyed once the grace period after a confirmation is over.

use serde_json::{Value, json};

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure};
use crate::handover::{Event, GenerationStatus, State};
use crate::store::{Handover, Needs, StoredEnvelope};
use crate::types::{HandoverId, SupplyPoint};

impl Escrow {
    /// Closes confirmed handovers whose grace is over, and erases the generations that they retired. Returns how many.
    pub async fn close_confirmed(&self) -> Result<usize, Failure> {
        let grace = self.terms().grace();
        let now = self.shared.clock.now();
        let due = self
            .shared
            .store
            .confirmed_handovers(CLOSED_AT_ONCE)
            .await?;
        let mut closed = 0;
        for handover in due {
            let over = handover
                .confirmed_at
                .is_some_and(|confirmed_at| confirmed_at.after(grace) <= now);
            if over {
                let command = Close {
                    supply_point: handover.supply_point,
                    handover: handover.id,
                };
                self.submit(Caller::service(), None, command).await?;
                closed += 1;
            }
        }
        Ok(closed)
    }
}

struct Close {
    supply_point: SupplyPoint,
    handover: HandoverId,
}

impl Command for Close {
    fn needs(&self, needs: &mut Needs) {
        needs.supply_points.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let nothing = Verdict::Done {
            answer: Value::Null,
            entry: None,
        };
        let point = ledger.point(&self.supply_point);
        let Some(handover) = point.handovers.iter().find(|h| h.id == self.handover) else {
            return nothing;
        };
        let (handover, envelopes) = (handover.clone(), point.envelopes.clone());
        let grace = ledger.rules.terms.grace();
        // What another confirmation retired at this supply point has a grace of its own.
        let mut confirmed = point
            .handovers
            .iter()
            .filter(|h| h.state == State::Confirmed);
        let over = confirmed.all(|h| {
            h.confirmed_at
                .is_some_and(|confirmed_at| confirmed_at.after(grace) <= ledger.now)
        });
        let Ok(state) = crate::handover::next(handover.state, Event::GraceOver) else {
            return nothing;
        };
        if !over || state == handover.state {
            return nothing;
        }
        let mut retired: Vec<StoredEnvelope> = envelopes
            .into_iter()
            .filter(|e| e.status == GenerationStatus::Retired)
            .collect();
        // What does not fit into one entry is left for the next round.
        let state = match retired.len() > ERASED_AT_ONCE {
            true => handover.state,
            false => state,
        };
        retired.truncate(ERASED_AT_ONCE);
        let erased: Vec<String> = retired.iter().map(|e| e.body.to_string()).collect();
        let entry = ledger.append(
            Act::of("handover.closed", caller)
                .about(&self.supply_point)
                .shows("erased", json!(erased))
                .hides("handover", handover.id.to_string()),
        );
        for envelope in retired {
            ledger.changes.erased.push(envelope.id);
            ledger.change_status(StoredEnvelope {
                status: GenerationStatus::Erased,
                ..envelope
            });
        }
        ledger.put_handover(Handover { state, ..handover });
        Verdict::Done {
            answer: Value::Null,
            entry: Some(entry),
        }
    }
}

/// How many envelopes are erased, and named, in one entry.
const ERASED_AT_ONCE: usize = 500;
/// How many handovers one round looks at.
const CLOSED_AT_ONCE: u32 = 500;
