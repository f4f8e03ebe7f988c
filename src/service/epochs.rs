//! Keys that wrap keys are replaced: what lives is wrapped anew, then the old key is destroyed, and with it every copy
//! of erased keys in old backups.

use std::time::Duration;

use serde_json::Value;

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure, Shared};
use crate::custody::CustodyError;
use crate::store::{Needs, StoredEnvelope};

/// What a round did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rolled {
    /// How many keys were wrapped anew.
    pub rewrapped: usize,
    /// How many epochs were destroyed.
    pub destroyed: usize,
}

impl Escrow {
    /// Begins a new epoch when it is time, wraps what lives under it, and destroys epochs that are old and empty.
    pub async fn roll_epochs(&self) -> Result<Rolled, Failure> {
        let now = self.shared.clock.now();
        let custody = &self.shared.custody;
        if now.since(custody.current_epoch().created_at) >= EPOCH {
            let epoch = custody.begin_epoch(now, &*self.shared.random)?;
            let command = Note {
                kind: "epoch.begun",
                epoch: epoch.number,
            };
            self.submit(Caller::service(), None, command).await?;
        }
        let mut rolled = Rolled::default();
        loop {
            let current = custody.current_epoch().number;
            let store = &self.shared.store;
            let old = store.wrapped_before(current, AT_ONCE).await?;
            if old.is_empty() {
                break;
            }
            rolled.rewrapped += old.len();
            let rewrapped = old
                .into_iter()
                .map(|(envelope, wrapped)| self.shared.rewrap(envelope, &wrapped))
                .collect::<Result<Vec<_>, _>>()?;
            self.submit(Caller::service(), None, Rewrap { rewrapped })
                .await?;
        }
        // ORDER: nothing is wrapped under them any more, and that is durable.
        for epoch in custody.older_epochs() {
            if now.since(epoch.created_at) >= KEPT {
                let command = Note {
                    kind: "epoch.destroyed",
                    epoch: epoch.number,
                };
                self.submit(Caller::service(), None, command).await?;
                custody.destroy_epoch(epoch.number)?;
                rolled.destroyed += 1;
            }
        }
        Ok(rolled)
    }
}

impl Shared {
    fn rewrap(
        &self,
        envelope: StoredEnvelope,
        wrapped: &[u8],
    ) -> Result<(StoredEnvelope, Vec<u8>), Failure> {
        let dek = self.unwrap(&envelope, wrapped)?;
        let epoch = self.custody.current_epoch();
        let envelope = StoredEnvelope {
            epoch: epoch.number,
            ..envelope
        };
        let kek_id = epoch.number.to_string();
        let context = envelope.wrap_context(&kek_id);
        let wrapped = epoch.kek.wrap_dek(&context, &dek, &*self.random);
        Ok((envelope, wrapped))
    }
}

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

struct Rewrap {
    rewrapped: Vec<(StoredEnvelope, Vec<u8>)>,
}

impl Command for Rewrap {
    fn needs(&self, needs: &mut Needs) {
        let points = self.rewrapped.iter().map(|(e, _)| e.supply_point.clone());
        needs.supply_points.extend(points);
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let mut count = 0_u64;
        for (envelope, wrapped) in &self.rewrapped {
            let known = &ledger.point(&envelope.supply_point).envelopes;
            let Some(known) = known.iter().find(|e| e.id == envelope.id) else {
                continue;
            };
            // Its status may have changed since it was read; its key cannot have, but by being erased.
            if known.epoch < envelope.epoch && known.status.keeps_secrets() {
                let envelope = StoredEnvelope {
                    epoch: envelope.epoch,
                    ..known.clone()
                };
                ledger.rewrap(envelope, wrapped.clone());
                count += 1;
            }
        }
        let entry = ledger.append(Act::of("keys.rewrapped", caller).shows("count", count));
        Verdict::Done {
            answer: Value::Null,
            entry: Some(entry),
        }
    }
}

struct Note {
    kind: &'static str,
    epoch: u32,
}

impl Command for Note {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let entry = ledger.append(Act::of(self.kind, caller).shows("epoch", self.epoch));
        Verdict::Done {
            answer: Value::Null,
            entry: Some(entry),
        }
    }
}

/// How long new keys are wrapped under one epoch.
const EPOCH: Duration = Duration::from_secs(28 * 86_400);
/// How long an epoch is kept, so that backups younger than that can be restored.
const KEPT: Duration = Duration::from_secs(56 * 86_400);
/// Keys that are wrapped anew in one transaction.
const AT_ONCE: u32 = 200;
