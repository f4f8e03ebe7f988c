//! What goes wrong between us and a meter.

/// No counters can be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CountersError {
    /// The meter's word for it is not authenticated, and the rest of the key's life would be skipped.
    #[error("the meter asks for a counter above `{above}`, while `{proven}` is the highest proven")]
    Jump {
        /// What the meter asks for.
        above: u32,
        /// What it was handed over with, or has let us in with.
        proven: u32,
    },
    /// The key must be replaced.
    #[error("the counters of the key are used up")]
    Spent,
    /// The journal cannot be written.
    #[error("counters cannot be reserved: {0}")]
    Unavailable(String),
}

/// What went wrong between us and a meter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// No connection came about, or it was lost where that says nothing about secrets.
    #[error("the meter cannot be reached")]
    Unreachable,
    /// The meter was silent for too long.
    #[error("the meter did not answer in time")]
    TimedOut,
    /// The meter ended the connection instead of answering: how some refuse keys.
    #[error("the meter closed the connection")]
    Closed,
    /// The meter says that the keys are not its keys.
    #[error("the meter refuses the keys")]
    KeysRefused,
    /// The line was lost over a password: whether the meter took it, or counts it as wrong, is not known.
    #[error("the line was lost while logging in")]
    LoginLost,
    /// The meter answers, but does not prove that it has the keys.
    #[error("the meter does not prove that it has the keys")]
    MeterUnproven,
    /// The counter was used before; the lowest that will do, where the meter tells.
    #[error("the meter has seen a higher counter")]
    StaleCounter(Option<u32>),
    /// The meter lets nobody in for now: another association is open, perhaps.
    #[error("the meter is busy")]
    Busy,
    /// The association is refused for another reason.
    #[error("the meter refuses the association (`{0}`)")]
    AssociationRefused(u8),
    /// The meter understood, and does not want to.
    #[error("the meter refuses with result `{0}`")]
    Denied(u8),
    /// Another meter answers.
    #[error("a meter that calls itself `{0}` answers")]
    WrongMeter(String),
    /// The answer is none to what was asked.
    #[error("the answer of the meter cannot be understood")]
    Garbled,
    /// The meter has no such thing, or its type has not, by its profile.
    #[error("the meter does not offer this")]
    NotOffered,
    /// No counters to send under.
    #[error(transparent)]
    Counters(#[from] CountersError),
}

impl LinkError {
    /// Whether the meter may count this against us, as a wrong guess at its keys.
    pub fn is_failed_login(&self) -> bool {
        matches!(self, Self::KeysRefused | Self::MeterUnproven | Self::Closed)
    }
}
