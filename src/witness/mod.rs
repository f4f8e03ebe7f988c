//! Both ends of C2SP tlog-witness: asking a witness to cosign a checkpoint, and being one.
//!
//! A witness remembers of each log the newest head that it has cosigned, and cosigns only what continues it: so nobody
//! who demands its cosignature can be shown another history. What it does with a request is decided by
//! `tlog::AddCheckpoint`; here are the connection and the files.

mod client;
mod state;

pub use client::{Answer, Unreachable, WitnessClient};
pub use state::{Refused, StateError, Witness};
