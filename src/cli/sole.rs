//! One process at a time writes a database: a lock file beside it, which the system gives back when the process ends,
//! however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::exit::{Exit, Failure};

/// The right to write a database, held as long as this lives.
pub(super) struct Sole {
    _lock: File,
}

impl Sole {
    /// Takes the right to write `database`; refused while another process has it.
    pub(super) fn writer_of(database: &Path) -> Result<Self, Failure> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let at = |error: std::io::Error| {
            let shown = Path::new(&name).display();
            Failure::failed(format!("`{shown}`: {error}"))
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&name)
            .map_err(at)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process writes `{}`", database.display());
                Err(Failure::new(Exit::Refused, message)
                    .hint("stop it first: a service, a recovery or a restore"))
            }
            Err(TryLockError::Error(error)) => Err(at(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_writes_a_database_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("escrow.db");
        let first = Sole::writer_of(&database).unwrap();
        let second = Sole::writer_of(&database).err().unwrap();
        assert_eq!(second.exit, Exit::Refused);
        drop(first);
        assert!(Sole::writer_of(&database).is_ok());
    }
}
