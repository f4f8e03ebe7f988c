//! Witnesses: ours answers as the specification says, a foreign one cosigns our log, and a service that is told to wait
//! for its quorum hands nothing out without it.

mod line;
mod process;
mod protocol;
mod service;

pub(crate) use process::Kind;
