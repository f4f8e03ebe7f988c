//! What the gaining supplier knows of a meter once its package has been released and opened.

use std::fmt;
use std::net::SocketAddr;

use super::link::DeviceId;
use super::secrets::Secrets;
use crate::dlms::obis::Obis;
use crate::dlms::objects::ScalerUnit;
use crate::types::{Component, HandoverId, MeterSerial, PartyId, SupplyPoint, Timestamp};

/// A meter that the escrow has released to us.
pub struct ReleasedMeter {
    /// The change of supplier.
    pub handover: HandoverId,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// The serial number on its plate, which the meter must tell as well.
    pub serial: MeterSerial,
    /// How it may be reached, the likeliest way first; at least one.
    pub ways: Vec<Way>,
    /// When our supply starts, where that is known: the instant of the change-of-supplier read.
    pub supply_start: Option<Timestamp>,
    /// The read that the losing supplier took.
    pub closing_read: Option<Vec<RegisterRead>>,
    /// Where it shall report from now on.
    pub repoint: Option<Repoint>,
}

/// How a meter is reached and what it is, by the word of one generation, and what may be said there.
///
/// INVARIANT: a secret is said only to an address that its own depositor gave, or we: any other could be that of somebody
/// who listens.
pub struct Way {
    /// The generation whose word it is.
    pub generation: u32,
    /// Who gave the address; none if we did.
    pub address_of: Option<PartyId>,
    /// How far it is believed.
    pub belief: Belief,
    /// How to reach it now.
    pub address: SocketAddr,
    /// The name of the profile that fits it.
    pub profile: String,
    /// What it calls itself on the line.
    pub device: DeviceId,
    /// Its logical device name, where it was handed over.
    pub device_name: Option<String>,
    /// Its firmware, where it was handed over.
    pub firmware: Option<String>,
    /// The secrets it may have, the likeliest first.
    pub candidates: Vec<Secrets>,
}

/// How far a way is believed. It is gone only when all that are believed more have led nowhere for good: whoever gives an
/// address may have a meter of its own there, which is taken over as well as any.
#[derive(
    Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Belief {
    /// Signed by who loses the meter, or by ourselves.
    Due,
    /// The same, and nobody signed it.
    Unsigned,
    /// Of somebody who had the meter once.
    Former,
}

/// A part of a release that is not used.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct LeftOut {
    /// Credentials or read.
    pub component: Component,
    /// Which generation.
    pub generation: u32,
    /// Whose, as it says itself.
    pub depositor: PartyId,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            component,
            generation,
            depositor,
            reason,
        } = self;
        let component = component.as_str();
        write!(f, "{component} {generation} of `{depositor}`: {reason}")
    }
}

/// New communication settings of a meter.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Repoint {
    /// The access point name.
    pub apn: String,
    /// Where the meter pushes to, such as `10.9.8.7:5000`.
    pub destination: String,
    /// The port at which the meter listens.
    pub port: u16,
    /// How to reach it afterwards, if not as before.
    pub address: Option<SocketAddr>,
}

/// What one register showed.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct RegisterRead {
    /// The register, by the name that all protocols share.
    pub register: Obis,
    /// The number it showed: number × 10^scaler in the unit.
    pub value: i64,
    /// Scaler and unit.
    #[serde(flatten)]
    pub scaler_unit: ScalerUnit,
    /// When we read it, by our clock.
    pub read_at: Timestamp,
    /// What the meter's clock showed, if it is set.
    pub meter_time: Option<Timestamp>,
}
