//! Invocation counters: reserved in blocks, so that no crash lets one be used twice.

use futures_util::FutureExt as _;

use super::writer::Batch;
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
        let jump = self.settings.max_counter_jump;
        let (key, title) = (key.to_string(), title.to_string());
        let reserved = self
            .writer
            .write(move |batch| reserve_in(batch, key, title, above, jump).boxed());
        let unavailable = |error: JournalError| CountersError::Unavailable(error.to_string());
        reserved.await.map_err(unavailable)?
    }

    async fn prove(
        &self,
        key: Digest,
        title: SystemTitle,
        counter: u32,
    ) -> Result<(), CountersError> {
        let (key, title) = (key.to_string(), title.to_string());
        let proven = self.writer.write(move |batch| {
            async move {
                sqlx::query(
                    "UPDATE counters SET proven = max(proven, $3) WHERE key = $1 AND title = $2",
                )
                .bind(key)
                .bind(title)
                .bind(i64::from(counter))
                .execute(&mut batch.connection)
                .await?;
                Ok(())
            }
            .boxed()
        });
        let unavailable = |error: JournalError| CountersError::Unavailable(error.to_string());
        proven.await.map_err(unavailable)
    }
}

/// A refusal of counters is no failure of the journal, and writes nothing.
async fn reserve_in(
    batch: &mut Batch,
    key: String,
    title: String,
    above: u32,
    max_jump: u32,
) -> Result<Result<CounterBlock, CountersError>, JournalError> {
    let (high, proven): (Option<i64>, Option<i64>) = sqlx::query_as(
        "SELECT max(high), max(proven) FROM counters WHERE key = $1 AND title IN ($2, '')",
    )
    .bind(&key)
    .bind(&title)
    .fetch_one(&mut batch.connection)
    .await?;
    let number = |known: Option<i64>| u32::try_from(known.unwrap_or(0));
    let block = match (number(high), number(proven)) {
        (Ok(used), Ok(proven)) => next_block(used, proven, above, max_jump),
        _ => Err(CountersError::Spent),
    };
    let Ok(reserved) = block else {
        return Ok(block);
    };
    sqlx::query(
        "INSERT INTO counters (key, title, high, proven) VALUES ($1, $2, $3, 0)
         ON CONFLICT (key, title) DO UPDATE SET high = excluded.high",
    )
    .bind(key)
    .bind(title)
    .bind(i64::from(reserved.last))
    .execute(&mut batch.connection)
    .await?;
    Ok(block)
}

/// Jumps are bounded from what was proven, not from what was used: else a liar would burn the key in many small ones.
fn next_block(
    used: u32,
    proven: u32,
    above: u32,
    max_jump: u32,
) -> Result<CounterBlock, CountersError> {
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

impl Journal {
    /// The highest counter that was reserved under a key, by any sender; 0 if none was.
    pub async fn highest_counter(&self, key: Digest) -> Result<u32, JournalError> {
        let high: Option<i64> = sqlx::query_scalar("SELECT max(high) FROM counters WHERE key = $1")
            .bind(key.to_string())
            .fetch_one(&self.readers)
            .await?;
        u32::try_from(high.unwrap_or(0)).map_err(|error| JournalError::Damaged(error.to_string()))
    }
}

/// The counter that a set came with, noted for any sender, so that a meter far ahead of zero is believed.
pub(super) struct KnownCounter {
    key: String,
    counter: u32,
}

impl KnownCounter {
    pub(super) fn of(set: &Secrets) -> Option<Self> {
        let keys = set.keys().filter(|keys| keys.last_counter() > 0)?;
        Some(Self {
            key: key_name(keys.guek()).to_string(),
            counter: keys.last_counter(),
        })
    }

    pub(super) async fn note(self, batch: &mut Batch) -> Result<(), JournalError> {
        sqlx::query(
            "INSERT INTO counters (key, title, high, proven) VALUES ($1, '', $2, $2)
             ON CONFLICT (key, title) DO UPDATE
                 SET high = max(high, excluded.high), proven = max(proven, excluded.proven)",
        )
        .bind(self.key)
        .bind(i64::from(self.counter))
        .execute(&mut batch.connection)
        .await?;
        Ok(())
    }
}

/// Enough for an association and what is done in it; what a crash wastes is nothing against 2^32.
const BLOCK: u32 = 32;
