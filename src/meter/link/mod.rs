//! One meter over one line: come in, look, write, change secrets. The takeover says what it wants; a driver a protocol
//! knows how, and the meter's profile knows where.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

pub use any::{AnyLink, MeterDial};
pub use dlms::{DlmsDial, DlmsLink};
pub use iec62056_21::{ModeCDial, ModeCLink};

use super::profile::{Profile, Protocol};
use super::secrets::{Role, Secrets};
use crate::dlms::SystemTitle;
use crate::dlms::obis::Obis;
use crate::dlms::objects::ScalerUnit;
use crate::types::{Digest, Timestamp};

mod any;
mod dlms;
mod error;
mod iec62056_21;
mod transport;

pub use error::{CountersError, LinkError};

/// A line to one meter. It has at most one session; every error but a clear refusal ends it.
pub trait MeterLink: Send {
    /// Ends what there was and comes in anew.
    fn enter(&mut self, login: Login<'_>) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// What the meter shows of what is wanted.
    fn identity(
        &mut self,
        wanted: &[Item],
    ) -> impl Future<Output = Result<Identity, LinkError>> + Send;

    /// What the registers of the change-of-supplier read show, those of the profile that the meter has: what they were
    /// frozen at on the day that begins at `as_of`, where the meter freezes them and still has it; else now.
    fn registers(
        &mut self,
        as_of: Option<Timestamp>,
    ) -> impl Future<Output = Result<Vec<Shown>, LinkError>> + Send;

    /// Reads a setting.
    fn setting(
        &mut self,
        name: SettingName,
    ) -> impl Future<Output = Result<Setting, LinkError>> + Send;

    /// Writes a setting.
    fn set(&mut self, setting: &Setting) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Which secrets the meter has besides the manager's, as the manager sees it: whoever knows them gets in as well.
    fn other_secrets(&mut self) -> impl Future<Output = Result<Vec<Role>, LinkError>> + Send;

    /// Changes secrets. Whatever this returns, the meter may or may not have taken them: even success is only a hint.
    fn change(&mut self, change: Change<'_>) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Ends the session, as far as the meter still listens.
    fn leave(&mut self) -> impl Future<Output = ()> + Send;
}

/// Makes links. Nothing is sent before somebody enters.
pub trait Dial: Send + Sync {
    /// What it makes.
    type Link: MeterLink;

    /// A link to a meter.
    fn dial(&self, station: Station) -> Self::Link;
}

/// Which meter, and where.
#[derive(Clone, Debug)]
pub struct Station {
    /// Where it is.
    pub address: SocketAddr,
    /// What it calls itself.
    pub device: DeviceId,
    /// What is particular to its type.
    pub profile: Arc<Profile>,
}

/// What a meter calls itself on the line.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceId {
    /// A DLMS meter: its answers must carry this.
    SystemTitle(SystemTitle),
    /// A meter of IEC 62056-21: the address that it is called by, empty where it is alone on its line.
    Outstation(String),
}

/// As whom to come in.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// As anybody: name, serial number, counter.
    Anybody,
    /// As the one that may change everything.
    Manager(Credentials<'a>),
    /// As another client of DLMS, or at another level of IEC 62056-21, with this secret of the set.
    Other(Role, &'a Secrets),
}

/// What a manager proves itself with.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The secrets that the meter has.
    pub secrets: &'a Secrets,
    /// The set that the authentication key is from: another one after half a transfer of DLMS keys, else the same.
    pub gak: &'a Secrets,
    /// The counters that the meter has seen: only higher ones will do. For DLMS.
    pub counter_above: u32,
}

/// Something that a meter tells about itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item {
    /// The name that its maker gave it.
    DeviceName,
    /// The serial number on its plate.
    Serial,
    /// Which firmware it runs.
    Firmware,
    /// Its time.
    Clock,
    /// The counter of accepted messages: the last one or the next, as meters differ.
    Counter,
}

/// What a meter told. Nothing where it was not asked, has it not, or does not show it to this client.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Identity {
    /// The name that its maker gave it.
    pub device_name: Option<String>,
    /// The serial number on its plate.
    pub serial: Option<String>,
    /// Which firmware it runs.
    pub firmware: Option<String>,
    /// Its time, if it is set.
    pub clock: Option<Timestamp>,
    /// The counter of accepted messages.
    pub counter: Option<u32>,
}

/// What one register shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// The register, by the name that all protocols share.
    pub register: Obis,
    /// The number: number × 10^scaler in the unit.
    pub value: i64,
    /// Scaler and unit.
    pub scaler_unit: ScalerUnit,
    /// The meter's time for it, if its clock is set.
    pub meter_time: Option<Timestamp>,
}

/// A communication setting of a meter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SettingName {
    /// The access point name.
    Apn,
    /// Where the meter pushes to.
    PushDestination,
    /// The port at which it listens.
    Port,
    /// Where it connects to by itself, first choice first.
    AutoConnect,
}

/// A communication setting and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Setting {
    /// The access point name.
    Apn(String),
    /// Where the meter pushes to, such as `10.9.8.7:5000`.
    PushDestination(String),
    /// The port at which it listens.
    Port(u16),
    /// Where it connects to by itself, first choice first.
    AutoConnect(Vec<String>),
}

impl Setting {
    /// Which setting.
    pub fn name(&self) -> SettingName {
        match self {
            Self::Apn(_) => SettingName::Apn,
            Self::PushDestination(_) => SettingName::PushDestination,
            Self::Port(_) => SettingName::Port,
            Self::AutoConnect(_) => SettingName::AutoConnect,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apn(name) => write!(f, "APN = {name}"),
            Self::PushDestination(destination) => write!(f, "push destination = {destination}"),
            Self::Port(number) => write!(f, "port = {number}"),
            Self::AutoConnect(addresses) => write!(f, "auto-connect = {}", addresses.join(", ")),
        }
    }
}

/// A change of secrets, sent as one request.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// Which secrets.
    pub roles: &'a [Role],
    /// The set they are from.
    pub to: &'a Secrets,
    /// The set whose key encryption key, or password, the meter takes them under.
    pub under: &'a Secrets,
}

/// One call of a link, for people to read.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// Enter as anybody.
    Anybody,
    /// Enter as the manager.
    Manager,
    /// Enter as another client or at another level, with this secret.
    Other(Role),
    /// Read these items, as anybody.
    Told(&'a [Item]),
    /// Read these items, as one who has come in with a secret.
    Identity(&'a [Item]),
    /// Read the registers as of then.
    Registers(Option<Timestamp>),
    /// Look for other clients.
    OtherSecrets,
    /// Read a setting.
    Setting(SettingName),
    /// Write a setting.
    Set(&'a Setting),
    /// Change secrets.
    Change(&'a [Role]),
}

/// What goes out to a meter of this type for a call, secrets redacted: one text a request.
pub fn words(profile: &Profile, said: &Said<'_>) -> Vec<String> {
    match &profile.protocol {
        Protocol::Dlms(profile) => dlms::words(profile, said),
        Protocol::ModeC(profile) => iec62056_21::words(profile, said),
    }
}

/// Hands out invocation counters of DLMS, each of them once.
pub trait Counters: Send + Sync {
    /// Reserves the next block of counters above `above` for one sender under one key, durably, before any is used.
    fn reserve(
        &self,
        key: Digest,
        title: SystemTitle,
        above: u32,
    ) -> impl Future<Output = Result<CounterBlock, CountersError>> + Send;

    /// Notes that the meter proved its keys to somebody who used `counter`: what it said about counters was true so far.
    fn prove(
        &self,
        key: Digest,
        title: SystemTitle,
        counter: u32,
    ) -> impl Future<Output = Result<(), CountersError>> + Send;
}

/// Counters that nobody else has or will have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CounterBlock {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
    /// Whether they are so far above what was ever proven that success with them should be noted.
    pub is_far: bool,
}
