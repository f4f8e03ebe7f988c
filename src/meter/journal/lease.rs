//! The right to work on a meter, and the steps that only its holder may write down.

use futures_util::FutureExt as _;

use super::rows::millis;
use super::writer::Batch;
use super::{Journal, JournalError, Progress, State};
use crate::meter::escrow::StopReason;
use crate::meter::secrets::Secrets;
use crate::types::{HandoverId, Random, Timestamp};

/// The right to work on one meter, until it expires.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(super) handover: HandoverId,
    owner: [u8; 16],
}

impl Journal {
    /// Takes the lease of a meter, if nobody else has it.
    pub async fn lease(
        &self,
        handover: HandoverId,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Option<Lease>, JournalError> {
        let mut owner = [0; 16];
        random.fill(&mut owner);
        let until = millis(now.after(self.settings.lease));
        // No lease is that long: the clock went back, and the worker that took it would have renewed it since.
        let too_long = millis(now.after(self.settings.lease * 2));
        let taken = self.writer.write(move |batch| {
            async move {
                let taken = sqlx::query(
                    "UPDATE takeovers SET lease_owner = $2, lease_until = $3
                     WHERE handover = $1 AND (lease_until <= $4 OR lease_until > $5)",
                )
                .bind(handover.to_string())
                .bind(owner.as_slice())
                .bind(until)
                .bind(millis(now))
                .bind(too_long)
                .execute(&mut batch.connection)
                .await?;
                Ok(taken.rows_affected() == 1)
            }
            .boxed()
        });
        Ok(taken.await?.then_some(Lease { handover, owner }))
    }

    /// Gives the lease back.
    pub async fn end_lease(&self, lease: Lease) -> Result<(), JournalError> {
        let Lease { handover, owner } = lease;
        let ended = self.writer.write(move |batch| {
            async move {
                sqlx::query(
                    "UPDATE takeovers SET lease_until = 0 WHERE handover = $1 AND lease_owner = $2",
                )
                .bind(handover.to_string())
                .bind(owner.as_slice())
                .execute(&mut batch.connection)
                .await?;
                Ok(())
            }
            .boxed()
        });
        ended.await
    }

    /// Ends every lease. Only for who knows that no other process works with this journal: then they are of the dead.
    pub async fn end_all_leases(&self) -> Result<(), JournalError> {
        let ended = self.writer.write(|batch| {
            async move {
                sqlx::query("UPDATE takeovers SET lease_until = 0 WHERE lease_until <> 0")
                    .execute(&mut batch.connection)
                    .await?;
                Ok(())
            }
            .boxed()
        });
        ended.await
    }

    /// Commits a step, renews the lease, and fails if the lease was lost.
    pub async fn save(
        &self,
        lease: &Lease,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let step = self.step(lease, progress, now)?;
        self.writer
            .write(move |batch| step.write(batch).boxed())
            .await
    }

    /// Commits a new key set together with the step that needs it.
    pub async fn save_with_set(
        &self,
        lease: &Lease,
        progress: &Progress,
        (number, set): (u32, &Secrets),
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let step = self.step(lease, progress, now)?;
        let set = self.seal_set(lease.handover, number, set);
        let written = self.writer.write(move |batch| {
            async move {
                step.write(batch).await?;
                set.insert(batch).await
            }
            .boxed()
        });
        written.await
    }

    /// Commits a step and destroys every key set but one.
    pub async fn save_keeping(
        &self,
        lease: &Lease,
        progress: &Progress,
        number: u32,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let step = self.step(lease, progress, now)?;
        let handover = lease.handover.to_string();
        let written = self.writer.write(move |batch| {
            async move {
                step.write(batch).await?;
                sqlx::query("DELETE FROM key_sets WHERE handover = $1 AND number <> $2")
                    .bind(handover)
                    .bind(number)
                    .execute(&mut batch.connection)
                    .await?;
                batch.destroyed_keys = true;
                Ok(())
            }
            .boxed()
        });
        written.await
    }

    fn step(
        &self,
        lease: &Lease,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<Step, JournalError> {
        Ok(Step {
            lease: lease.clone(),
            lease_until: millis(now.after(self.settings.lease)),
            state: progress.state,
            stopped: progress.stopped,
            wait_until: millis(progress.wait_until),
            progress: serde_json::to_string(progress)?,
            now: millis(now),
        })
    }
}

/// A step as it is written: only by the holder of the lease, which it renews.
struct Step {
    lease: Lease,
    lease_until: i64,
    state: State,
    stopped: Option<StopReason>,
    wait_until: i64,
    progress: String,
    now: i64,
}

impl Step {
    /// A lease that was lost is found out before anything is written.
    async fn write(self, batch: &mut Batch) -> Result<(), JournalError> {
        let handover = self.lease.handover.to_string();
        let updated = sqlx::query(
            "UPDATE takeovers SET state = $3, stopped = $4, wait_until = $5, progress = $6,
                 lease_until = $7, changed_at = $8
             WHERE handover = $1 AND lease_owner = $2",
        )
        .bind(&handover)
        .bind(self.lease.owner.as_slice())
        .bind(self.state.as_str())
        .bind(self.stopped.map(StopReason::as_str))
        .bind(self.wait_until)
        .bind(self.progress)
        .bind(self.lease_until)
        .bind(self.now)
        .execute(&mut batch.connection)
        .await?;
        if updated.rows_affected() != 1 {
            return Err(JournalError::LeaseLost);
        }
        if self.state == State::Reported {
            // Nothing will be deposited any more.
            sqlx::query("DELETE FROM papers WHERE handover = $1")
                .bind(handover)
                .execute(&mut batch.connection)
                .await?;
        }
        Ok(())
    }
}
