//! Keys in files: one root key, and every other key wrapped under it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::CustodyError;
use crate::envelope::{Context, Kek};
use crate::types::{Random, Secret};

pub(super) struct FileProvider {
    folder: PathBuf,
    root: Kek,
}

impl FileProvider {
    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(ROOT).exists()
    }

    pub(super) fn create(folder: &Path, random: &dyn Random) -> Result<Self, CustodyError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        write_new(&folder.join(ROOT), super::random_key(random).expose())?;
        Self::open(folder)
    }

    pub(super) fn open(folder: &Path) -> Result<Self, CustodyError> {
        let root = read_private(&folder.join(ROOT))?;
        Ok(Self {
            folder: folder.to_owned(),
            root: super::kek(ROOT, &root)?,
        })
    }

    /// Names of the wrapped keys.
    pub(super) fn names(&self) -> Result<Vec<String>, CustodyError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let file = entry?.file_name();
            if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(WRAPPED)) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn put(
        &self,
        name: &str,
        secret: &Secret,
        random: &dyn Random,
    ) -> Result<(), CustodyError> {
        let sealed = self
            .root
            .seal_at_rest(&context(name), secret.expose(), random);
        write_new(&self.path(name), &sealed)?;
        Ok(())
    }

    pub(super) fn open_key(&self, name: &str) -> Result<Secret, CustodyError> {
        let sealed = read_private(&self.path(name))?;
        self.root
            .open_at_rest(&context(name), sealed.expose())
            .map_err(|_| CustodyError::Damaged(name.to_owned()))
    }

    /// Overwrites and removes a key. On media that keep old blocks, what matters is that the root key is elsewhere.
    pub(super) fn destroy(&self, name: &str) -> Result<(), CustodyError> {
        let path = self.path(name);
        let length = usize::try_from(fs::metadata(&path)?.len()).unwrap_or_default();
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.write_all(&vec![0; length])?;
        file.sync_all()?;
        fs::remove_file(&path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{WRAPPED}"))
    }
}

fn context(name: &str) -> Context {
    Context::new("cos-escrow/custody/1").with("name", name.as_bytes())
}

/// Writes a file that must not be there yet, readable by its owner only, durably.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), std::io::Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn read_private(path: &Path) -> Result<Secret, CustodyError> {
    let shown = path.display().to_string();
    let mut file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => CustodyError::Missing(shown.clone()),
        _ => CustodyError::File(error),
    })?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(CustodyError::Exposed(shown));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)?;
    Ok(Secret::take_from(&mut bytes))
}

const ROOT: &str = "root.key";
const WRAPPED: &str = ".wrapped";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::{Custody, CustodyError};
    use super::*;
    use crate::types::{SystemRandom, Timestamp};

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    #[test]
    fn keys_are_the_same_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let made = Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        let again = Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        assert_eq!(
            made.index_of("2499999999991"),
            again.index_of("2499999999991")
        );
        assert_eq!(made.log_key().expose(), again.log_key().expose());
    }

    #[test]
    fn a_destroyed_epoch_stays_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let custody = Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        let next = custody.begin_epoch(NOW, &SystemRandom).unwrap();
        assert_eq!(next.number, 2);
        custody.destroy_epoch(1).unwrap();
        assert!(custody.epoch(1).is_none());
        assert!(Custody::open(folder.path()).unwrap().epoch(1).is_none());
        assert!(matches!(
            custody.destroy_epoch(2),
            Err(CustodyError::InUse(2))
        ));
    }

    #[test]
    fn a_root_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        let root = folder.path().join(ROOT);
        fs::set_permissions(&root, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            Custody::open(folder.path()),
            Err(CustodyError::Exposed(_))
        ));
    }

    #[test]
    fn a_key_opens_only_under_its_own_name_and_root() {
        let folder = tempfile::tempdir().unwrap();
        Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        fs::copy(
            folder.path().join("index.wrapped"),
            folder.path().join("disclosure.copy"),
        )
        .unwrap();
        fs::rename(
            folder.path().join("disclosure.copy"),
            folder.path().join("disclosure.wrapped"),
        )
        .unwrap();
        assert!(matches!(
            Custody::open(folder.path()),
            Err(CustodyError::Damaged(_))
        ));
    }
}
