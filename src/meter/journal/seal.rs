//! How keys are kept from those who read the file.

use crate::types::Secret;

/// Seals what the journal must not show. `context` is bound: what was sealed in one row does not open in another.
pub trait Sealer: Send + Sync {
    /// Seals `plain`.
    fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8>;

    /// Opens what was sealed in the same context.
    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Secret, SealError>;
}

/// The sealed bytes do not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a sealed key of the journal does not open")]
pub struct SealError;
