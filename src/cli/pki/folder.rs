//! The folder of an authority: certificates, keys, lists, and an index of everything that it issued.
//!
//! ```text
//! root.pem  root.key  issuing.pem  issuing.key   the two authorities; the keys are for the owner alone
//! server.pem  server.key                         the first leaf of the service
//! lists.pem                                      the revocation lists, replaced in one step
//! index.jsonl                                    issued and revoked, one JSON object a line, only ever appended to
//! profiles/*.toml                                the profiles in force when the folder was made
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::exit::{Exit, Failure};
use crate::cli::files::{at, read};
use crate::identity::profile::{SOURCES, Sort};
use crate::identity::{Authority, Certificate, Issued, Serial, pem};
use crate::lock::{Lock, LockError};
use crate::types::{Digest, Timestamp};

/// An authority in its folder. Holds a lock, so that two commands do not write at a time.
pub(super) struct Folder {
    path: PathBuf,
    pub(super) authority: Authority,
    pub(super) index: Vec<Entry>,
    _lock: Lock,
}

/// A line of the index.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Entry {
    Issued {
        at: Timestamp,
        serial: Serial,
        sort: Sort,
        subject: String,
        not_after: Timestamp,
        fingerprint: Digest,
    },
    Revoked {
        at: Timestamp,
        serial: Serial,
    },
}

impl Folder {
    /// Makes a folder with a new authority; nothing that is there already is touched.
    pub(super) fn create(path: &Path, name: &str, now: Timestamp) -> Result<Self, Failure> {
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(path)
            .map_err(|error| at(path, &error))?;
        let entries = fs::read_dir(path).map_err(|error| at(path, &error))?;
        if entries.count() > 0 {
            let taken = Failure::new(Exit::Refused, format!("`{}` is not empty", path.display()));
            return Err(taken.hint("name a new folder; an authority is never overwritten"));
        }
        let lock = lock(path)?;
        let authority = Authority::create(name, now)?;
        let public = |name: &str, text: String| create(&path.join(name), text.as_bytes(), PUBLIC);
        public("root.pem", pem::of_certificates([authority.root()]))?;
        public("issuing.pem", pem::of_certificates([authority.issuing()]))?;
        create(
            &path.join("root.key"),
            authority.root_key_pem().expose(),
            PRIVATE,
        )?;
        create(
            &path.join("issuing.key"),
            authority.issuing_key_pem().expose(),
            PRIVATE,
        )?;
        fs::create_dir(path.join("profiles")).map_err(|error| at(path, &error))?;
        for (name, text) in SOURCES {
            public(&format!("profiles/{name}"), text.to_owned())?;
        }
        Ok(Self {
            path: path.to_owned(),
            authority,
            index: Vec::new(),
            _lock: lock,
        })
    }

    /// Opens a folder.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if !path.join("issuing.key").exists() {
            let missing = format!("`{}` holds no authority", path.display());
            return Err(Failure::new(Exit::Usage, missing)
                .hint("`cos-escrow pki init DIR` makes one, `--pki DIR` names one"));
        }
        let lock = lock(path)?;
        let file = |name: &str| read(&path.join(name));
        let mut authority = Authority::from_pem(
            (&file("root.pem")?, &file("root.key")?),
            (&file("issuing.pem")?, &file("issuing.key")?),
        )?;
        let index = read_index(&path.join(INDEX))?;
        for entry in &index {
            if let Entry::Revoked { at, serial } = entry {
                authority.revoke(serial.clone(), *at);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            authority,
            index,
            _lock: lock,
        })
    }

    /// Where a file of this folder lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Enters a leaf into the index and writes chain and key.
    ///
    /// ORDER: the index first, so that no certificate exists that it does not know.
    pub(super) fn keep(
        &mut self,
        issued: &Issued,
        stem: &Path,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let certificate = &issued.certificate;
        self.append(Entry::Issued {
            at: now,
            serial: certificate.serial.clone(),
            sort: certificate.sort,
            subject: subject(certificate),
            not_after: certificate.not_after,
            fingerprint: certificate.fingerprint,
        })?;
        if let Some(key) = issued.key_pem() {
            create(&with_extension(stem, "key"), key.expose(), PRIVATE)?;
        }
        create(
            &with_extension(stem, "pem"),
            issued.chain_pem().as_bytes(),
            PUBLIC,
        )
    }

    /// Revokes what the index knows.
    pub(super) fn revoke(&mut self, serial: &Serial, now: Timestamp) -> Result<(), Failure> {
        let issued =
            |entry: &Entry| matches!(entry, Entry::Issued { serial: s, .. } if s == serial);
        if !self.index.iter().any(issued) {
            let unknown = format!("no certificate `{serial}` was issued here");
            return Err(Failure::new(Exit::NotFound, unknown)
                .hint("`cos-escrow pki list` shows what was issued"));
        }
        if !self.is_revoked(serial) {
            self.append(Entry::Revoked {
                at: now,
                serial: serial.clone(),
            })?;
            self.authority.revoke(serial.clone(), now);
        }
        Ok(())
    }

    pub(super) fn is_revoked(&self, serial: &Serial) -> bool {
        let revoked =
            |entry: &Entry| matches!(entry, Entry::Revoked { serial: s, .. } if s == serial);
        self.index.iter().any(revoked)
    }

    /// Makes new revocation lists and puts them in the place of the old; returns their end.
    pub(super) fn write_lists(&self, days: u32, now: Timestamp) -> Result<Timestamp, Failure> {
        let next_update = now.after(Duration::from_secs(u64::from(days) * 86_400));
        let lists = self.authority.lists(now, next_update)?;
        replace(&self.path(LISTS), pem::of_lists(&lists).as_bytes())?;
        Ok(next_update)
    }

    fn append(&mut self, entry: Entry) -> Result<(), Failure> {
        let path = self.path(INDEX);
        let line = serde_json::to_string(&entry).map_err(Failure::failed)? + "\n";
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(PUBLIC)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(line.as_bytes())?;
                file.sync_all()
            })
            .map_err(|error| at(&path, &error))?;
        self.index.push(entry);
        Ok(())
    }
}

/// Whom or what a certificate is for, in one cell.
pub(super) fn subject(certificate: &Certificate) -> String {
    match &certificate.identity {
        Some(identity) => identity.to_string(),
        None => certificate.server_names.join(" "),
    }
}

/// `north.tls` becomes `north.tls.key`; `Path::with_extension` would make it `north.key`.
pub(super) fn with_extension(stem: &Path, extension: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Writes a file that must not exist yet.
pub(super) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(|error| at(path, &error))
}

/// Readers see the old file or the new one, never a half.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(PUBLIC))
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| at(path, &error))
}

fn read_index(path: &Path) -> Result<Vec<Entry>, Failure> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|error| at(path, &error))?,
    };
    let parse = |(n, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let place = format!("`{}` line {}: {error}", path.display(), n + 1);
            Failure::new(Exit::Unverified, place)
                .hint("nothing is issued or revoked on an index that cannot be read")
        })
    };
    text.lines().enumerate().map(parse).collect()
}

fn lock(path: &Path) -> Result<Lock, Failure> {
    Lock::of_folder(path).map_err(|error| match error {
        LockError::Taken => {
            let busy = format!("another command is at work in `{}`", path.display());
            Failure::new(Exit::TryAgain, busy)
        }
        LockError::File { path, source } => at(&path, &source),
    })
}

pub(super) const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const INDEX: &str = "index.jsonl";
pub(super) const LISTS: &str = "lists.pem";
