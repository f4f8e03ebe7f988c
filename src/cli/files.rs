//! Files as commands read and write them: secret ones for the owner alone, and none ever overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::exit::{Exit, Failure};

/// Reads a file whose content may be secret; `-` is stdin.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = match path.as_os_str() == "-" {
        false => fs::read(path),
        true => {
            let mut bytes = Zeroizing::new(Vec::new());
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|error| at(path, &error))?;
            return Ok(bytes);
        }
    };
    bytes.map(Zeroizing::new).map_err(|error| at(path, &error))
}

/// Makes a folder, with all above it, that only its owner may enter.
pub(super) fn private_folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| at(path, &error))
}

/// Puts bytes in the place of what a file held before: readers see the old file or the new one, never a half.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = folder_of(path);
    let write = || -> io::Result<()> {
        // Temporary files are for their owner alone, and keep that when they get their name.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| at(path, &error))
}

/// A new file for the owner alone. It is made before there is anything to write, so that nothing is asked for that could
/// not be kept; it goes away again if nothing is written.
pub(super) struct NewFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl NewFile {
    /// Makes the file, which must not be there yet.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let failure = Failure::new(Exit::Usage, "secrets are written to files, not to stdout");
            return Err(failure.hint("name a new file with `--out`"));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| at(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            written: false,
        })
    }

    /// Writes all of it, and waits until it is on the disk.
    pub(super) fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let done = (self.file.write_all(bytes))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| File::open(folder_of(&self.path))?.sync_all());
        done.map_err(|error| at(&self.path, &error))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.written {
            // It may be gone already, and nobody is left to be told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A failure that names the file. One that is not there is a mistake in the arguments: only what the service, or a record,
/// does not know is `NotFound`.
pub(super) fn at(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::Usage,
        io::ErrorKind::AlreadyExists => Exit::Refused,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("`{}`: {error}", path.display()));
    match exit {
        Exit::Refused => failure.hint("name another file; nothing is overwritten"),
        _ => failure,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_new_file_is_for_its_owner_and_takes_no_other_ones_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release");
        NewFile::create(&path).unwrap().write(b"x").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = NewFile::create(&path).err().unwrap();
        assert_eq!(second.exit, Exit::Refused);
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn a_file_that_was_not_written_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("release");
        drop(NewFile::create(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn stdout_and_terminals_get_no_secret() {
        for name in ["-", "/dev/stdout", "/dev/tty"] {
            assert!(NewFile::create(Path::new(name)).is_err(), "{name}");
            assert!(name == "-" || Path::new(name).exists() || name == "/dev/stdout");
        }
    }

    #[test]
    fn a_replaced_file_stays_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(
            (fs::read(&path).unwrap(), mode & 0o777),
            (b"new".to_vec(), 0o600)
        );
    }
}
