//! Between takeovers and the escrow: what a released package says, and what the escrow is told about the meter.

mod escrow;
mod keys;
mod opened;
mod papers;
mod passwords;
mod ways;

pub use escrow::SupplierEscrow;
pub use opened::{Generation, Opened};
pub use papers::Papers;
pub use ways::{Readied, Voices};

use super::exit::Failure;
use crate::envelope::Kek;
use crate::meter::journal::{SealError, Sealer};
use crate::types::{Random, Secret, SystemRandom};

/// Seals what the journal keeps, under one key of the gaining supplier's.
pub struct JournalKey(Kek);

impl JournalKey {
    /// A new key.
    pub fn random(random: &dyn Random) -> Self {
        Self(Kek::random(random))
    }

    /// The key with these 32 bytes.
    pub fn from_secret(secret: &Secret) -> Result<Self, Failure> {
        Kek::from_secret(secret).map(Self).map_err(Failure::failed)
    }

    /// Its bytes, for the file that it is kept in.
    pub fn to_secret(&self) -> Secret {
        Secret::new(self.0.expose().to_vec())
    }
}

impl Sealer for JournalKey {
    fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.seal_at_rest(&journal(context), plain, &SystemRandom)
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Secret, SealError> {
        self.0
            .open_at_rest(&journal(context), sealed)
            .map_err(|_| SealError)
    }
}

fn journal(context: &[u8]) -> crate::envelope::Context {
    crate::envelope::Context::new("cos-escrow/journal/1").with("row", context)
}
