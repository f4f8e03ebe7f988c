//! One process at a time writes a database.

use std::path::Path;

use super::exit::{Exit, Failure};
use crate::lock::{Lock, LockError};

/// Takes the right to write `database`; refused while another process has it.
pub(super) fn writer_of(database: &Path) -> Result<Lock, Failure> {
    Lock::beside(database).map_err(|error| match error {
        LockError::Taken => {
            let message = format!("another process writes `{}`", database.display());
            Failure::new(Exit::Refused, message)
                .hint("stop it first: a service, a recovery or a restore")
        }
        LockError::File { .. } => Failure::failed(error),
    })
}
