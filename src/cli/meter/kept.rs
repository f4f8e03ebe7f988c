//! Copies of the releases that takeovers are working with, beside the journal, sealed as they were released.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::exit::Failure;
use crate::cli::files;
use crate::types::HandoverId;

/// A folder with one file a handover. A takeover needs the package again when it deposits the next keys, which may be
/// long after the file that it was started with is gone.
pub struct KeptReleases {
    folder: PathBuf,
}

impl KeptReleases {
    /// Those beside this journal: its path with `.releases` added.
    pub(super) fn beside(journal: &Path) -> Self {
        let mut folder = OsString::from(journal);
        folder.push(".releases");
        Self {
            folder: folder.into(),
        }
    }

    /// Keeps a release, durably, in the place of an earlier one for the same handover.
    pub fn keep(&self, handover: HandoverId, bytes: &[u8]) -> Result<(), Failure> {
        if !self.folder.is_dir() {
            files::private_folder(&self.folder)?;
            let above = self.folder.parent().filter(|p| !p.as_os_str().is_empty());
            let above = above.unwrap_or(Path::new("."));
            let synced = File::open(above).and_then(|folder| folder.sync_all());
            synced.map_err(|error| files::at(above, &error))?;
        }
        files::replace(&self.path(handover), bytes)
    }

    /// The release of a handover, if there is one.
    pub fn read(&self, handover: HandoverId) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(handover);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| files::at(&path, &error)),
        }
    }

    /// Removes the release of a takeover that is over.
    pub fn forget(&self, handover: HandoverId) -> Result<(), Failure> {
        let path = self.path(handover);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| files::at(&path, &error)),
        }
    }

    fn path(&self, handover: HandoverId) -> PathBuf {
        self.folder.join(format!("{handover}.release"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_release_is_kept_for_the_owner_alone_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptReleases::beside(&folder.path().join("night.db"));
        let handover = HandoverId::random(&crate::types::SystemRandom);
        assert_eq!(kept.read(handover).unwrap(), None);
        kept.keep(handover, b"first").unwrap();
        kept.keep(handover, b"second").unwrap();
        assert_eq!(kept.read(handover).unwrap().unwrap(), b"second");
        for path in [&kept.folder, &kept.path(handover)] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        kept.forget(handover).unwrap();
        kept.forget(handover).unwrap();
        assert_eq!(kept.read(handover).unwrap(), None);
    }
}
