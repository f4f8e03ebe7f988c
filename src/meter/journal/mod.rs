//! What is known of each takeover, durable before it matters: SQLite, one file, on the gaining supplier's side.
//!
//! Each step is committed, with an fsync, before its side effect; so whatever a crash interrupts, the journal already
//! says what the meter may have been told. Keys are sealed by the caller's [`Sealer`] before they reach the file. The
//! steps of many meters share a commit (`writer`), and nothing of the journal is held in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};

pub use lease::Lease;
pub use pages::{Due, Note, Query, Scope, Status, Tally};
pub use progress::{Held, NoWay, Pair, Progress, Round, State};
pub use rows::{Claim, Intake, Record, RunId};
pub use seal::{SealError, Sealer};

use crate::types::{HandoverId, InvalidId};
use writer::Writer;

mod counters;
mod lease;
mod pages;
mod progress;
mod rows;
mod seal;
mod writer;

/// The journal of one head end. Clones share the file.
#[derive(Clone)]
pub struct Journal {
    writer: Writer,
    readers: SqlitePool,
    sealer: Arc<dyn Sealer>,
    settings: JournalSettings,
}

/// Bounds of the journal.
#[derive(Clone, Copy, Debug)]
pub struct JournalSettings {
    /// How long a worker that does not renew its lease keeps others from its meter.
    pub lease: Duration,
    /// How far a meter may move its counter beyond what was proven. Its word for it is not authenticated.
    pub max_counter_jump: u32,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(5 * 60),
            max_counter_jump: 1 << 24,
        }
    }
}

impl Journal {
    /// Opens the journal at `path`, and makes it if there is none.
    pub async fn open(
        path: &Path,
        sealer: Arc<dyn Sealer>,
        settings: JournalSettings,
    ) -> Result<Self, JournalError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL would lose the last commits at a power cut, after their side effects.
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(10));
        let mut connection = SqliteConnection::connect_with(&options).await?;
        prepare(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.read_only(true));
        Ok(Self {
            writer: Writer::start(connection),
            readers,
            sealer,
            settings,
        })
    }

    /// Closes the file once all is written that was asked for; later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the tables of a new file. A file of another version is left alone.
async fn prepare(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let version = "SELECT user_version FROM pragma_user_version";
    let tables = "SELECT count(*) FROM sqlite_schema";
    let version: i64 = sqlx::query_scalar(version)
        .fetch_one(&mut *connection)
        .await?;
    let tables: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut *connection)
        .await?;
    match (version, tables) {
        (VERSION, _) => {
            // What a crash kept from being emptied may hold destroyed keys.
            writer::empty_log(connection).await?;
            Ok(())
        }
        (0, 0) => Ok(sqlx::raw_sql(SCHEMA).execute(connection).await.map(drop)?),
        (other, _) => Err(JournalError::Version(other)),
    }
}

/// Others on the machine have no business in here, sealed keys or not.
fn make_private(path: &Path) -> Result<(), JournalError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(JournalError::File)
}

/// The journal cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made or opened.
    #[error("the journal cannot be opened: {0}")]
    File(std::io::Error),
    /// SQLite failed.
    #[error("the journal cannot be read or written: {0}")]
    Database(#[from] sqlx::Error),
    /// The file is from another version of this program.
    #[error("the journal is of version {0}, and this program works with version {VERSION}")]
    Version(i64),
    /// The journal was closed, or what was written at the same time failed.
    #[error("the journal could not write this down")]
    NotWritten,
    /// What the file says makes no sense: damage.
    #[error("the journal has an entry that cannot be read: {0}")]
    Damaged(String),
    /// A sealed key does not open: another sealing key, or damage.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// No such takeover was claimed.
    #[error("no takeover of `{0}` is in the journal")]
    Unknown(HandoverId),
    /// Another handover of the same meter is not finished.
    #[error("another takeover of the same meter is under way")]
    MeterBusy,
    /// Somebody else works on this meter now.
    #[error("the lease of the meter was lost")]
    LeaseLost,
}

impl From<serde_json::Error> for JournalError {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<InvalidId> for JournalError {
    fn from(error: InvalidId) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Connections that read at a time, beside the one that writes.
const READERS: u32 = 4;
const VERSION: i64 = 3;

/// `state`, `stopped` and `wait_until` repeat what `progress` says, for queries; `outcome` and `reason` say how the last
/// run ended. No secret is outside `key_sets` and `papers`, where it is sealed.
const SCHEMA: &str = "
BEGIN;
CREATE TABLE takeovers (
    handover    TEXT PRIMARY KEY,
    meter       TEXT NOT NULL,
    job         TEXT NOT NULL,
    network     TEXT NOT NULL,
    run         BLOB,
    state       TEXT NOT NULL,
    stopped     TEXT,
    wait_until  INTEGER NOT NULL,
    outcome     TEXT,
    reason      TEXT,
    progress    TEXT NOT NULL,
    lease_owner BLOB,
    lease_until INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX one_takeover_a_meter ON takeovers (meter) WHERE state <> 'reported';
CREATE INDEX takeovers_by_network ON takeovers (network, handover);
CREATE TABLE key_sets (
    handover TEXT NOT NULL REFERENCES takeovers (handover),
    number   INTEGER NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (handover, number)
) STRICT;
CREATE TABLE papers (
    handover TEXT PRIMARY KEY REFERENCES takeovers (handover),
    sealed   BLOB NOT NULL
) STRICT;
CREATE TABLE counters (
    key    TEXT NOT NULL,
    title  TEXT NOT NULL,
    high   INTEGER NOT NULL,
    proven INTEGER NOT NULL,
    PRIMARY KEY (key, title)
) STRICT;
PRAGMA user_version = 3;
COMMIT;
";

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use crate::dlms::SystemTitle;
    use crate::dlms::keys::Suite;
    use crate::meter::link::{CounterBlock, Counters as _, CountersError, DeviceId};
    use crate::meter::released::{Belief, ReleasedMeter, Way};
    use crate::meter::secrets::KeySet;
    use crate::types::{Digest, Secret, SystemRandom, Timestamp};

    use super::*;

    struct OpenSealer;

    impl Sealer for OpenSealer {
        fn seal(&self, _: &[u8], plain: &[u8]) -> Vec<u8> {
            plain.to_vec()
        }

        fn open(&self, _: &[u8], sealed: &[u8]) -> Result<Secret, SealError> {
            Ok(Secret::new(sealed.to_vec()))
        }
    }

    async fn journal(folder: &tempfile::TempDir) -> Journal {
        let path = folder.path().join("journal.db");
        let settings = JournalSettings {
            max_counter_jump: 1000,
            ..JournalSettings::default()
        };
        Journal::open(&path, Arc::new(OpenSealer), settings)
            .await
            .unwrap()
    }

    const TITLE: SystemTitle = SystemTitle(*b"COS00001");

    #[tokio::test]
    async fn no_counter_is_handed_out_twice_not_even_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let key = Digest::of(b"key");
        let mut used = 0;
        for _ in 0..3 {
            let journal = journal(&folder).await;
            for _ in 0..3 {
                let block = journal.reserve(key, TITLE, 0).await.unwrap();
                let expected = CounterBlock {
                    first: used + 1,
                    last: used + 32,
                    is_far: false,
                };
                assert_eq!(block, expected);
                used = block.last;
            }
            journal.close().await;
        }
        let journal = journal(&folder).await;
        let other = SystemTitle(*b"COS00002");
        assert_eq!(journal.reserve(key, other, 0).await.unwrap().first, 1);
        assert_eq!(
            journal
                .reserve(Digest::of(b"other"), TITLE, 0)
                .await
                .unwrap()
                .first,
            1
        );
    }

    #[tokio::test]
    async fn counters_go_up_with_the_meter_but_not_by_leaps() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let key = Digest::of(b"key");
        assert_eq!(journal.reserve(key, TITLE, 500).await.unwrap().first, 501);
        assert_eq!(journal.reserve(key, TITLE, 3).await.unwrap().first, 533);
        let jump = CountersError::Jump {
            above: u32::MAX,
            proven: 0,
        };
        assert_eq!(journal.reserve(key, TITLE, u32::MAX).await, Err(jump));
        assert_eq!(journal.reserve(key, TITLE, 0).await.unwrap().first, 565);
    }

    #[tokio::test]
    async fn small_lies_about_a_counter_do_not_add_up_and_proof_moves_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let key = Digest::of(b"key");
        let far = journal.reserve(key, TITLE, 900).await.unwrap();
        assert!(far.is_far);
        let jump = CountersError::Jump {
            above: 1001,
            proven: 0,
        };
        assert_eq!(journal.reserve(key, TITLE, 1001).await, Err(jump));
        journal.prove(key, TITLE, far.first).await.unwrap();
        let next = journal.reserve(key, TITLE, 1001).await.unwrap();
        assert_eq!((next.first, next.is_far), (1002, false));
        // Our own use of counters is not for the meter to bound.
        while journal.reserve(key, TITLE, 0).await.unwrap().first < 4000 {}
        let jump = CountersError::Jump {
            above: 9000,
            proven: 901,
        };
        assert_eq!(journal.reserve(key, TITLE, 9000).await, Err(jump));
    }

    #[tokio::test]
    async fn a_lease_that_a_clock_left_in_the_future_does_not_last_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let meter = released();
        let today = Timestamp::from_seconds(1_790_000_000);
        let next_year = today.after(Duration::from_secs(365 * 86_400));
        journal.claim(&meter, today).await.unwrap();
        let lease = |now| journal.lease(meter.handover, now, &SystemRandom);
        let lost = lease(next_year).await.unwrap().unwrap();
        assert!(lease(next_year).await.unwrap().is_none());
        let taken = lease(today).await.unwrap().unwrap();
        assert!(lease(today).await.unwrap().is_none());
        let progress = journal.record(meter.handover).await.unwrap().progress;
        let late = journal.save(&lost, &progress, today).await;
        assert!(matches!(late, Err(JournalError::LeaseLost)));
        journal.save(&taken, &progress, today).await.unwrap();
    }

    fn released() -> ReleasedMeter {
        ReleasedMeter {
            handover: HandoverId::random(&SystemRandom),
            supply_point: "2499999999991".parse().unwrap(),
            serial: "A012345678".parse().unwrap(),
            ways: vec![Way {
                generation: 1,
                address_of: None,
                belief: Belief::Due,
                address: ([127, 0, 0, 1], 4059).into(),
                profile: "dlms".to_owned(),
                device: DeviceId::SystemTitle(TITLE),
                device_name: None,
                firmware: None,
                candidates: vec![KeySet::random(Suite::Zero, &SystemRandom).into()],
            }],
            supply_start: None,
            closing_read: None,
            repoint: None,
        }
    }

    #[tokio::test]
    async fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let _journal = journal(&folder).await;
        let metadata = std::fs::metadata(folder.path().join("journal.db")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    async fn add(journal: &Journal, key: &'static str, fails: bool) -> Result<(), JournalError> {
        let added = journal.writer.write(move |batch| {
            async move {
                sqlx::query(
                    "INSERT INTO counters (key, title, high, proven) VALUES ($1, '', 1, 0)",
                )
                .bind(key)
                .execute(&mut batch.connection)
                .await?;
                match fails {
                    false => Ok(()),
                    true => Err(JournalError::Damaged("half-way".to_owned())),
                }
            }
            .boxed()
        });
        added.await
    }

    #[tokio::test]
    async fn work_that_fails_half_way_leaves_nothing_and_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        // Queued together, so they are one batch.
        let (first, torn, last) = tokio::join!(
            add(&journal, "a", false),
            add(&journal, "b", true),
            add(&journal, "c", false)
        );
        assert!(matches!(torn, Err(JournalError::Damaged(_))), "{torn:?}");
        for other in [first, last] {
            assert!(matches!(other, Err(JournalError::NotWritten)), "{other:?}");
        }
        let rows = "SELECT count(*) FROM counters";
        let count: i64 = sqlx::query_scalar(rows)
            .fetch_one(&journal.readers)
            .await
            .unwrap();
        assert_eq!(count, 0);
        add(&journal, "a", false).await.unwrap();
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_done_before_the_journal_closes() {
        let folder = tempfile::tempdir().unwrap();
        let first = journal(&folder).await;
        let mut work = Box::pin(add(&first, "a", false));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        first.close().await;
        assert!(matches!(
            add(&first, "b", false).await,
            Err(JournalError::NotWritten)
        ));
        let again = journal(&folder).await;
        let key: String = sqlx::query_scalar("SELECT key FROM counters")
            .fetch_one(&again.readers)
            .await
            .unwrap();
        assert_eq!(key, "a");
    }

    #[tokio::test]
    async fn a_journal_of_another_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        let tables = "CREATE TABLE takeovers (handover TEXT)";
        sqlx::raw_sql(tables).execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        let settings = JournalSettings::default();
        let opened = Journal::open(&path, Arc::new(OpenSealer), settings).await;
        assert!(matches!(opened.err(), Some(JournalError::Version(0))));
    }
}
