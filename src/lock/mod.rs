//! One process at a time works with a file or a folder. The system gives the right back when the process ends, however
//! it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The right to work with something, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `file`, which need not be there yet: what is locked is a file beside it, of the same name and `.lock`.
    pub fn beside(file: &Path) -> Result<Self, LockError> {
        let (path, opened) = open_beside(file);
        Self::of(opened, &path)
    }

    /// The same, but waits while another has it: for what takes a moment.
    pub fn waited_for(file: &Path) -> Result<Self, LockError> {
        let (path, opened) = open_beside(file);
        let locked = opened.and_then(|file| file.lock().map(|()| file));
        match locked {
            Ok(file) => Ok(Self { _file: file }),
            Err(source) => Err(LockError::File { path, source }),
        }
    }

    /// Takes a folder.
    pub fn of_folder(folder: &Path) -> Result<Self, LockError> {
        Self::of(File::open(folder), folder)
    }

    fn of(opened: io::Result<File>, path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        let file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

fn open_beside(file: &Path) -> (PathBuf, io::Result<File>) {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    let opened = options.open(&path);
    (path, opened)
}

/// Why the right is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process is at work")]
    Taken,
    /// What is locked cannot be opened.
    #[error("`{}`: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_has_nobody_else_gets_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("escrow.db");
        type Take = fn(&Path) -> Result<Lock, LockError>;
        for (take, path) in [
            (Lock::beside as Take, file.as_path()),
            (Lock::of_folder, folder.path()),
        ] {
            let first = take(path).unwrap();
            assert!(matches!(take(path), Err(LockError::Taken)));
            drop(first);
            take(path).unwrap();
        }
        assert!(!file.exists());
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nowhere");
        let refused = Lock::beside(&nowhere.join("escrow.db")).unwrap_err();
        assert!(refused.to_string().contains("nowhere/escrow.db.lock"));
        let refused = Lock::of_folder(&nowhere).unwrap_err();
        assert!(matches!(refused, LockError::File { .. }));
    }
}
