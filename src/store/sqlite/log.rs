//! The log's rows: the head, nodes for proofs, entries for auditors.

use std::collections::BTreeMap;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite};

use super::super::{EntryFilter, Head, LogEntry, StoreError, StoredCosignature};
use super::Store;
use super::load::{digest, time, unsigned};
use crate::types::Timestamp;

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    const TABLE: &str = "log_head";
    let row = sqlx::query(
        "SELECT size, root, frontier, last_at, directory_epoch, feed_at, numbered_above \
         FROM log_head WHERE id = 1",
    )
    .fetch_one(connection)
    .await?;
    Ok(Head {
        size: unsigned(TABLE, &row, 0)?,
        root: digest(TABLE, &row, 1)?.0,
        frontier: row.try_get(2)?,
        last_at: time(TABLE, &row, 3)?,
        directory_epoch: unsigned(TABLE, &row, 4)?,
        feed_at: time(TABLE, &row, 5)?,
        numbered_above: unsigned(TABLE, &row, 6)?,
    })
}

/// Which version of the directory is committed.
pub(super) async fn directory_epoch(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT directory_epoch FROM log_head WHERE id = 1")
        .fetch_one(connection)
        .await?;
    unsigned("log_head", &row, 0)
}

/// Writes the head of an empty log where there is none.
pub(super) async fn ensure_head(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO log_head \
         (id, size, root, frontier, last_at, directory_epoch, feed_at, numbered_above) \
         VALUES (1, 0, $1, $2, 0, 1, 0, 0) ON CONFLICT DO NOTHING",
    )
    .bind(crate::tlog::empty_root().0.to_vec())
    .bind(crate::tlog::Frontier::default().to_bytes())
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Leaf hashes `from..until`; fewer if the log is shorter.
    pub async fn leaf_hashes(&self, from: u64, until: u64) -> Result<Vec<[u8; 32]>, StoreError> {
        let rows =
            sqlx::query("SELECT hash FROM log_entry WHERE idx >= $1 AND idx < $2 ORDER BY idx")
                .bind(signed(from))
                .bind(signed(until))
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| digest("log_entry", row, 0).map(|hash| hash.0))
            .collect()
    }

    /// Stored nodes `from..until` of a level that is a multiple of eight and above zero.
    pub async fn nodes(
        &self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let rows = sqlx::query(
            "SELECT hash FROM log_node WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(i64::from(level))
        .bind(signed(from))
        .bind(signed(until))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| digest("log_node", row, 0).map(|hash| hash.0))
            .collect()
    }

    /// Entries `from..until` with their encrypted disclosures; fewer if the log is shorter.
    pub async fn entries(&self, from: u64, until: u64) -> Result<Vec<LogEntry>, StoreError> {
        sqlx::query(ENTRIES)
            .bind(signed(from))
            .bind(signed(until))
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(entry)
            .collect()
    }

    /// Entries that match a filter, newest first: `after` is the index that the page before ended with.
    pub async fn search(&self, filter: &EntryFilter) -> Result<Vec<LogEntry>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(SEARCH);
        let before = filter.page.after.unwrap_or(i64::MAX as u64);
        query.push(" WHERE i.idx < ").push_bind(signed(before));
        if let Some(party) = &filter.party {
            query.push(" AND i.party = ").push_bind(party.clone());
        }
        if let Some(subject) = &filter.subject {
            query.push(" AND i.subject = ").push_bind(subject.to_vec());
        }
        if let Some(kind) = &filter.kind {
            query.push(" AND i.kind = ").push_bind(kind.clone());
        }
        if let Some(code) = &filter.code {
            query.push(" AND i.code = ").push_bind(code.clone());
        }
        if let Some(from) = filter.from_at {
            query.push(" AND i.at >= ").push_bind(millis(from));
        }
        if let Some(until) = filter.until_at {
            query.push(" AND i.at < ").push_bind(millis(until));
        }
        query
            .push(" ORDER BY i.idx DESC LIMIT ")
            .push_bind(i64::from(filter.page.limit));
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(entry).collect()
    }

    /// What witnesses have cosigned, as far as it is kept.
    pub async fn cosignatures(&self) -> Result<Vec<StoredCosignature>, StoreError> {
        let rows = sqlx::query("SELECT size, line FROM cosignature ORDER BY size, line")
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredCosignature {
                    size: unsigned("cosignature", row, 0)?,
                    line: row.try_get(1)?,
                })
            })
            .collect()
    }

    /// Keeps cosignatures, and none of heads of other sizes than these.
    pub async fn keep_cosignatures(
        &self,
        rows: &[StoredCosignature],
        sizes: [u64; 2],
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("DELETE FROM cosignature WHERE size NOT IN ($1, $2)")
            .bind(signed(sizes[0]))
            .bind(signed(sizes[1]))
            .execute(&mut *transaction)
            .await?;
        for row in rows {
            sqlx::query(
                "INSERT INTO cosignature (size, line) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .bind(signed(row.size))
            .bind(row.line.clone())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The wrapped disclosure keys of scopes that still have one.
    pub async fn disclosure_keys(
        &self,
        scopes: &[String],
    ) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let asked = serde_json::to_string(scopes).expect("text serialises");
        let rows = sqlx::query(
            "SELECT scope, wrapped FROM disclosure_key \
             WHERE scope IN (SELECT value FROM json_each($1))",
        )
        .bind(asked)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect()
    }
}

fn entry(row: &SqliteRow) -> Result<LogEntry, StoreError> {
    Ok(LogEntry {
        index: unsigned("log_entry", row, 0)?,
        leaf: row.try_get(1)?,
        scope: row.try_get::<Option<String>, _>(2)?.unwrap_or_default(),
        disclosures: row.try_get(3)?,
    })
}

/// Indexes and sizes as SQLite stores them. A log never comes near 2^63 entries.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Milliseconds as SQLite stores them.
pub(super) fn millis(at: Timestamp) -> i64 {
    signed(at.as_millis())
}

const ENTRIES: &str = "SELECT e.idx, e.leaf, d.scope, d.sealed FROM log_entry AS e \
     LEFT JOIN disclosure AS d ON d.idx = e.idx WHERE e.idx >= $1 AND e.idx < $2 ORDER BY e.idx";
const SEARCH: &str = "SELECT e.idx, e.leaf, d.scope, d.sealed FROM entry_index AS i \
     JOIN log_entry AS e ON e.idx = i.idx LEFT JOIN disclosure AS d ON d.idx = i.idx";
