//! A losing supplier that has not deposited by gate closure is late, and everybody concerned can see it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure};
use crate::handover::Event;
use crate::store::{Handover, Needs, Page};
use crate::types::{HandoverId, SupplyPoint};

impl Escrow {
    /// Marks all handovers whose package should have come by now. Returns how many; one that cannot be marked is logged
    /// and tried again in the next round.
    pub async fn mark_overdue(&self) -> Result<usize, Failure> {
        let now = self.shared.clock.now();
        let mut page = Page {
            after: None,
            limit: MARKED_AT_ONCE,
        };
        let mut marked = 0;
        loop {
            let due = self.shared.store.expected_handovers(now.after(DAY), &page);
            let due = due.await?;
            let Some(last) = due.last() else {
                return Ok(marked);
            };
            page.after = Some((last.effective_at, last.id));
            // Together, so that they share commits, and few enough that nobody waits long behind them.
            let late = due
                .into_iter()
                .filter(|handover| handover.supply_start_date.gate_closure_at() <= now);
            let marking = late.map(|handover| async move {
                let command = Mark {
                    supply_point: handover.supply_point,
                    handover: handover.id,
                };
                let result = self.submit(Caller::service(), None, command).await;
                (handover.id, result)
            });
            for (handover, result) in join_all(marking).await {
                match result {
                    Ok(_) => marked += 1,
                    Err(error) => tracing::error!(%handover, %error, "not marked as late"),
                }
            }
        }
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
/// How many handovers are read, and marked together.
const MARKED_AT_ONCE: u32 = 100;
/// How long answers are remembered.
const ANSWERS_KEPT: Duration = Duration::from_secs(30 * 86_400);
