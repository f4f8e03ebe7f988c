//! Releases as takeovers start with them: found, decoded and opened.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::batch::record;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::key::file as key_file;
use crate::cli::lines::Lines;
use crate::cli::rows::{Column, Kind};
use crate::cli::takeover::{Opened, Readied, Voices};
use crate::cli::trust::verify_body;
use crate::client::ClientError;
use crate::envelope::{Release, SealingKeyPair, SealingPublicKey, SignatureError};
use crate::identity::{Anchors, Made};
use crate::meter::profile::Profiles;
use crate::meter::released::Repoint;
use crate::types::{Component, HandoverId, PartyId};

/// Which releases.
#[derive(clap::Args, Clone, Debug)]
pub struct Chosen {
    /// A release, as `handover release` wrote it; may be given several times.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 1..,
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    release: Vec<PathBuf>,
    /// A list of releases: one JSON record a line, or CSV with the columns `release` and `address`.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where the meter is, if not where the release says.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "from")]
    address: Option<SocketAddr>,
}

/// One release to start with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file.
    pub release: PathBuf,
    /// Where the meter is, if not where the release says.
    pub address: Option<SocketAddr>,
    /// Where it shall report from now on.
    pub repoint: Option<Repoint>,
}

impl Chosen {
    /// The releases that are named, read as they are asked for. A line that cannot be read is a failure of its own.
    pub fn sources(&self) -> Result<Sources, Failure> {
        if let Some(list) = &self.from {
            return Ok(Box::new(Listed {
                lines: Lines::open_records(list, &COLUMNS)?,
                list: list.clone(),
            }));
        }
        if self.address.is_some() && self.release.len() > 1 {
            let message = "`--address` is for one release";
            return Err(Failure::new(Exit::Usage, message)
                .hint("put the addresses of several meters into a list for `--from`"));
        }
        // One that a list names is its record's own matter; these are arguments.
        for release in &self.release {
            release
                .metadata()
                .map_err(|error| files::at(release, &error))?;
        }
        let address = self.address;
        let source = move |release| Source {
            release,
            address,
            repoint: None,
        };
        let releases = self.release.clone().into_iter();
        Ok(Box::new(releases.map(source).map(Ok)))
    }

    /// How many there are at most, as far as that is known beforehand.
    pub fn count(&self) -> Option<u64> {
        match &self.from {
            None => u64::try_from(self.release.len()).ok(),
            Some(list) if list.as_os_str() == "-" => None,
            Some(list) => {
                let lines = BufReader::new(File::open(list).ok()?).split(b'\n');
                u64::try_from(lines.count()).ok()
            }
        }
    }
}

/// Releases to start with, one after the other.
pub type Sources = Box<dyn Iterator<Item = Result<Source, Failure>> + Send>;

/// The releases of a list.
struct Listed {
    list: PathBuf,
    lines: Lines,
}

impl Listed {
    fn source(
        &self,
        (number, line): (u64, Result<Zeroizing<Vec<u8>>, ClientError>),
    ) -> Result<Source, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            let place = format!("`{}`, line {number}", self.list.display());
            Failure::new(Exit::Usage, format!("{place}: {error}"))
        };
        let line = line.map_err(|error| wrong(&error))?;
        let mut source: Source = serde_json::from_slice(&line).map_err(|error| wrong(&error))?;
        let folder = self.list.parent().unwrap_or(Path::new("."));
        source.release = folder.join(source.release);
        Ok(source)
    }
}

impl Iterator for Listed {
    type Item = Result<Source, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.next() {
            Ok(line) => line.map(|line| self.source(record(line))),
            Err(failure) => Some(Err(failure)),
        }
    }
}

/// What a row of the list may have.
const COLUMNS: [Column; 2] = [("release", Kind::Text), ("address", Kind::Text)];

/// Our own sealing keys: one that was named, or those in a folder.
pub struct SealingKeys {
    named: Option<SealingKeyPair>,
    folder: PathBuf,
}

impl SealingKeys {
    /// The keys that the arguments name.
    pub(super) fn new(named: Option<&Path>, folder: &Path) -> Result<Self, Failure> {
        Ok(Self {
            named: named.map(key_file::read).transpose()?,
            folder: folder.to_owned(),
        })
    }

    /// Only this key.
    pub fn only(key: SealingKeyPair) -> Self {
        Self {
            named: Some(key),
            folder: PathBuf::new(),
        }
    }

    /// The key that was named, which write-aheads are then sealed to instead of that of their release.
    pub fn named(&self) -> Option<&SealingPublicKey> {
        self.named.as_ref().map(SealingKeyPair::public)
    }

    fn open(&self, release: &Release) -> Result<(Opened, SealingPublicKey), Failure> {
        let wanted = release.issue().key_id;
        let found;
        let key = match &self.named {
            Some(key) => key,
            None => {
                found = key_file::find(&self.folder, std::iter::once(wanted))?;
                found.as_ref().ok_or_else(|| not_here(&self.folder))?
            }
        };
        if key.id() != wanted {
            let message = format!("sealed to key {wanted}, and the key here is {}", key.id());
            return Err(Failure::new(Exit::Refused, message));
        }
        Ok((Opened::release(release, key), key.public().clone()))
    }
}

fn not_here(folder: &Path) -> Failure {
    let message = format!("the sealing key is not in `{}`", folder.display());
    Failure::new(Exit::Usage, message).hint("name its file, or its folder with `--keys`")
}

/// A release, opened.
pub struct Loaded {
    release: Release,
    /// The key of ours that it is sealed to.
    pub sealed_to: SealingPublicKey,
    /// What it holds.
    pub opened: Opened,
}

impl Loaded {
    /// Reads the file of a release.
    pub fn read(path: &Path, keys: &SealingKeys) -> Result<Self, Failure> {
        let bytes = files::read(path)?;
        Self::open(&bytes, keys).map_err(|failure| Failure {
            message: format!("`{}`: {}", path.display(), failure.message),
            ..failure
        })
    }

    /// Opens the bytes of a release.
    pub fn open(bytes: &[u8], keys: &SealingKeys) -> Result<Self, Failure> {
        let release =
            Release::decode(bytes).map_err(|error| Failure::new(Exit::Unverified, error))?;
        let (opened, sealed_to) = keys.open(&release)?;
        Ok(Self {
            release,
            sealed_to,
            opened,
        })
    }

    /// Leaves out each package and read that the depositor that it names has not signed. That no package is left makes the
    /// release unusable.
    pub fn verified(mut self, anchors: &Anchors, unsigned: Unsigned) -> Result<Verified, Unusable> {
        let is_package = |component| component == Component::Credentials;
        let before = &self.opened.left_out;
        let mut is_tampered = before.iter().any(|left| is_package(left.component));
        for item in self.release.items() {
            // As of the deposit: the certificate may have ended since.
            let made = Made::Logged(item.deposited_at);
            let reason = match (verify_body(&item.body, anchors, made), unsigned) {
                (Ok(()), _) | (Err(SignatureError::Unsigned), Unsigned::Accepted) => continue,
                (Err(SignatureError::Unsigned), Unsigned::Refused) => "nobody signed it".to_owned(),
                (Err(error), _) => {
                    is_tampered |= is_package(item.body.header().component);
                    error.to_string()
                }
            };
            self.opened.leave_out(item, reason);
        }
        match self.opened.generations.is_empty() {
            false => Ok(Verified(self)),
            true => {
                let reasons = self.opened.left_out.iter().map(ToString::to_string);
                let reasons = reasons.collect::<Vec<_>>().join("; ");
                Err(match is_tampered {
                    true => Unusable::Tampered(reasons),
                    false => Unusable::Unsigned(reasons),
                })
            }
        }
    }

    /// The handover.
    pub fn handover(&self) -> HandoverId {
        self.opened.handover
    }

    /// The ways to the meter, where and as the source says. For those who say nothing to it: nobody's signature was verified.
    pub fn ready(self, source: &Source, profiles: &Profiles) -> Result<Readied, Failure> {
        ready(self.opened, source, profiles, &Voices::All)
    }
}

fn ready(
    opened: Opened,
    source: &Source,
    profiles: &Profiles,
    voices: &Voices,
) -> Result<Readied, Failure> {
    let theirs = (source.address, source.repoint.clone());
    opened.ready(profiles, voices, theirs)
}

/// A release without what its depositors did not sign: only such a one is used on a meter.
pub struct Verified(Loaded);

impl Verified {
    /// The handover.
    pub fn handover(&self) -> HandoverId {
        self.0.handover()
    }

    /// Whether it matters who loses the meter: passwords go in clear, and of two who gave us something one is believed first.
    pub fn needs_loser(&self) -> bool {
        self.0.opened.needs_loser()
    }

    /// The ways to the meter, where and as the source says.
    pub fn ready(
        self,
        source: &Source,
        profiles: &Profiles,
        voices: &Voices,
    ) -> Result<Ready, Failure> {
        let Loaded {
            sealed_to, opened, ..
        } = self.0;
        Ok(Ready {
            recipient: opened.recipient.clone(),
            sealed_to,
            readied: ready(opened, source, profiles, voices)?,
        })
    }
}

/// What is claimed in a journal.
pub struct Ready {
    /// To whom it was released.
    pub recipient: PartyId,
    /// The key of ours that it is sealed to.
    pub sealed_to: SealingPublicKey,
    /// The meter, and what else is known of it.
    pub readied: Readied,
}

/// Why a release is used on no meter.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Nobody has signed a package of it.
    #[error("{0}; `--accept-unsigned` takes what the service sealed for its depositor")]
    Unsigned(String),
    /// No package of it is what its depositor made.
    #[error("{0}")]
    Tampered(String),
}

impl From<Unusable> for Failure {
    fn from(release: Unusable) -> Self {
        let exit = match release {
            Unusable::Unsigned(_) => Exit::Refused,
            Unusable::Tampered(_) => Exit::Unverified,
        };
        Self::new(exit, release)
    }
}

/// What becomes of a package that bears no signature: its depositor sent it in clear, and the service sealed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsigned {
    /// It is used.
    Accepted,
    /// It is not.
    Refused,
}

impl Unsigned {
    /// As `--accept-unsigned` says.
    pub fn by_flag(accepts: bool) -> Self {
        match accepts {
            true => Self::Accepted,
            false => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_cannot_be_read_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("releases.ndjson");
        let lines = [
            r#"{"release":"a.release"}"#,
            r#"{"release":"a.release","adress":"127.0.0.1:4059"}"#,
            "",
            r#"{"release":"/b","address":"127.0.0.1:4059","repoint":{"apn":"ours","destination":"10.0.0.2:1","port":1}}"#,
        ];
        std::fs::write(&list, lines.join("\n")).unwrap();
        let chosen = Chosen {
            release: Vec::new(),
            from: Some(list),
            address: None,
        };
        assert_eq!(chosen.count(), Some(4));
        let sources: Vec<_> = chosen.sources().unwrap().collect();
        let [first, second, third] = &sources[..] else {
            panic!("{} sources", sources.len());
        };
        let first = first.as_ref().unwrap();
        assert_eq!(first.release, folder.path().join("a.release"));
        let message = &second.as_ref().unwrap_err().message;
        assert!(message.contains("line 2"), "{message}");
        let third = third.as_ref().unwrap();
        assert_eq!(third.release, Path::new("/b"));
        assert_eq!(third.repoint.as_ref().unwrap().apn, "ours");
    }
}
