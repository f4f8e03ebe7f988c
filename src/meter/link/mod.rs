//! One meter over one line: log in, read, write, hand over keys. A driver a protocol; the takeover knows none of them.

use std::future::Future;
use std::net::SocketAddr;

pub use dlms::{DlmsDial, LinkSettings};

use crate::dlms::SystemTitle;
use crate::dlms::axdr::Value;
use crate::dlms::ciphering::CipherKeys;
use crate::dlms::keys::{Suite, WrappedKey};
use crate::dlms::obis::Member;
use crate::types::Digest;

mod dlms;
mod transport;

/// A line to one meter. It has at most one association; every error ends it.
pub trait MeterLink: Send {
    /// Ends what there was and opens a new association.
    fn associate(&mut self, login: Login<'_>)
    -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Reads an attribute.
    fn read(&mut self, attribute: Member) -> impl Future<Output = Result<Value, LinkError>> + Send;

    /// Writes an attribute.
    fn write(
        &mut self,
        attribute: Member,
        value: &Value,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Hands over keys. Whatever this returns, the meter may or may not have taken them: even success is only a hint.
    fn transfer_keys(
        &mut self,
        keys: &[WrappedKey],
    ) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Ends the association, as far as the meter still listens.
    fn release(&mut self) -> impl Future<Output = ()> + Send;
}

/// Makes links. Nothing is sent before the first association.
pub trait Dial: Send + Sync {
    /// What it makes.
    type Link: MeterLink;

    /// A link to the meter at `address`.
    fn dial(&self, address: SocketAddr) -> Self::Link;
}

/// As whom to associate.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// As anybody: name, serial number, counter.
    Public,
    /// As the one that knows the keys.
    Management(Credentials<'a>),
}

/// What the management client proves itself with, and what it expects of the meter.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The keys.
    pub keys: CipherKeys<'a>,
    /// The suite they are for.
    pub suite: Suite,
    /// The title that the meter must have.
    pub meter: SystemTitle,
    /// The counters that the meter has seen: only higher ones will do.
    pub counter_above: u32,
}

/// Hands out counters, each of them once.
pub trait Counters: Send + Sync {
    /// Reserves the next block of counters above `above` for one sender under one key, durably, before any is used.
    fn reserve(
        &self,
        key: Digest,
        title: SystemTitle,
        above: u32,
    ) -> impl Future<Output = Result<CounterBlock, CountersError>> + Send;
}

/// Counters that nobody else has or will have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CounterBlock {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// No counters can be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CountersError {
    /// The meter's word for it is not authenticated, and the rest of the key's life would be skipped.
    #[error("the meter asks for a counter above `{above}`, while `{used}` is the highest known")]
    Jump {
        /// What the meter asks for.
        above: u32,
        /// What we know of.
        used: u32,
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
    /// No connection came about; nothing was sent.
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
    /// The meter answers, but does not prove that it has the keys.
    #[error("the meter does not prove that it has the keys")]
    MeterUnproven,
    /// The counter was used before; the lowest that will do, where the meter tells.
    #[error("the meter has seen a higher counter")]
    StaleCounter(Option<u32>),
    /// The association is refused for another reason.
    #[error("the meter refuses the association (`{0}`)")]
    AssociationRefused(u8),
    /// The meter understood, and does not want to.
    #[error("the meter refuses with result `{0}`")]
    Denied(u8),
    /// Another meter answers.
    #[error("a meter with system title `{0}` answers")]
    WrongMeter(SystemTitle),
    /// The answer is none to what was asked.
    #[error("the answer of the meter cannot be understood")]
    Garbled,
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
