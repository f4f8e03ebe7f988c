//! A head end's desk: its journal, and the key that seals what is in it. The two are all that a takeover needs to go on.
//!
//! The file of the key:
//!
//! ```text
//! cos-escrow-journal-key 1
//! key <32 bytes, unpadded base64url>
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure};
use crate::cli::files::{self, NewFile};
use crate::cli::takeover::JournalKey;
use crate::lock::{Lock, LockError};
use crate::meter::journal::{Journal, JournalError, JournalSettings, Query};
use crate::types::{Secret, SystemRandom};

/// Where the journal and its key are.
#[derive(clap::Args, Clone, Debug)]
pub struct Files {
    /// The journal of takeovers.
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// The key that seals the meters' keys in the journal; keep it apart from the journal's backups.
    #[arg(long, value_name = "FILE")]
    pub journal_key: PathBuf,
}

/// An open journal.
pub struct Desk {
    /// The journal.
    pub journal: Journal,
    /// Keeps others from working with the journal; nothing for who only looks.
    _lock: Option<Lock>,
}

impl Desk {
    /// Opens a desk to work at; journal and key are made when neither is there.
    pub async fn open_or_create(
        arguments: &Files,
        settings: JournalSettings,
    ) -> Result<Self, Failure> {
        let lock = lock(&arguments.journal)?;
        let is_new = fs::metadata(&arguments.journal).map_or(0, |file| file.len()) == 0;
        if is_new && !arguments.journal_key.exists() {
            // ORDER: the key is on the disk before anything is sealed with it.
            write_key(
                &arguments.journal_key,
                &JournalKey::random(&SystemRandom).to_secret(),
            )?;
        }
        Self::open_locked(arguments, settings, lock).await
    }

    /// Opens a desk that is there, to work at.
    pub async fn open(arguments: &Files, settings: JournalSettings) -> Result<Self, Failure> {
        is_there(arguments)?;
        let lock = lock(&arguments.journal)?;
        Self::open_locked(arguments, settings, lock).await
    }

    /// Opens a desk that is there, to look at what somebody else may work with.
    pub async fn look(arguments: &Files) -> Result<Self, Failure> {
        is_there(arguments)?;
        Ok(Self {
            journal: open_files(arguments, JournalSettings::default()).await?,
            _lock: None,
        })
    }

    async fn open_locked(
        arguments: &Files,
        settings: JournalSettings,
        lock: Lock,
    ) -> Result<Self, Failure> {
        let journal = open_files(arguments, settings).await?;
        // Nobody else works here, so who held a lease has died.
        journal.end_all_leases().await?;
        Ok(Self {
            journal,
            _lock: Some(lock),
        })
    }
}

fn is_there(arguments: &Files) -> Result<(), Failure> {
    if arguments.journal.exists() {
        return Ok(());
    }
    let missing = format!("there is no journal `{}`", arguments.journal.display());
    let failure = Failure::new(Exit::Usage, missing);
    Err(failure.hint("`cos-escrow meter takeover` makes one"))
}

async fn open_files(arguments: &Files, settings: JournalSettings) -> Result<Journal, Failure> {
    let key = JournalKey::from_secret(&read_key(&arguments.journal_key)?)?;
    let journal = Journal::open(&arguments.journal, Arc::new(key), settings).await?;
    // Another key would be found out only half-way through the night.
    let first = Query {
        limit: 1,
        ..Query::default()
    };
    if let Some(first) = journal.list(&first).await?.first() {
        journal.record(first.handover).await?;
    }
    Ok(journal)
}

/// Keeps other processes from working with a journal.
fn lock(journal: &Path) -> Result<Lock, Failure> {
    Lock::beside(journal).map_err(|error| match error {
        LockError::Taken => {
            let message = format!("another process works with `{}`", journal.display());
            Failure::new(Exit::TryAgain, message)
                .hint("`cos-escrow meter status` shows how far it is")
        }
        LockError::File { path, source } => files::at(&path, &source),
    })
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Sealed(error) => Self::new(Exit::Unverified, error)
                .hint("is this the key that the journal was made with?"),
            JournalError::Unknown(_) => Self::new(Exit::NotFound, error),
            JournalError::MeterBusy => Self::new(Exit::Refused, error)
                .hint("finish it first: `cos-escrow meter status` shows it"),
            JournalError::LeaseLost => Self::new(Exit::TryAgain, error),
            error => Self::failed(error),
        }
    }
}

fn write_key(path: &Path, key: &Secret) -> Result<(), Failure> {
    let key = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(key.expose()));
    let text = Zeroizing::new(format!("{FIRST_LINE}\nkey {}\n", *key));
    NewFile::create(path)?.write(text.as_bytes())
}

fn read_key(path: &Path) -> Result<Secret, Failure> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| files::at(path, &error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let open = format!("`{shown}` can be read by others than its owner");
        return Err(Failure::new(Exit::Refused, open).hint(format!("chmod 600 {shown}")));
    }
    parse_key(&files::read(path)?).ok_or_else(|| {
        let wrong = format!("`{shown}` holds no key of a journal");
        Failure::new(Exit::Unverified, wrong)
    })
}

fn parse_key(text: &[u8]) -> Option<Secret> {
    let mut lines = str::from_utf8(text).ok()?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let key = lines.next()?.strip_prefix("key ")?;
    let key = Secret::new(BASE64_URL_SAFE_NO_PAD.decode(key).ok()?);
    (lines.next().is_none() && key.expose().len() == KEY_BYTES).then_some(key)
}

const FIRST_LINE: &str = "cos-escrow-journal-key 1";
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(folder: &Path) -> Files {
        Files {
            journal: folder.join("night.db"),
            journal_key: folder.join("journal.key"),
        }
    }

    async fn opened(arguments: &Files) -> Result<(), Exit> {
        let desk = Desk::open_or_create(arguments, JournalSettings::default()).await;
        match desk {
            Ok(desk) => {
                desk.journal.close().await;
                Ok(())
            }
            Err(failure) => Err(failure.exit),
        }
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        opened(&arguments).await.unwrap();
        let made = fs::read(&arguments.journal_key).unwrap();
        let mode = fs::metadata(&arguments.journal_key).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        opened(&arguments).await.unwrap();
        assert_eq!(fs::read(&arguments.journal_key).unwrap(), made);
    }

    #[tokio::test]
    async fn one_process_works_with_a_journal_while_others_may_look() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        let settings = JournalSettings::default();
        let desk = Desk::open_or_create(&arguments, settings).await.unwrap();
        assert_eq!(opened(&arguments).await, Err(Exit::TryAgain));
        let looked = Desk::look(&arguments).await.unwrap();
        assert!(
            looked
                .journal
                .list(&Query::default())
                .await
                .unwrap()
                .is_empty()
        );
        desk.journal.close().await;
        drop(desk);
        opened(&arguments).await.unwrap();
    }

    #[tokio::test]
    async fn a_journal_whose_key_is_gone_gets_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        opened(&arguments).await.unwrap();
        fs::remove_file(&arguments.journal_key).unwrap();
        assert_eq!(opened(&arguments).await, Err(Exit::Usage));
        assert!(!arguments.journal_key.exists());
    }

    #[tokio::test]
    async fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        opened(&arguments).await.unwrap();
        let open = fs::Permissions::from_mode(0o640);
        fs::set_permissions(&arguments.journal_key, open).unwrap();
        assert_eq!(opened(&arguments).await, Err(Exit::Refused));
    }

    #[test]
    fn a_key_file_that_was_changed_is_refused() {
        let good = format!(
            "{FIRST_LINE}\nkey {}\n",
            BASE64_URL_SAFE_NO_PAD.encode([7; 32])
        );
        assert!(parse_key(good.as_bytes()).is_some());
        for bad in [
            good.replace("key 1", "key 2"),
            good.replace("key B", "key "),
            good.clone() + "more\n",
            String::new(),
        ] {
            assert!(parse_key(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
