//! How a command ends: exit codes and failures with hints.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::identity::{AuthorityError, IdentityError};
use crate::tls::MaterialError;

/// The exit codes, stable for scripts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Failed for another reason.
    Failed,
    /// The arguments make no sense, or a file that they name is not there.
    Usage,
    /// What was named the service does not know, or we may not see it.
    NotFound,
    /// The service, or a rule, says no.
    Refused,
    /// Something was tampered with, or does not verify.
    Unverified,
    /// It may work later.
    TryAgain,
    /// It cannot be told whether it verifies: something is missing.
    Unverifiable,
    /// Ended by the user.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unverified => 5,
            Self::TryAgain => 6,
            Self::Unverifiable => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Why a command did not do what it was asked to, and what may help.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// What the user could try.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
            hints: Vec::new(),
        }
    }

    /// A failure without a code of its own.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        let exit = match error {
            AuthorityError::Days { .. } | AuthorityError::ServerName(_) => Exit::Usage,
            AuthorityError::OutlivesIssuer | AuthorityError::Request(_) => Exit::Refused,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<MaterialError> for Failure {
    fn from(error: MaterialError) -> Self {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let exit = match &error {
            MaterialError::Read { source, .. } if is_missing(source) => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(Exit::Unverified, error)
    }
}
