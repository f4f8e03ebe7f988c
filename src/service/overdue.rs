//! A losing supplier that has not deposited by gate closure is late, and everybody concerned can see it.

use std::time::Duration;

use serde_json::Value;

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure};
use crate::handover::Event;
use crate::store::{Handover, Needs};
use crate::types::{HandoverId, SupplyPoint};

impl Escrow {
    /// Marks handovers whose package should have come by now. Returns how many.
    pub async fn mark_overdue(&self) -> Result<usize, Failure> {
        let now = self.shared.clock.now();
        let store = &self.shared.store;
        let due = store
            .expected_handovers(now.after(DAY), MARKED_AT_ONCE)
            .await?;
        let mut marked = 0;
        for handover in due {
            if handover.supply_start_date.gate_closure_at() <= now {
                let command = Mark {
                    supply_point: handover.supply_point,
                    handover: handover.id,
                };
                let id = handover.id;
                match self.submit(Caller::service(), None, command).await {
                    Ok(_) => marked += 1,
                    Err(error) => tracing::error!(handover = %id, %error, "not marked as late"),
                }
            }
        }
        Ok(marked)
    }

    /// Forgets answers under idempotency keys that nobody will repeat any more.
    pub async fn forget_answers(&self) -> Result<(), Failure> {
        let before = self.shared.clock.now().before(ANSWERS_KEPT);
        self.shared.store.forget_answers(before).await?;
        Ok(())
    }
}

struct Mark {
    supply_point: SupplyPoint,
    handover: HandoverId,
}

impl Command for Mark {
    fn needs(&self, needs: &mut Needs) {
        needs.supply_points.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let known = &ledger.point(&self.supply_point).handovers;
        let handover = known.iter().find(|h| h.id == self.handover).cloned();
        let late = handover.and_then(|handover| {
            let state = crate::handover::next(handover.state, Event::DueTimePassed).ok()?;
            (state != handover.state).then_some(Handover { state, ..handover })
        });
        let entry = late.map(|handover| {
            let entry = ledger.append(
                Act::of("handover.overdue", caller)
                    .about(&self.supply_point)
                    .hides("handover", handover.id.to_string()),
            );
            ledger.put_handover(handover);
            entry
        });
        Verdict::Done {
            answer: Value::Null,
            entry,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
/// How many handovers one round looks at.
const MARKED_AT_ONCE: u32 = 500;
/// How long answers are remembered.
const ANSWERS_KEPT: Duration = Duration::from_secs(30 * 86_400);
