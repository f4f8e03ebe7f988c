//! What a witness keeps, in a folder:
//!
//! ```text
//! witness.key                 its Ed25519 key, PKCS#8, for its owner alone
//! witness.vkey                its verifier key, to be handed out
//! logs/<sha256 of origin>/
//!   keys                      the verifier keys that are trusted for this log, one a line
//!   checkpoint                the newest checkpoint that it has cosigned, with its cosignature
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::client::origin_hash;
use crate::identity::pem;
use crate::lock::{Lock, LockError};
use crate::tlog::{
    AddCheckpoint, Checkpoint, CosignerKey, KeyKind, KeyName, Note, TreeHead, VerifierKey,
    WitnessRefusal,
};
use crate::types::{Secret, Timestamp};

/// A witness at work. One process at a time has a folder.
pub struct Witness {
    folder: PathBuf,
    key: CosignerKey,
    /// Held while a request is checked and its checkpoint kept, so that no older one replaces a newer.
    keeping: Mutex<()>,
    _lock: Lock,
}

/// Why a request is not answered with a cosignature.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The body is not a request: 400.
    #[error("the body is not in the form of C2SP tlog-witness")]
    Form,
    /// No log of this origin is known: 404.
    #[error("no log of this origin is known here")]
    UnknownLog,
    /// The rule of the protocol.
    #[error(transparent)]
    Rule(#[from] WitnessRefusal),
    /// What is kept cannot be read or written: nothing is cosigned. 500.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{path}` does not hold {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Another process has the folder.
    #[error("another process is this witness already")]
    InUse,
    /// The key is not one that a log signs with.
    #[error("the key is not the Ed25519 key of a log")]
    NotALogKey,
}

impl Witness {
    /// Makes the folder of a new witness; refuses one that has a key already.
    pub fn create(folder: &Path, name: KeyName) -> Result<VerifierKey, StateError> {
        private_folder(&folder.join("logs"))?;
        let document =
            ring::signature::Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new());
        let document = document.map_err(|_| at(folder)(io::Error::other("no randomness")))?;
        let document = Secret::new(document.as_ref().to_vec());
        let key = CosignerKey::from_pkcs8(name, &document);
        let vkey = key.expect("it was just made").verifier().clone();
        let path = folder.join("witness.key");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&path).map_err(at(&path))?;
        let pem = pem::of_key(&document);
        file.write_all(pem.expose())
            .and_then(|()| file.sync_all())
            .map_err(at(&path))?;
        replace(&folder.join("witness.vkey"), &format!("{vkey}\n"))?;
        Ok(vkey)
    }

    /// Opens a folder and keeps others out of it.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let vkey_file = folder.join("witness.vkey");
        let vkey = fs::read_to_string(&vkey_file).map_err(at(&vkey_file))?;
        let vkey: VerifierKey = vkey
            .trim_end()
            .parse()
            .map_err(|_| damaged(&vkey_file, "a verifier key"))?;
        let key_file = folder.join("witness.key");
        let pem = Secret::new(fs::read(&key_file).map_err(at(&key_file))?);
        let key = pem::key(pem.expose())
            .ok()
            .and_then(|document| CosignerKey::from_pkcs8(vkey.name().clone(), &document).ok())
            .filter(|key| *key.verifier() == vkey)
            .ok_or_else(|| damaged(&key_file, "the key of `witness.vkey`"))?;
        let lock = Lock::of_folder(folder).map_err(|error| match error {
            LockError::Taken => StateError::InUse,
            LockError::File { path, source } => StateError::File { path, source },
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            key,
            keeping: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Whether the folder is one of a witness.
    pub fn check(folder: &Path) -> Result<(), StateError> {
        let path = folder.join("witness.vkey");
        fs::metadata(&path).map(drop).map_err(at(&path))
    }

    /// Trusts a key for the log of its name, beside the keys that are trusted for it already.
    pub fn add_log(folder: &Path, key: &VerifierKey) -> Result<(), StateError> {
        if key.kind() != KeyKind::Log {
            return Err(StateError::NotALogKey);
        }
        let log = folder.join("logs").join(origin_hash(key.name().as_str()));
        private_folder(&log)?;
        let mut keys = trusted_keys(&log)?.unwrap_or_default();
        if !keys.contains(key) {
            keys.push(key.clone());
        }
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        replace(&log.join("keys"), &lines)
    }

    /// The verifier key, to be handed out.
    pub fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    /// Cosigns the checkpoint of a request if it continues what was cosigned last; returns the signature lines.
    pub fn add_checkpoint(&self, body: &str, now: Timestamp) -> Result<String, Refused> {
        let request: AddCheckpoint = body.parse().map_err(|_| Refused::Form)?;
        let log = self.log(&origin_hash(request.origin()));
        let _one_at_a_time = self
            .keeping
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let keys = trusted_keys(&log)?.ok_or(Refused::UnknownLog)?;
        request.judge(&keys, self.latest_head(&log)?)?;
        let signature = self.key.cosign(request.checkpoint.text(), now);
        let mut kept = request.checkpoint.only(&keys);
        kept.add(signature.clone()).map_err(|_| Refused::Form)?;
        // ORDER: durable before the cosignature leaves. A crash in between leaves a head that the log has signed and
        // that continues the former; the log asks again.
        replace(&log.join("checkpoint"), &kept.to_string())?;
        Ok(format!("{signature}\n"))
    }

    /// The newest checkpoint that was cosigned of the log whose origin has this hash.
    pub fn latest(&self, hash: &str) -> Result<Option<String>, StateError> {
        let is_hash =
            hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match is_hash {
            true => Ok(self
                .latest_note(&self.log(hash))?
                .map(|note| note.to_string())),
            false => Ok(None),
        }
    }

    fn log(&self, hash: &str) -> PathBuf {
        self.folder.join("logs").join(hash)
    }

    fn latest_head(&self, log: &Path) -> Result<Option<TreeHead>, StateError> {
        let Some(note) = self.latest_note(log)? else {
            return Ok(None);
        };
        let says: Result<Checkpoint, _> = note.text().parse();
        let says = says.map_err(|_| damaged(&log.join("checkpoint"), "a checkpoint"))?;
        Ok(Some(says.head))
    }

    /// What is kept, if this witness has cosigned it: a file that somebody has changed is no state to go on from.
    fn latest_note(&self, log: &Path) -> Result<Option<Note>, StateError> {
        let path = log.join("checkpoint");
        let Some(text) = read_if_there(&path)? else {
            return Ok(None);
        };
        let note: Option<Note> = text.parse().ok();
        let own = std::slice::from_ref(self.key.verifier());
        note.filter(|note| note.verify(own).is_ok())
            .map(Some)
            .ok_or_else(|| damaged(&path, "a checkpoint that this witness has cosigned"))
    }
}

/// The keys that are trusted for a log; nothing for a log that is not known.
fn trusted_keys(log: &Path) -> Result<Option<Vec<VerifierKey>>, StateError> {
    let path = log.join("keys");
    let Some(text) = read_if_there(&path)? else {
        return Ok(None);
    };
    let keys = text.lines().map(str::parse).collect::<Result<_, _>>();
    keys.map(Some)
        .map_err(|_| damaged(&path, "verifier keys, one a line"))
}

fn read_if_there(path: &Path) -> Result<Option<String>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

fn private_folder(path: &Path) -> Result<(), StateError> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(0o700);
    folder.create(path).map_err(at(path))
}

/// Durably: after a crash the file holds all of the old text or all of the new.
fn replace(path: &Path, text: &str) -> Result<(), StateError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> StateError {
    move |source| StateError::File {
        path: path.to_owned(),
        source,
    }
}

fn damaged(path: &Path, what: &'static str) -> StateError {
    StateError::Damaged {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Frontier, LogKey, NoteError, leaf_hash};

    fn log_key(seed: u8) -> LogKey {
        let name = "escrow.example/log".parse().unwrap();
        LogKey::from_seed(name, &Secret::new(vec![seed; 32])).unwrap()
    }

    /// The first checkpoint of a log of this many entries.
    fn first(size: u8, key: &LogKey) -> String {
        let mut tree = Frontier::default();
        for leaf in 0..size {
            tree.append(leaf_hash(&[leaf]), |_, _| {});
        }
        format!("old 0\n\n{}", Checkpoint::sign(tree.head(), key))
    }

    fn witness(folder: &Path) -> Witness {
        Witness::create(folder, "witness.example/w".parse().unwrap()).unwrap();
        Witness::add_log(folder, log_key(7).verifier()).unwrap();
        Witness::open(folder).unwrap()
    }

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    #[test]
    fn what_was_cosigned_is_kept_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let witness = witness(folder.path());
        let request = first(3, &log_key(7));
        let line = witness.add_checkpoint(&request, NOW).unwrap();
        let hash = origin_hash("escrow.example/log");
        let shown = witness.latest(&hash).unwrap().unwrap();
        assert!(shown.ends_with(&line));
        let note: Note = shown.parse().unwrap();
        let known = [log_key(7).verifier().clone(), witness.verifier().clone()];
        assert_eq!(note.verify(&known).unwrap().len(), 2);
        drop(witness);

        let witness = Witness::open(folder.path()).unwrap();
        assert_eq!(witness.latest(&hash).unwrap(), Some(shown));
        let again = witness.add_checkpoint(&request, NOW);
        let Err(Refused::Rule(WitnessRefusal::Conflict(3))) = again else {
            panic!("{again:?}");
        };
    }

    #[test]
    fn only_logs_that_were_added_are_cosigned_and_shown() {
        let folder = tempfile::tempdir().unwrap();
        let witness = witness(folder.path());
        let other = LogKey::from_seed("other".parse().unwrap(), &Secret::new(vec![7; 32])).unwrap();
        let unknown = witness.add_checkpoint(&first(3, &other), NOW);
        assert!(matches!(unknown, Err(Refused::UnknownLog)));
        let forged = witness.add_checkpoint(&first(3, &log_key(8)), NOW);
        assert!(matches!(
            forged,
            Err(Refused::Rule(WitnessRefusal::Signature))
        ));
        assert!(matches!(
            witness.add_checkpoint("old", NOW),
            Err(Refused::Form)
        ));
        for hash in [
            "",
            "..",
            "../..",
            &origin_hash("other"),
            &origin_hash("escrow.example/log"),
        ] {
            assert_eq!(witness.latest(hash).unwrap(), None, "{hash}");
        }
        // A second key of the same log, as in a rotation, needs no restart.
        Witness::add_log(folder.path(), log_key(8).verifier()).unwrap();
        assert!(witness.add_checkpoint(&first(3, &log_key(8)), NOW).is_ok());
    }

    #[test]
    fn a_changed_state_is_never_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let witness = witness(folder.path());
        witness.add_checkpoint(&first(3, &log_key(7)), NOW).unwrap();
        let hash = origin_hash("escrow.example/log");
        let path = folder.path().join("logs").join(&hash).join("checkpoint");
        let good = fs::read_to_string(&path).unwrap();
        // The log's signature alone, a torn file, nothing at all in it.
        let own = good.trim_end().rfind('\n').unwrap();
        for bad in [&good[..=own], &good[..good.len() / 2], ""] {
            fs::write(&path, bad).unwrap();
            let refused = witness.add_checkpoint(&first(3, &log_key(7)), NOW);
            assert!(matches!(refused, Err(Refused::State(_))), "{bad:?}");
            assert!(witness.latest(&hash).is_err());
        }
    }

    #[test]
    fn a_folder_has_one_key_and_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let witness = witness(folder.path());
        assert!(Witness::create(folder.path(), "other".parse().unwrap()).is_err());
        assert!(matches!(
            Witness::open(folder.path()),
            Err(StateError::InUse)
        ));
        let cosigner = witness.verifier().clone();
        let not_a_log = Witness::add_log(folder.path(), &cosigner);
        assert!(matches!(not_a_log, Err(StateError::NotALogKey)));
        drop(witness);
        assert!(Witness::open(folder.path()).is_ok());
    }

    #[test]
    fn signatures_of_strangers_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let witness = witness(folder.path());
        let stranger = log_key(9).sign("anything\n");
        let request = format!("{}{stranger}\n", first(3, &log_key(7)));
        witness.add_checkpoint(&request, NOW).unwrap();
        let shown = witness.latest(&origin_hash("escrow.example/log")).unwrap();
        let note: Note = shown.unwrap().parse().unwrap();
        assert_eq!(note.signatures().len(), 2);
        let known = [log_key(9).verifier().clone()];
        assert_eq!(note.verify(&known), Err(NoteError::NotSigned));
    }
}
