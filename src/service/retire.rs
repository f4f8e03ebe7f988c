//! What the losing supplier knew is destroyed once the grace period after a confirmation is over.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure};
use crate::handover::{Event, GenerationStatus, State};
use crate::store::{Handover, Needs, Page, StoredEnvelope};
use crate::types::{HandoverId, SupplyPoint};

impl Escrow {
    /// Closes all confirmed handovers whose grace is over, and erases the generations that they retired; what one retired
    /// that was annulled or withdrawn since is erased all the same. Returns how many; one that cannot be closed is logged and tried again in the next round, and holds up no other. What was
    /// erased leaves the write-ahead log as well, in the next round if somebody reads an older state just now.
    pub async fn close_confirmed(&self) -> Result<usize, Failure> {
        let now = self.shared.clock.now();
        let mut page = Page {
            after: None,
            limit: CLOSED_AT_ONCE,
        };
        let mut closed = 0;
        loop {
            let due = self.shared.store.past_grace(now, &page).await?;
            let Some((ended, last, _)) = due.last() else {
                break;
            };
            page.after = Some((*ended, *last));
            // Together, so that they share commits.
            let closing = due
                .into_iter()
                .map(|(_, handover, supply_point)| async move {
                    let command = Close {
                        supply_point,
                        handover,
                    };
                    let result = self.submit(Caller::service(), None, command).await;
                    (handover, result)
                });
            for (handover, result) in join_all(closing).await {
                match result {
                    Ok(answer) => closed += usize::from(answer.receipt.is_some()),
                    Err(error) => tracing::error!(%handover, %error, "a handover was not closed"),
                }
            }
        }
        self.shared.store.empty_wal().await?;
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
        // What another confirmation retired at this supply point has a grace of its own, whatever has become of that
        // handover since.
        let over = point
            .handovers
            .iter()
            .all(|h| h.erased_after.is_none_or(|erased| erased <= ledger.now));
        if !over || handover.erased_after.is_none() || handover.state == State::Closed {
            return nothing;
        }
        let mut retired: Vec<StoredEnvelope> = envelopes
            .into_iter()
            .filter(|e| e.status == GenerationStatus::Retired)
            .collect();
        // What does not fit into one entry is left for the next round.
        let after = match retired.len() > ERASED_AT_ONCE {
            true => handover,
            false => ended(handover),
        };
        retired.truncate(ERASED_AT_ONCE);
        let erased: Vec<String> = retired.iter().map(|e| e.body.to_string()).collect();
        let kind = match after.state {
            State::Closed => "handover.closed",
            _ => "generations.erased",
        };
        let entry = ledger.append(
            Act::of(kind, caller)
                .about(&self.supply_point)
                .shows("erased", json!(erased))
                .hides("handover", after.id.to_string()),
        );
        for envelope in retired {
            ledger.changes.erased.push(envelope.id);
            ledger.change_status(StoredEnvelope {
                status: GenerationStatus::Erased,
                ..envelope
            });
        }
        ledger.put_handover(after);
        Verdict::Done {
            answer: Value::Null,
            entry: Some(entry),
        }
    }
}

/// The handover after its grace: closed, or, where it was annulled or withdrawn meanwhile, as it was, with nothing left
/// to erase.
fn ended(handover: Handover) -> Handover {
    match crate::handover::next(handover.state, Event::GraceOver) {
        Ok(state) => Handover { state, ..handover },
        Err(_) => Handover {
            erased_after: None,
            ..handover
        },
    }
}

/// How many envelopes are erased, and named, in one entry.
const ERASED_AT_ONCE: usize = 500;
/// How many handovers are read, and closed together.
const CLOSED_AT_ONCE: u32 = 500;
