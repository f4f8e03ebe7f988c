//! SQLite: one writer connection, readers from a pool, WAL with `synchronous=FULL`.
//!
//! `FULL` is not a matter of taste: with `NORMAL` a power cut loses commits that were acknowledged.

mod file;
mod load;
mod log;
mod lookup;
mod save;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;

pub use file::DatabaseFile;

use super::{Changes, Directory, Facts, Head, Needs, StoreError};

/// The store on one SQLite file.
pub struct Store {
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
    /// As last read; a transaction that finds another epoch reads it anew.
    directory: ArcSwap<Directory>,
    /// Whether the WAL may still hold what was erased.
    erased: AtomicBool,
    path: PathBuf,
}

/// Where the store is.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file; made if it is not there.
    pub path: PathBuf,
    /// How many connections read at the same time.
    pub readers: u32,
}

impl Store {
    /// Opens the database, bringing its schema up to date.
    pub async fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        let connect = connect_options(&options.path);
        private_file(&options.path)?;
        let mut connection = connect.clone().connect().await?;
        MIGRATIONS.run(&mut connection).await?;
        log::ensure_head(&mut connection).await?;
        let directory = Arc::new(load::directory(&mut connection).await?);
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .connect_with(connect.read_only(true))
            .await?;
        Ok(Self {
            writer: Mutex::new(connection),
            readers,
            directory: ArcSwap::new(directory),
            erased: AtomicBool::new(true),
            path: options.path.clone(),
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Decides a batch and commits what it changes.
    ///
    /// `decide` runs inside the transaction, over facts that nobody else can change before the commit. It gets them by
    /// value and returns the changes together with whatever the caller wants to keep; that is handed out only after
    /// the commit is known to have happened.
    pub async fn commit_batch<T: Send>(
        &self,
        needs: &Needs,
        decide: impl FnOnce(Facts) -> (Changes, T) + Send,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let facts = load::facts(&mut transaction, needs, self.directory.load_full()).await?;
        self.directory.store(Arc::clone(&facts.directory));
        let before = facts.head.clone();
        let (changes, kept) = decide(facts);
        if changes.is_empty(&before) {
            transaction.rollback().await?;
            return Ok(kept);
        }
        let erases = !changes.erased.is_empty();
        save::changes(&mut transaction, changes).await?;
        transaction.commit().await?;
        self.erased.fetch_or(erases, Ordering::Relaxed);
        Ok(kept)
    }

    /// Empties the WAL if it may still hold what was erased. While somebody reads an older state it cannot; then the
    /// next call does it. Returns whether nothing is left.
    pub async fn empty_wal(&self) -> Result<bool, StoreError> {
        if !self.erased.swap(false, Ordering::Relaxed) {
            return Ok(true);
        }
        // A connection of its own, which does not keep writers waiting for a slow reader.
        let options = connect_options(&self.path).busy_timeout(Duration::from_millis(50));
        let emptied = async {
            let mut connection = options.connect().await?;
            let busy = sqlx::query_scalar::<_, i64>("PRAGMA wal_checkpoint(TRUNCATE)");
            let busy = busy.fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(busy == 0)
        };
        let emptied = emptied.await;
        if !matches!(emptied, Ok(true)) {
            self.erased.store(true, Ordering::Relaxed);
        }
        emptied
    }

    /// What a batch with these needs would see now. For deciding in advance; the transaction decides again.
    pub async fn facts(&self, needs: &Needs) -> Result<Facts, StoreError> {
        let mut transaction = self.readers.begin().await?;
        let known = self.directory.load_full();
        let facts = load::facts(&mut transaction, needs, Arc::clone(&known)).await?;
        if facts.directory.epoch > known.epoch {
            self.directory.store(Arc::clone(&facts.directory));
        }
        Ok(facts)
    }

    /// The directory as it stands. Reads one number unless the directory has changed.
    pub async fn directory(&self) -> Result<Arc<Directory>, StoreError> {
        let known = self.directory.load_full();
        let epoch = log::directory_epoch(&mut *self.readers.acquire().await?).await?;
        if known.epoch == epoch {
            return Ok(known);
        }
        Ok(self.facts(&Needs::default()).await?.directory)
    }

    /// The end of the log as committed.
    pub async fn head(&self) -> Result<Head, StoreError> {
        log::head(&mut *self.readers.acquire().await?).await
    }

    /// Copies the database, as of one instant, into a new file while the service runs.
    pub async fn backup(&self, target: &Path) -> Result<(), StoreError> {
        let mut file = DatabaseFile::open(&self.path).await?;
        file.backup(target).await?;
        file.close().await
    }

    /// Does to the database what no use case does, as whoever has the file could. Returns how many rows it touched.
    #[cfg(test)]
    pub async fn execute(&self, statement: &'static str) -> Result<u64, StoreError> {
        let mut writer = self.writer.lock().await;
        let done = sqlx::query(statement).execute(&mut *writer).await?;
        Ok(done.rows_affected())
    }

    /// Closes the file: readers first, so that the last one out checkpoints the WAL.
    pub async fn close(self) -> Result<(), StoreError> {
        self.readers.close().await;
        self.writer.into_inner().close().await?;
        Ok(())
    }
}

/// Makes an empty file that only its owner may read, if there is none: SQLite takes it for an empty database, and makes
/// the files beside it with the same mode. Who supplies which point is nobody else's business.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop)
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    careful(SqliteConnectOptions::new().filename(path))
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("secure_delete", "ON")
}

/// Of whatever is in the file nothing is believed.
fn careful(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .busy_timeout(Duration::from_secs(5))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
}

static MIGRATIONS: std::sync::LazyLock<sqlx::migrate::Migrator> = std::sync::LazyLock::new(|| {
    use sqlx::migrate::{Migration, MigrationType, Migrator};
    Migrator::with_migrations(vec![Migration::new(
        1,
        "initial".into(),
        MigrationType::Simple,
        sqlx::SqlStr::from_static(include_str!("../../../migrations/sqlite/0001_initial.sql")),
        false,
    )])
});
