//! `db`: backing the database up while the service runs, checking it, putting a backup back.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::exit::{Exit, Failure};
use super::files;
use super::output::{Output, Row};
use super::recover::offline;
use super::settings::Settings;
use super::sole;
use crate::custody::Custody;
use crate::service::{Adopt, adopt};
use crate::store::DatabaseFile;

/// Backs the database up, checks it, puts a backup back, completes its log, accepts it without its anchor.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Copy the database, as of one instant, while the service runs.
    #[command(
        after_help = "Examples:\n  cos-escrow db backup --config escrow.toml --to escrow-2025-10-19.db"
    )]
    Backup {
        /// The service's configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a backup in the place of the database of a stopped service.
    #[command(
        after_help = "The service then finds that it is behind its anchor and starts read-only; \
                            `db recover` is the way out.\n\n\
                            Examples:\n  cos-escrow db restore --config escrow.toml --from escrow-2025-10-19.db --yes"
    )]
    Restore {
        /// The service's configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
        /// The backup.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Replace the database that is there.
        #[arg(long)]
        yes: bool,
    },
    /// Accept the database of a stopped service as it stands, because its anchor was lost.
    #[command(
        after_help = "Without its anchor the service starts read-only: nothing shows that the database is not an old \
                            one.\nCompare size and root with an auditor's checkpoint first; with a mirror that has \
                            more, `db recover` is the way.\n\n\
                            Examples:\n  cos-escrow db anchor --config escrow.toml --yes"
    )]
    Anchor {
        /// The service's configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
        /// The database is the newest there is.
        #[arg(long)]
        yes: bool,
        /// All entries are lost for good: the log begins anew under its old key, which everybody who has seen it takes
        /// for a fork.
        #[arg(long, requires = "yes")]
        empty: bool,
    },
    /// Put back what a restored database has lost of its log, from a copy.
    Recover(super::recover::Arguments),
    /// Ask the database whether it is sound.
    #[command(after_help = "Examples:\n  cos-escrow db check --config escrow.toml")]
    Check {
        /// The service's configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
    },
}

/// What was done, and what goes with it.
#[derive(Debug, serde::Serialize)]
struct Done {
    database: PathBuf,
    log_size: u64,
    log_root: String,
    keys: PathBuf,
    /// Under which its data keys are wrapped: without these of the keys it opens nothing.
    epochs: Vec<u32>,
    note: &'static str,
}

impl Row for Done {
    const COLUMNS: &'static [&'static str] =
        &["database", "log_size", "log_root", "keys", "epochs", "note"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.database.display().to_string(),
            self.log_size.to_string(),
            self.log_root.clone(),
            self.keys.display().to_string(),
            listed(&self.epochs),
            self.note.to_owned(),
        ]
    }
}

/// Runs a `db` command.
pub(super) async fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Backup { config, to } => {
            let settings = Settings::load(config)?;
            if to.exists() {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("`{}` is there already", to.display()),
                ));
            }
            let mut database = open(&settings.store).await?;
            let head = database.head().await.map_err(Failure::failed)?;
            if head.size == 0 {
                let message = format!("`{}` has no entry yet", settings.store.display());
                return Err(Failure::new(Exit::Refused, message)
                    .hint("is `store` the database of the running service?"));
            }
            database.backup(to).await.map_err(Failure::failed)?;
            database.close().await.map_err(Failure::failed)?;
            let copy = Settings {
                store: to.clone(),
                ..settings
            };
            describe(&copy, BACKUP, output).await
        }
        Command::Restore { config, from, yes } => {
            let settings = Settings::load(config)?;
            if settings.store.exists() && !yes {
                return Err(Failure::new(Exit::Usage, "the database would be replaced")
                    .hint("stop the service, and say `--yes`"));
            }
            let _sole = sole::writer_of(&settings.store)?;
            let backup = File::open(from).map_err(|error| files::at(from, &error))?;
            // What is no backup replaces nothing.
            let mut looked_at = open(from).await?;
            looked_at.head().await.map_err(|error| {
                Failure::failed(format!("`{}` is no backup: {error}", from.display()))
            })?;
            looked_at.close().await.map_err(Failure::failed)?;
            replace(&settings.store, backup).map_err(Failure::failed)?;
            describe(&settings, RESTORED, output).await
        }
        Command::Anchor { config, yes, empty } => {
            let settings = Settings::load(config)?;
            if !yes {
                describe(&settings, UNPROMISED, output).await?;
                return Err(Failure::new(
                    Exit::Usage,
                    "the database would be accepted as it stands",
                )
                .hint("compare it with an auditor's checkpoint, and say `--yes`"));
            }
            let _sole = sole::writer_of(&settings.store)?;
            let said = match empty {
                true => Adopt::Nothing,
                false => Adopt::Log,
            };
            adopt(offline(&settings).await?, said).await?;
            let note = match empty {
                true => BEGUN_ANEW,
                false => ADOPTED,
            };
            describe(&settings, note, output).await
        }
        Command::Recover(arguments) => super::recover::run(arguments, output).await,
        Command::Check { config } => {
            let settings = Settings::load(config)?;
            let mut database = open(&settings.store).await?;
            let findings = database.check().await.map_err(Failure::failed)?;
            database.close().await.map_err(Failure::failed)?;
            match findings.first() {
                None => describe(&settings, SOUND, output).await,
                Some(first) => Err(Failure::new(Exit::Unverified, first)),
            }
        }
    }
}

/// Puts a copy of a backup in the place of a database, durably.
fn replace(database: &Path, mut backup: File) -> std::io::Result<()> {
    let folder = database.parent().unwrap_or(Path::new("."));
    let mut copy = tempfile::NamedTempFile::new_in(folder)?;
    std::io::copy(&mut backup, &mut copy)?;
    copy.as_file().sync_all()?;
    // ORDER: a crash before the last step leaves the former database without its newest changes, never the backup
    // with changes that are not its own.
    for leftover in ["-wal", "-shm"] {
        let mut file = database.as_os_str().to_owned();
        file.push(leftover);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    copy.persist(database)?;
    File::open(folder)?.sync_all()
}

async fn open(database: &Path) -> Result<DatabaseFile, Failure> {
    database
        .metadata()
        .map_err(|error| files::at(database, &error))?;
    DatabaseFile::open(database).await.map_err(Failure::failed)
}

async fn describe(settings: &Settings, note: &'static str, output: &Output) -> Result<(), Failure> {
    let mut database = open(&settings.store).await?;
    let head = database.head().await.map_err(Failure::failed)?;
    let epochs = database.epochs().await.map_err(Failure::failed)?;
    database.close().await.map_err(Failure::failed)?;
    // A folder that cannot be read has none of them.
    let there = Custody::epochs_in(&settings.keys).unwrap_or_default();
    let missing: Vec<_> = epochs
        .iter()
        .filter(|epoch| !there.contains(epoch))
        .collect();
    if !missing.is_empty() {
        output.note(format_args!(
            "`{}` lacks epochs {}: what is wrapped under them does not open",
            settings.keys.display(),
            listed(&missing)
        ));
    }
    output.row(&Done {
        database: settings.store.clone(),
        log_size: head.size,
        log_root: head.root.to_string(),
        keys: settings.keys.clone(),
        epochs,
        note,
    })
}

fn listed(epochs: &[impl ToString]) -> String {
    let epochs: Vec<_> = epochs.iter().map(ToString::to_string).collect();
    epochs.join(" ")
}

const BACKUP: &str =
    "opens only with the keys folder as of this time, these epochs included; keep that elsewhere";
const RESTORED: &str = "the keys folder must hold these epochs, under which the backup is wrapped";
const UNPROMISED: &str = "is this what auditors have seen last";
const ADOPTED: &str = "accepted as it stands; the newest entry says so";
const BEGUN_ANEW: &str = "the log begins anew; tell everybody who has seen the old one";
const SOUND: &str = "sound";
