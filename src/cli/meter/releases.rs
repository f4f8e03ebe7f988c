//! Releases as takeovers start with them: found, decoded and opened.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::batch::records;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::key::file as key_file;
use crate::cli::takeover::Opened;
use crate::envelope::{Release, SealingKeyPair, SealingPublicKey};
use crate::meter::profile::Profiles;
use crate::meter::released::{ReleasedMeter, Repoint};
use crate::types::{HandoverId, PartyId, Timestamp};

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
    /// A list of releases: one JSON record a line.
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
    /// The releases that are named. A line that cannot be read is a failure of its own.
    pub fn sources(&self) -> Result<Vec<Result<Source, Failure>>, Failure> {
        if let Some(list) = &self.from {
            return sources_of(list);
        }
        if self.address.is_some() && self.release.len() > 1 {
            let message = "`--address` is for one release";
            return Err(Failure::new(Exit::Usage, message)
                .hint("put the addresses of several meters into a list for `--from`"));
        }
        let source = |release: &PathBuf| Source {
            release: release.clone(),
            address: self.address,
            repoint: None,
        };
        Ok(self.release.iter().map(source).map(Ok).collect())
    }
}

fn sources_of(list: &Path) -> Result<Vec<Result<Source, Failure>>, Failure> {
    let folder = list.parent().unwrap_or(Path::new("."));
    let text = files::read(list)?;
    let source = |(number, line): (u64, &[u8])| {
        let source: Result<Source, _> = serde_json::from_slice(line);
        let mut source = source.map_err(|error| {
            let place = format!("`{}`, line {number}", list.display());
            Failure::new(Exit::Usage, format!("{place}: {error}"))
        })?;
        source.release = folder.join(source.release);
        Ok(source)
    };
    Ok(records(&text).map(source).collect())
}

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

    /// The key that write-aheads are sealed to: the named one, or else the one that the newest release is sealed to.
    pub fn newest<'a>(
        &'a self,
        loaded: impl Iterator<Item = &'a Loaded>,
    ) -> Option<&'a SealingPublicKey> {
        let newest = loaded.max_by_key(|loaded| loaded.issued_at);
        let named = self.named.as_ref().map(SealingKeyPair::public);
        named.or_else(|| newest.map(|loaded| &loaded.sealed_to))
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
        Ok((Opened::release(release, key)?, key.public().clone()))
    }
}

fn not_here(folder: &Path) -> Failure {
    let message = format!("the sealing key is not in `{}`", folder.display());
    Failure::new(Exit::NotFound, message).hint("name its file, or its folder with `--keys`")
}

/// A release, opened, and the meter that it is about.
pub struct Loaded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// To whom it was given.
    pub recipient: PartyId,
    /// When.
    pub issued_at: Timestamp,
    /// The key of ours that it is sealed to.
    pub sealed_to: SealingPublicKey,
    /// What it holds.
    pub opened: Opened,
}

impl Loaded {
    /// Reads the file of a release.
    pub fn read(path: &Path, keys: &SealingKeys) -> Result<Self, Failure> {
        let bytes = files::read(path)?.to_vec();
        Self::open(bytes, keys).map_err(|failure| Failure {
            message: format!("`{}`: {}", path.display(), failure.message),
            ..failure
        })
    }

    /// Opens the bytes of a release.
    pub fn open(bytes: Vec<u8>, keys: &SealingKeys) -> Result<Self, Failure> {
        let release =
            Release::decode(&bytes).map_err(|error| Failure::new(Exit::Unverified, error))?;
        let (opened, sealed_to) = keys.open(&release)?;
        let issue = release.issue();
        Ok(Self {
            recipient: issue.recipient.clone(),
            issued_at: issue.issued_at,
            bytes,
            sealed_to,
            opened,
        })
    }

    /// The handover.
    pub fn handover(&self) -> HandoverId {
        self.opened.handover
    }

    /// The meter, where and as the source says.
    pub fn meter(&self, source: &Source, profiles: &Profiles) -> Result<ReleasedMeter, Failure> {
        let mut meter = self.opened.meter(profiles, source.address)?;
        meter.repoint.clone_from(&source.repoint);
        Ok(meter)
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
        let sources = sources_of(&list).unwrap();
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
