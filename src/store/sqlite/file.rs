//! A database as a file, beside a running service or without one: looked at, checked and copied, never made, and left at
//! the version of its schema.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::load::{digest, unsigned};
use super::{careful, private_file};
use crate::tlog::{Hash, TreeHead};

/// A database file that is there.
pub struct DatabaseFile {
    connection: SqliteConnection,
}

impl DatabaseFile {
    /// Opens the file; an error if it is not there or holds something else.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite names neither the file nor what is wrong with it.
        std::fs::metadata(path)?;
        let options = careful(SqliteConnectOptions::new().filename(path));
        let connection = options.connect().await?;
        Ok(Self { connection })
    }

    /// Size and root of its log.
    pub async fn head(&mut self) -> Result<TreeHead, StoreError> {
        const TABLE: &str = "log_head";
        let row = sqlx::query("SELECT size, root FROM log_head WHERE id = 1")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(TreeHead {
            size: unsigned(TABLE, &row, 0)?,
            root: Hash(digest(TABLE, &row, 1)?.0),
        })
    }

    /// The epochs under which it has wrapped keys, in order.
    pub async fn epochs(&mut self) -> Result<Vec<u32>, StoreError> {
        let epochs = "SELECT DISTINCT epoch FROM envelope WHERE epoch IS NOT NULL ORDER BY epoch";
        Ok(sqlx::query_scalar(epochs)
            .fetch_all(&mut self.connection)
            .await?)
    }

    /// Asks SQLite whether the file is sound; empty if it is.
    pub async fn check(&mut self) -> Result<Vec<String>, StoreError> {
        let findings: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_all(&mut self.connection)
            .await?;
        Ok(findings.into_iter().filter(|line| line != "ok").collect())
    }

    /// Copies the database, as of one instant, into a new file.
    pub async fn backup(&mut self, target: &Path) -> Result<(), StoreError> {
        let name = target
            .to_str()
            .ok_or_else(|| std::io::Error::other("the path of a backup must be UTF-8"))?;
        private_file(target)?;
        sqlx::query("VACUUM INTO $1")
            .bind(name.to_owned())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// Closes the file.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}
