//! Invocation counters: reserved in blocks, so that no crash lets one be used twice.

use super::{Journal, JournalError};
use crate::dlms::SystemTitle;
use crate::dlms::keys::key_name;
use crate::meter::link::{CounterBlock, Counters, CountersError};
use crate::meter::secrets::Secrets;
use crate::types::Digest;

impl Counters for Journal {
    async fn reserve(
        &self,
        key: Digest,
        title: SystemTitle,
        above: u32,
    ) -> Result<CounterBlock, CountersError> {
        let unavailable = |error: sqlx::Error| CountersError::Unavailable(error.to_string());
        let mut transaction = self
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(unavailable)?;
        let (high, proven): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT max(high), max(proven) FROM counters WHERE key = $1 AND title IN ($2, '')",
        )
        .bind(key.to_string())
        .bind(title.to_string())
        .fetch_one(&mut *transaction)
        .await
        .map_err(unavailable)?;
        let number = |known: Option<i64>| {
            u32::try_from(known.unwrap_or(0)).map_err(|_| CountersError::Spent)
        };
        let block = self.next_block(number(high)?, number(proven)?, above)?;
        sqlx::query(
            "INSERT INTO counters (key, title, high, proven) VALUES ($1, $2, $3, 0)
             ON CONFLICT (key, title) DO UPDATE SET high = excluded.high",
        )
        .bind(key.to_string())
        .bind(title.to_string())
        .bind(i64::from(block.last))
        .execute(&mut *transaction)
        .await
        .map_err(unavailable)?;
        transaction.commit().await.map_err(unavailable)?;
        Ok(block)
    }

    async fn prove(
        &self,
        key: Digest,
        title: SystemTitle,
        counter: u32,
    ) -> Result<(), CountersError> {
        sqlx::query("UPDATE counters SET proven = max(proven, $3) WHERE key = $1 AND title = $2")
            .bind(key.to_string())
            .bind(title.to_string())
            .bind(i64::from(counter))
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(|error| CountersError::Unavailable(error.to_string()))
    }
}

impl Journal {
    /// Jumps are bounded from what was proven, not from what was used: else a liar would burn the key in many small ones.
    fn next_block(
        &self,
        used: u32,
        proven: u32,
        above: u32,
    ) -> Result<CounterBlock, CountersError> {
        let max_jump = self.settings.max_counter_jump;
        if above > used && above > proven.saturating_add(max_jump) {
            return Err(CountersError::Jump { above, proven });
        }
        // Some meters keep the last counter they accepted, others the lowest they will: one more is right for both.
        let first = used.max(above).checked_add(1).ok_or(CountersError::Spent)?;
        let last = first.checked_add(BLOCK - 1).ok_or(CountersError::Spent)?;
        let is_far = first > proven.saturating_add(max_jump / 2);
        Ok(CounterBlock {
            first,
            last,
            is_far,
        })
    }

    /// Notes the counter that a set came with, for any sender, so that a meter far ahead of zero is believed.
    pub(super) async fn note_counter(
        transaction: &mut sqlx::SqliteTransaction<'_>,
        set: &Secrets,
    ) -> Result<(), JournalError> {
        let Some(keys) = set.keys().filter(|keys| keys.last_counter() > 0) else {
            return Ok(());
        };
        sqlx::query(
            "INSERT INTO counters (key, title, high, proven) VALUES ($1, '', $2, $2)
             ON CONFLICT (key, title) DO UPDATE
                 SET high = max(high, excluded.high), proven = max(proven, excluded.proven)",
        )
        .bind(key_name(keys.guek()).to_string())
        .bind(i64::from(keys.last_counter()))
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }
}

/// Enough for an association and what is done in it; what a crash wastes is nothing against 2^32.
const BLOCK: u32 = 32;
