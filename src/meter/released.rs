//! What the gaining supplier knows of a meter once its package has been released and opened.

use std::net::SocketAddr;

use super::link::DeviceId;
use super::secrets::Secrets;
use crate::dlms::obis::Obis;
use crate::dlms::objects::ScalerUnit;
use crate::types::{HandoverId, MeterSerial, SupplyPoint, Timestamp};

/// A meter that the escrow has released to us.
pub struct ReleasedMeter {
    /// The change of supplier.
    pub handover: HandoverId,
    /// Where the meter is.
    pub supply_point: SupplyPoint,
    /// The serial number on its plate, which the meter must tell as well.
    pub serial: MeterSerial,
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
    /// When our supply starts, where that is known: the instant of the change-of-supplier read.
    pub supply_start: Option<Timestamp>,
    /// The secrets it may have, newest generation first.
    pub candidates: Vec<Secrets>,
    /// The read that the losing supplier took.
    pub closing_read: Option<Vec<RegisterRead>>,
    /// Where it shall report from now on.
    pub repoint: Option<Repoint>,
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
