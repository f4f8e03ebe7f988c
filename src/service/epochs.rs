//! Keys that wrap keys are replaced: what lives is wrapped anew, then the old key is destroyed, and with it every copy
//! of erased keys in old backups.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure, Shared};
use crate::custody::CustodyError;
use crate::store::{Needs, StoredEnvelope, WrappedKey};

/// What a round did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rolled {
    /// How many keys were wrapped anew.
    pub rewrapped: usize,
    /// How many keys cannot be, since they or their rows are damaged.
    pub damaged: u32,
    /// How many epochs were destroyed.
    pub destroyed: usize,
}

impl Escrow {
    /// Begins a new epoch when it is time, wraps what lives under it, and destroys epochs that are old and empty.
    pub async fn roll_epochs(&self) -> Result<Rolled, Failure> {
        let now = self.shared.clock.now();
        let custody = &self.shared.custody;
        if now.since(custody.current_epoch().created_at) >= EPOCH {
            custody.begin_epoch(now, &*self.shared.random)?;
        }
        self.note_epoch().await?;
        let mut rolled = Rolled::default();
        let in_use = self.rewrap_all(&mut rolled).await?;
        metrics::gauge!("cos_escrow_damaged_keys").set(f64::from(rolled.damaged));
        // ORDER: nothing is wrapped under them any more, and that is durable.
        for epoch in custody.older_epochs() {
            if now.since(epoch.created_at) >= KEPT && !in_use.contains(&epoch.number) {
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

    /// Makes the entry that the current epoch has begun. If that failed when it began, this is when it is made. The
    /// first one begins with the log.
    async fn note_epoch(&self) -> Result<(), Failure> {
        let current = self.shared.custody.current_epoch().number;
        let noted = self.shared.newest_of("epoch.begun").await?;
        let noted = noted.and_then(|entry| entry.shown().get("epoch").and_then(Value::as_u64));
        if u64::from(current) > noted.unwrap_or(1) {
            let command = Note {
                kind: "epoch.begun",
                epoch: current,
            };
            self.submit(Caller::service(), None, command).await?;
        }
        Ok(())
    }

    /// Wraps everything under the current epoch. What is damaged stays as it is, for people to look at, and holds up
    /// nothing else. Returns the old epochs under which something is left.
    async fn rewrap_all(&self, rolled: &mut Rolled) -> Result<BTreeSet<u32>, Failure> {
        let current = self.shared.custody.current_epoch().number;
        let mut in_use = BTreeSet::new();
        let mut leave = |(epoch, row): (u32, i64), rolled: &mut Rolled, error: Failure| {
            tracing::error!(epoch, row, %error, "a key was not wrapped anew");
            rolled.damaged += 1;
            in_use.insert(epoch);
        };
        let mut after = (0, 0);
        loop {
            let store = &self.shared.store;
            let old = store.wrapped_before(current, after, AT_ONCE).await?;
            let Some(last) = old.last() else {
                return Ok(in_use);
            };
            after = last.place;
            let mut rewrapped = Vec::new();
            for old in old {
                let envelope = old.envelope.map_err(Failure::from);
                let key = WrappedKey {
                    epoch: old.place.0,
                    bytes: old.wrapped,
                };
                match envelope.and_then(|envelope| self.shared.rewrap(envelope, &key)) {
                    Ok(new) => rewrapped.push((old.place, new)),
                    Err(error) => leave(old.place, rolled, error),
                }
            }
            let together = rewrapped.iter().map(|(_, new)| new.clone()).collect();
            match self.store_rewrapped(together).await {
                Ok(()) => rolled.rewrapped += rewrapped.len(),
                // Something else at one of the supply points no longer reads: one at a time, the others go through.
                Err(Failure::Broken(_)) => {
                    for (place, new) in rewrapped {
                        match self.store_rewrapped(vec![new]).await {
                            Ok(()) => rolled.rewrapped += 1,
                            Err(error @ Failure::Broken(_)) => leave(place, rolled, error),
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn store_rewrapped(
        &self,
        rewrapped: Vec<(StoredEnvelope, WrappedKey)>,
    ) -> Result<(), Failure> {
        if rewrapped.is_empty() {
            return Ok(());
        }
        self.submit(Caller::service(), None, Rewrap { rewrapped })
            .await
            .map(drop)
    }
}

impl Shared {
    pub(super) fn rewrap(
        &self,
        envelope: StoredEnvelope,
        old: &WrappedKey,
    ) -> Result<(StoredEnvelope, WrappedKey), Failure> {
        let dek = self.unwrap(&envelope, old)?;
        let epoch = self.custody.current_epoch();
        let kek_id = epoch.number.to_string();
        let context = envelope.wrap_context(&kek_id);
        let new = WrappedKey {
            epoch: epoch.number,
            bytes: epoch.kek.wrap_dek(&context, &dek, &*self.random),
        };
        Ok((envelope, new))
    }
}

impl From<CustodyError> for Failure {
    fn from(error: CustodyError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

pub(super) struct Rewrap {
    pub(super) rewrapped: Vec<(StoredEnvelope, WrappedKey)>,
}

impl Command for Rewrap {
    fn needs(&self, needs: &mut Needs) {
        let points = self.rewrapped.iter().map(|(e, _)| e.supply_point.clone());
        needs.supply_points.extend(points);
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let mut count = 0_u64;
        for (envelope, key) in &self.rewrapped {
            let known = &ledger.point(&envelope.supply_point).envelopes;
            let known = known.iter().find(|e| e.id == envelope.id);
            // Nobody else wraps keys anew; it may have been erased since it was read.
            if known.is_some_and(|known| known.status.keeps_secrets()) {
                let rewrapped = &mut ledger.changes.rewrapped;
                rewrapped.push((envelope.id, key.clone()));
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
