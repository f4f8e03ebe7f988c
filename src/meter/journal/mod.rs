//! What is known of each takeover, durable before it matters: SQLite, one file, on the gaining supplier's side.
//!
//! Each step is committed, with an fsync, before its side effect; so whatever a crash interrupts, the journal already
//! says what the meter may have been told. Keys are sealed by the caller's [`Sealer`] before they reach the file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use lease::Lease;
pub use progress::{Held, Pair, Progress, Round, State};
pub use rows::{Claim, Record, Status};
pub use seal::{SealError, Sealer};

use crate::types::{HandoverId, InvalidId};

mod counters;
mod lease;
mod progress;
mod rows;
mod seal;

/// The journal of one head end. Clones share the file.
#[derive(Clone)]
pub struct Journal {
    pool: SqlitePool,
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
        // One connection: SQLite has one writer anyway, and in turn is faster than in contention.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(60))
            .connect_with(options)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self {
            pool,
            sealer,
            settings,
        })
    }

    /// Closes the file; later calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
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
    /// What the file says makes no sense: another version, or damage.
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

/// `state`, `stopped` and `wait_until` repeat what `progress` says, for queries. No secret is outside `key_sets`.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS takeovers (
    handover    TEXT PRIMARY KEY,
    meter       TEXT NOT NULL,
    job         TEXT NOT NULL,
    state       TEXT NOT NULL,
    stopped     TEXT,
    wait_until  INTEGER NOT NULL,
    progress    TEXT NOT NULL,
    lease_owner BLOB,
    lease_until INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS one_takeover_a_meter ON takeovers (meter) WHERE state <> 'reported';
CREATE TABLE IF NOT EXISTS key_sets (
    handover TEXT NOT NULL REFERENCES takeovers (handover),
    number   INTEGER NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (handover, number)
) STRICT;
CREATE TABLE IF NOT EXISTS counters (
    key    TEXT NOT NULL,
    title  TEXT NOT NULL,
    high   INTEGER NOT NULL,
    proven INTEGER NOT NULL,
    PRIMARY KEY (key, title)
) STRICT;
";

#[cfg(test)]
mod tests {
    use crate::dlms::SystemTitle;
    use crate::dlms::keys::Suite;
    use crate::meter::link::{CounterBlock, Counters as _, CountersError, DeviceId};
    use crate::meter::released::ReleasedMeter;
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
            address: ([127, 0, 0, 1], 4059).into(),
            profile: "dlms".to_owned(),
            device: DeviceId::SystemTitle(TITLE),
            device_name: None,
            firmware: None,
            supply_start: None,
            candidates: vec![KeySet::random(Suite::Zero, &SystemRandom).into()],
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
}
