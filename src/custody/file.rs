//! Keys in files: one root key, and every other key wrapped under it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CustodyError, KeyProvider};
use crate::envelope::{Context, Kek};
use crate::types::{Random, Secret};

pub(super) struct FileProvider {
    folder: PathBuf,
    root: Kek,
}

impl FileProvider {
    /// Opens the root key in `folder`; makes folder and key where they are missing.
    pub(super) fn open_or_create(folder: &Path, random: &dyn Random) -> Result<Self, CustodyError> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        // ORDER: whoever made the folder may have been cut off before its name was durable.
        sync(folder.parent())?;
        if !folder.join(ROOT).exists() {
            write_new(&folder.join(ROOT), super::random_key(random).expose())?;
        }
        Self::open(folder)
    }

    /// A folder that cannot be read is an error, not one without a key.
    pub(super) fn has_root_key(folder: &Path) -> Result<bool, std::io::Error> {
        folder.join(ROOT).try_exists()
    }

    pub(super) fn open(folder: &Path) -> Result<Self, CustodyError> {
        let root = read_private(&folder.join(ROOT))?;
        let provider = Self {
            folder: folder.to_owned(),
            root: super::kek(ROOT, &root)?,
        };
        for name in named(folder, CONDEMNED)? {
            erase(&folder.join(format!("{name}{CONDEMNED}")))?;
        }
        Ok(provider)
    }

    /// Names of the wrapped keys in a folder that is somebody else's to work with.
    pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, CustodyError> {
        Ok(named(folder, WRAPPED)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{WRAPPED}"))
    }
}

impl KeyProvider for FileProvider {
    fn names(&self) -> Result<Vec<String>, CustodyError> {
        Ok(named(&self.folder, WRAPPED)?)
    }

    fn put(&self, name: &str, secret: &Secret, random: &dyn Random) -> Result<(), CustodyError> {
        let sealed = self
            .root
            .seal_at_rest(&context(name), secret.expose(), random);
        write_new(&self.path(name), &sealed)?;
        Ok(())
    }

    fn open_key(&self, name: &str) -> Result<Secret, CustodyError> {
        let sealed = read_private(&self.path(name))?;
        self.root
            .open_at_rest(&context(name), sealed.expose())
            .map_err(|_| CustodyError::Damaged(name.to_owned()))
    }

    /// Overwrites and removes a key. On media that keep old blocks, what matters is that the root key is elsewhere.
    fn destroy(&self, name: &str) -> Result<(), CustodyError> {
        let condemned = self.folder.join(format!("{name}{CONDEMNED}"));
        // ORDER: a half-erased key must not be taken for a damaged one. What is cut off after this, `open` finishes.
        fs::rename(self.path(name), &condemned)?;
        sync(Some(&self.folder))?;
        erase(&condemned)?;
        Ok(())
    }
}

/// Names of the files that end like this, without the ending.
fn named(folder: &Path, ending: &str) -> Result<Vec<String>, std::io::Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(ending)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn context(name: &str) -> Context {
    Context::new("cos-escrow/custody/1").with("name", name.as_bytes())
}

/// Makes a file, readable by its owner only, with all of its content or not at all, durably.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), std::io::Error> {
    if path.exists() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync(path.parent())
}

/// Overwrites and removes a file, durably.
fn erase(path: &Path) -> Result<(), std::io::Error> {
    let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or_default();
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)?;
    sync(path.parent())
}

/// Makes durable which names a folder has.
fn sync(folder: Option<&Path>) -> Result<(), std::io::Error> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
/// A file that is being written: nobody has relied on it yet.
const UNFINISHED: &str = ".new";
/// A key that is being destroyed: nobody relies on it any more.
const CONDEMNED: &str = ".destroyed";

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
    fn keys_that_were_half_made_are_completed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        Custody::open_or_create(&folder, NOW, &SystemRandom).unwrap();
        let names = fs::read_dir(&folder).unwrap();
        let names: Vec<_> = names.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names.len(), 8, "{names:?}");
        for name in names {
            // Cut off while this one was written.
            let file = folder.join(&name);
            let bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            let mut unfinished = file.into_os_string();
            unfinished.push(UNFINISHED);
            fs::write(&unfinished, &bytes[..bytes.len() / 2]).unwrap();
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).unwrap();
            if name == ROOT {
                // It is the first to be made.
                fs::remove_dir_all(&folder).unwrap();
                fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
            }
            assert!(Custody::open(&folder).is_err(), "{name:?}");
            let completed = Custody::open_or_create(&folder, NOW, &SystemRandom).unwrap();
            let again = Custody::open(&folder).unwrap();
            assert_eq!(
                completed.index_of("2499999999991"),
                again.index_of("2499999999991")
            );
        }
    }

    #[test]
    fn a_destruction_that_was_cut_off_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let custody = Custody::open_or_create(folder.path(), NOW, &SystemRandom).unwrap();
        custody.begin_epoch(NOW, &SystemRandom).unwrap();
        let first = folder
            .path()
            .join(format!("{}{WRAPPED}", super::super::epoch_name(1, NOW)));
        let condemned = first.with_extension(&CONDEMNED[1..]);
        fs::rename(&first, &condemned).unwrap();
        OpenOptions::new()
            .write(true)
            .open(&condemned)
            .unwrap()
            .write_all(&[0; 20])
            .unwrap();
        let custody = Custody::open(folder.path()).unwrap();
        assert!(custody.epoch(1).is_none());
        assert!(!condemned.exists());
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
