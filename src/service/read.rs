//! The closing read: both suppliers must use the same one, so the gaining supplier accepts it or disputes it.

use serde_json::json;

use super::confirm::gained;
use super::ledger::{Act, Ledger};
use super::sequencer::{Answer, Command, Idempotency, Verdict};
use super::{Caller, DepositRequest, Escrow, Failure, Repeat};
use crate::handover::Event;
use crate::store::{Handover, Needs, Origin, ReadState};
use crate::types::{Code, Component, Digest, HandoverId, SupplyPoint};

impl Escrow {
    /// Accepts the losing supplier's read: from now on both use it.
    pub async fn accept_read(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        handover: HandoverId,
    ) -> Result<Answer, Failure> {
        self.settle_read(caller, idempotency, handover, Word::Accept)
            .await
    }

    /// Disputes the losing supplier's read with another one, which is deposited first.
    pub async fn dispute(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        handover: HandoverId,
        read: DepositRequest,
    ) -> Result<Answer, Failure> {
        let own = Idempotency {
            key: format!("{}.read", idempotency.key),
            request: idempotency.request,
            repeat: Repeat::Answer,
        };
        self.deposit(caller.clone(), Some(own), read).await?;
        self.settle_read(caller, Some(idempotency), handover, Word::Dispute)
            .await
    }

    async fn settle_read(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        handover: HandoverId,
        word: Word,
    ) -> Result<Answer, Failure> {
        caller.party()?;
        let command = SettleRead {
            supply_point: self.shared.supply_point_of(handover).await?,
            handover,
            word,
        };
        self.submit(caller, idempotency, command).await
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Word {
    Accept,
    Dispute,
}

struct SettleRead {
    supply_point: SupplyPoint,
    handover: HandoverId,
    word: Word,
}

impl Command for SettleRead {
    fn needs(&self, needs: &mut Needs) {
        needs.supply_points.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let handover = match gained(caller, ledger, &self.supply_point, self.handover) {
            Ok(handover) => handover,
            Err(refusal) => return refusal,
        };
        let origin = match self.word {
            Word::Accept => Origin::Losing,
            Word::Dispute => Origin::GainingRead,
        };
        let Some(commitment) = self.commitment(origin, ledger) else {
            return Verdict::Refused(Failure::because(
                Code::NoPackage,
                "no such read has been deposited with a commitment",
            ));
        };
        let (kind, read, event) = match self.word {
            Word::Accept => (
                "read.accepted",
                ReadState::Accepted { commitment },
                Event::HoldLifted,
            ),
            Word::Dispute => (
                "read.disputed",
                ReadState::Disputed { commitment },
                Event::HoldPlaced,
            ),
        };
        let entry = ledger.append(
            Act::of(kind, caller)
                .about(&self.supply_point)
                .shows("read", commitment.to_string())
                .hides("handover", handover.id.to_string()),
        );
        // A dispute before the release may hold the credentials; a later one blocks nothing.
        let holds = ledger.rules.terms.dispute_holds_credentials;
        let state = match crate::handover::next(handover.state, event) {
            Ok(state) if holds => state,
            _ => handover.state,
        };
        let answer = json!({
            "handover": handover.id,
            "state": state.as_str(),
            "read": read,
        });
        ledger.put_handover(Handover {
            state,
            read,
            ..handover
        });
        Verdict::Done {
            answer,
            entry: Some(entry),
        }
    }
}

impl SettleRead {
    /// The commitment of the newest read of that origin.
    fn commitment(&self, origin: Origin, ledger: &Ledger<'_>) -> Option<Digest> {
        let point = ledger.point(&self.supply_point);
        let reads = point.envelopes.iter().filter(|e| {
            e.component == Component::Read
                && e.handover == Some(self.handover)
                && e.origin == origin
        });
        reads.max_by_key(|e| e.generation)?.read_commitment
    }
}
