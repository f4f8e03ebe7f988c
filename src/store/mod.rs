//! Durable state: what a batch of requests needs to know, and one transaction that commits all it changes.
//!
//! The store knows no policy. A batch names what it touches (`Needs`), gets it as it stands inside the transaction
//! (`Facts`), and a pure closure turns facts into `Changes`; rows and log entries commit together or not at all.

mod changes;
mod directory;
mod facts;
mod needs;
mod query;
mod sqlite;

pub use changes::{Changes, EntryRow, NodeRow};
pub use directory::{Directory, Party, PartyMpid, PartyStatus, SealingKey};
pub use facts::{
    Attribution, Facts, Grant, GrantedEnvelope, Ground, Handover, Head, Held, IdempotentAnswer,
    Maker, Meter, Origin, ReadState, StoredEnvelope, SupplyPointFacts, Wrapped, WrappedKey,
};
pub use needs::Needs;
pub use query::{
    EntryFilter, HandoverFilter, LogEntry, Page, Sealed, Side, StanzaAddress, StoredCosignature,
};
pub use sqlite::{DatabaseFile, Store, StoreOptions};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error; nothing of the batch is stored.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A row holds what no version of this program wrote.
    #[error("corrupt row in `{table}`: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The schema is newer than this program.
    #[error("schema: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A file operation failed.
    #[error("file: {0}")]
    File(#[from] std::io::Error),
}

impl StoreError {
    /// Whether the rows of one request are to blame, so that others of its batch can be committed without it.
    pub fn is_of_one_request(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Database(sqlx::Error::Database(error)) => error
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| code & 0xff == SQLITE_CONSTRAINT),
            Self::Database(_) | Self::Schema(_) | Self::File(_) => false,
        }
    }

    fn corrupt(table: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            table,
            reason: reason.to_string(),
        }
    }
}

/// The low byte of SQLite's codes for constraints that do not hold.
const SQLITE_CONSTRAINT: u32 = 19;
