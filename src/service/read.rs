//! The closing read: both suppliers must use the same one, so the gaining supplier accepts it or disputes it.

use serde_json::{Value, json};

use super::confirm::gained;
use super::deposit::Deposit;
use super::ledger::{Act, Ledger};
use super::refusal::Recorded;
use super::sequencer::{Answer, Command, Idempotency, Remembered, Verdict};
use super::{Caller, DepositRequest, Escrow, Failure};
use crate::handover::Event;
use crate::store::{Handover, Needs, Origin, ReadState, StoredEnvelope};
use crate::types::{Code, Component, EnvelopeId, HandoverId, PartyId, SupplyPoint};

impl Escrow {
    /// Accepts the losing supplier's newest read, which must have been released before: from now on both use it. Accepting
    /// it again changes nothing.
    pub async fn accept_read(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        handover: HandoverId,
    ) -> Result<Answer, Failure> {
        self.settle_read(caller, idempotency, handover, Word::Accept)
            .await
    }

    /// Disputes the losing supplier's read with another one, which is deposited with the dispute or not at all.
    pub async fn dispute(
        &self,
        caller: Caller,
        idempotency: Idempotency,
        handover: HandoverId,
        read: DepositRequest,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let disputed = async {
            if self.is_remembered(&caller, &idempotency).await? {
                return self.submit(caller, Some(idempotency), Remembered).await;
            }
            let deposit = self.prepared_deposit(&party, read).await?;
            if !deposit.is_one_read() {
                return Err(Failure::because(
                    Code::EnvelopeMismatch,
                    "a dispute brings a closing read with its commitment, and nothing else",
                ));
            }
            let supply_point = deposit.supply_point.clone();
            let settle = SettleRead {
                supply_point: supply_point.clone(),
                handover,
                word: Word::Dispute,
            };
            let command = Recorded {
                act: "dispute",
                supply_point,
                handover,
                command: Dispute { deposit, settle },
            };
            self.submit(caller, Some(idempotency), command).await
        };
        self.limited(&party, disputed).await
    }

    async fn settle_read(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        handover: HandoverId,
        word: Word,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let supply_point = self.shared.supply_point_of(handover).await?;
        let command = Recorded {
            act: "accept-read",
            supply_point: supply_point.clone(),
            handover,
            command: SettleRead {
                supply_point,
                handover,
                word,
            },
        };
        self.limited(&party, self.submit(caller, idempotency, command))
            .await
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Word {
    Accept,
    Dispute,
}

struct Dispute {
    deposit: Deposit,
    settle: SettleRead,
}

impl Command for Dispute {
    fn needs(&self, needs: &mut Needs) {
        self.deposit.needs(needs);
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let SettleRead {
            supply_point,
            handover,
            ..
        } = &self.settle;
        if let Err(refusal) = gained(caller, ledger, supply_point, *handover) {
            return refusal;
        }
        // Without another read there is nothing to dispute, and nothing that could be accepted in the end.
        let disputed = self.settle.newest(Origin::Losing, ledger);
        if disputed.and_then(|read| read.read_commitment).is_none() {
            return no_read();
        }
        match self.deposit.decide(caller, ledger) {
            Verdict::Done { .. } => self.settle.decide(caller, ledger),
            refused => refused,
        }
    }
}

struct SettleRead {
    supply_point: SupplyPoint,
    handover: HandoverId,
    word: Word,
}

impl Command for SettleRead {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.supply_point.clone());
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
        let Some(settled) = self.newest(origin, ledger) else {
            return no_read();
        };
        let Some(commitment) = settled.read_commitment else {
            return no_read();
        };
        // Nobody is bound to a read that it has not seen, such as one that came in since.
        let id = settled.id;
        if self.word == Word::Accept && !self.was_released(&caller.identity.id, id, ledger) {
            return Verdict::Refused(Failure::because(
                Code::WrongState,
                "the newest read has not been released to you: fetch it first",
            ));
        }
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
        if self.word == Word::Accept && handover.read == read {
            return Verdict::Done {
                answer: answer(&handover),
                entry: handover.read_entry,
            };
        }
        let entry = ledger.append(
            Act::of(kind, caller)
                .about(&self.supply_point)
                .shows("read", commitment.to_string())
                .hides("handover", handover.id.to_string()),
        );
        // A dispute before the release may hold the credentials; a later one blocks nothing.
        let moves = match self.word {
            Word::Accept => true,
            Word::Dispute => ledger.rules.terms.dispute_holds_credentials,
        };
        let state = match crate::handover::next(handover.state, event) {
            Ok(state) if moves => state,
            _ => handover.state,
        };
        let handover = Handover {
            state,
            read,
            read_entry: Some(entry),
            ..handover
        };
        let answer = answer(&handover);
        ledger.put_handover(handover);
        Verdict::Done {
            answer,
            entry: Some(entry),
        }
    }
}

fn answer(handover: &Handover) -> Value {
    json!({
        "handover": handover.id,
        "state": handover.state.as_str(),
        "read": handover.read,
    })
}

fn no_read() -> Verdict {
    Verdict::Refused(Failure::because(
        Code::NoPackage,
        "no such read has been deposited with a commitment",
    ))
}

impl SettleRead {
    /// The newest read of that origin.
    fn newest<'l>(&self, origin: Origin, ledger: &'l Ledger<'_>) -> Option<&'l StoredEnvelope> {
        let point = ledger.point(&self.supply_point);
        let reads = point.envelopes.iter().filter(|e| {
            e.component == Component::Read
                && e.handover == Some(self.handover)
                && e.origin == origin
        });
        reads.max_by_key(|e| e.generation)
    }

    /// Whether a party was granted an envelope under this handover.
    fn was_released(&self, party: &PartyId, envelope: EnvelopeId, ledger: &Ledger<'_>) -> bool {
        let mut grants = ledger.point(&self.supply_point).grants.iter();
        grants.any(|grant| {
            grant.party == *party
                && grant.handover == self.handover
                && grant.envelopes.iter().any(|granted| granted.id == envelope)
        })
    }
}
