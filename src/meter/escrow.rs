//! What a takeover needs of the escrow.

use std::fmt;
use std::future::Future;

use super::released::{RegisterRead, Way};
use super::secrets::{Role, Secrets};
use crate::types::HandoverId;

/// The escrow, as a takeover sees it. Each call may come again after a crash and must then do no harm. `way` is how the
/// meter was reached, or was last tried to be.
pub trait Escrow: Send + Sync {
    /// Deposits the next secrets, sealed to ourselves and the escrow. Has returned, with the generation they became, only
    /// once they are durable; no meter is told a secret before that.
    fn write_ahead(
        &self,
        handover: HandoverId,
        way: &Way,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<u32, EscrowError>> + Send;

    /// Hands in what the meter showed when it was taken over, before anything in it was changed.
    fn closing_read(
        &self,
        handover: HandoverId,
        way: &Way,
        reads: &[RegisterRead],
    ) -> impl Future<Output = Result<(), EscrowError>> + Send;

    /// Tells how the takeover ended.
    fn report(
        &self,
        handover: HandoverId,
        way: &Way,
        report: &Report,
    ) -> impl Future<Output = Result<(), EscrowError>> + Send;
}

/// How a takeover ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Report {
    /// The meter takes the keys of this generation and refuses those that were handed over.
    Rotated {
        /// The generation that `write_ahead` returned.
        generation: u32,
        /// Over whose path the last keys went: who could listen on the losing supplier's path knows them.
        path: Path,
        /// Secrets that could not be changed: whoever knows them still gets in, as far as they reach.
        stays_open: Vec<Role>,
    },
    /// The released package does not open this meter.
    Rejected(StopReason),
    /// The package opens the meter, but its keys cannot be changed.
    CannotRotate(StopReason),
}

/// Whose network a key travelled through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Path {
    /// The one the meter had when it was released.
    Losing,
    /// The one it was repointed to.
    Gaining,
}

/// Why a takeover ended without new keys in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Another meter answers at the address.
    WrongMeter,
    /// The meter runs another firmware than the package says.
    WrongFirmware,
    /// No released key set opens the meter.
    WrongKeys,
    /// The meter keeps refusing the transfer of keys.
    TransferRefused,
    /// The meter does not take over the new key encryption key.
    KekRefused,
    /// The meter still opens to the keys that were handed over.
    OldKeysWork,
    /// The meter does not take the new communication settings.
    RepointRefused,
}

impl StopReason {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongMeter => "wrong_meter",
            Self::WrongFirmware => "wrong_firmware",
            Self::WrongKeys => "wrong_keys",
            Self::TransferRefused => "transfer_refused",
            Self::KekRefused => "kek_refused",
            Self::OldKeysWork => "old_keys_work",
            Self::RepointRefused => "repoint_refused",
        }
    }

    /// What the escrow is told. A takeover that stopped half-way is for people first.
    pub fn report(self) -> Option<Report> {
        match self {
            Self::WrongMeter | Self::WrongFirmware | Self::WrongKeys => {
                Some(Report::Rejected(self))
            }
            Self::TransferRefused | Self::OldKeysWork => Some(Report::CannotRotate(self)),
            Self::KekRefused | Self::RepointRefused => None,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The escrow did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EscrowError {
    /// Try again later.
    #[error("the escrow is not available: {0}")]
    Unavailable(String),
    /// The escrow refused; the text has its code.
    #[error("the escrow refused: {0}")]
    Refused(String),
    /// What the escrow or its log says does not verify: from here on it is not believed.
    #[error("what the escrow says does not verify: {0}")]
    Tampered(String),
}
