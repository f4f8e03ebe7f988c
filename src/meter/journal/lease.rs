//! The right to work on a meter, and the steps that only its holder may write down.

use sqlx::SqliteTransaction;

use super::rows::millis;
use super::{Journal, JournalError, Progress};
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
        let taken = sqlx::query(
            "UPDATE takeovers SET lease_owner = $2, lease_until = $3
             WHERE handover = $1 AND (lease_until <= $4 OR lease_until > $5)",
        )
        .bind(handover.to_string())
        .bind(owner.as_slice())
        .bind(millis(now.after(self.settings.lease)))
        .bind(millis(now))
        // No lease is that long: the clock went back, and the worker that took it would have renewed it since.
        .bind(millis(now.after(self.settings.lease * 2)))
        .execute(&self.pool)
        .await?;
        Ok((taken.rows_affected() == 1).then_some(Lease { handover, owner }))
    }

    /// Gives the lease back.
    pub async fn end_lease(&self, lease: Lease) -> Result<(), JournalError> {
        sqlx::query(
            "UPDATE takeovers SET lease_until = 0 WHERE handover = $1 AND lease_owner = $2",
        )
        .bind(lease.handover.to_string())
        .bind(lease.owner.as_slice())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Commits a step, renews the lease, and fails if the lease was lost.
    pub async fn save(
        &self,
        lease: &Lease,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        self.update(&mut transaction, lease, progress, now).await?;
        transaction.commit().await.map_err(Into::into)
    }

    /// Commits a new key set together with the step that needs it.
    pub async fn save_with_set(
        &self,
        lease: &Lease,
        progress: &Progress,
        (number, set): (u32, &Secrets),
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        self.update(&mut transaction, lease, progress, now).await?;
        self.insert_set(&mut transaction, lease.handover, number, set)
            .await?;
        transaction.commit().await.map_err(Into::into)
    }

    /// Commits a step and destroys every key set but one.
    pub async fn save_keeping(
        &self,
        lease: &Lease,
        progress: &Progress,
        number: u32,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        self.update(&mut transaction, lease, progress, now).await?;
        sqlx::query("DELETE FROM key_sets WHERE handover = $1 AND number <> $2")
            .bind(lease.handover.to_string())
            .bind(number)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        // The log of the database still has the deleted rows until it is emptied.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn update(
        &self,
        transaction: &mut SqliteTransaction<'_>,
        lease: &Lease,
        progress: &Progress,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let updated = sqlx::query(
            "UPDATE takeovers SET state = $3, stopped = $4, wait_until = $5, progress = $6,
                 lease_until = $7, changed_at = $8
             WHERE handover = $1 AND lease_owner = $2",
        )
        .bind(lease.handover.to_string())
        .bind(lease.owner.as_slice())
        .bind(progress.state.as_str())
        .bind(progress.stopped.map(StopReason::as_str))
        .bind(millis(progress.wait_until))
        .bind(serde_json::to_string(progress)?)
        .bind(millis(now.after(self.settings.lease)))
        .bind(millis(now))
        .execute(&mut **transaction)
        .await?;
        match updated.rows_affected() {
            1 => Ok(()),
            _ => Err(JournalError::LeaseLost),
        }
    }
}
