//! `meter simulate`: meters to practise on, and the packages that a losing supplier would deposit for them.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use zeroize::Zeroizing;

use super::interrupted;
use super::releases::{Loaded, SealingKeys};
use super::sim_report::lives;
use crate::cli::config::{self, Settings};
use crate::cli::exit::{Exit, Failure};
use crate::cli::files::NewFile;
use crate::cli::output::{Output, Row};
use crate::dlms::SystemTitle;
use crate::envelope::package::{Credential, Meter, Package, SecretText, Text};
use crate::types::{MeterSerial, Secret, SupplyPoint};
use seed::MAKE;

pub use seed::{AnySimulator, Seed};

mod seed;

/// Which meters.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Arguments {
    /// How many meters.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "release",
        value_parser = clap::value_parser!(u32).range(1..=MAX_METERS)
    )]
    count: u32,
    /// The number of the first: serials, system titles and supply points follow from it.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "release"
    )]
    first: u32,
    /// The address to listen at.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// The port of the first meter, the next ones following; any free ports by default.
    #[arg(long, value_name = "PORT")]
    port_base: Option<NonZeroU16>,
    /// Be the meter that this release is about, with the keys in it; may be given several times.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    release: Vec<PathBuf>,
    /// The sealing key that opens it; by default the one that fits from the folder for keys.
    #[arg(long, visible_alias = "key", value_name = "FILE")]
    sealing_key: Option<PathBuf>,
    /// What they speak; what a release is about speaks what its package says.
    #[arg(long, value_enum, default_value_t = Speaks::Dlms, conflicts_with = "release")]
    protocol: Speaks,
    /// Give every DLMS meter a reader with a password and an installer with keys of its own, handed over as well.
    #[arg(long, conflicts_with = "release")]
    other_clients: bool,
    /// What every meter does wrong; may be given several times.
    #[arg(long, value_name = "NAME")]
    fault: Vec<String>,
    /// The new file for the packages of the meters, with their keys.
    #[arg(long, value_name = "FILE", conflicts_with = "release")]
    seed_file: Option<PathBuf>,
    /// How long a connection and each answer take, of DLMS meters.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    latency: u64,
    /// The new file for what the DLMS meters have seen, written at the end.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    offline: config::Offline,
}

impl Arguments {
    fn bind(&self, index: u32) -> Result<SocketAddr, Failure> {
        Ok(SocketAddr::new(self.bind, port(self.port_base, index)?))
    }

    fn faults(&self) -> Vec<&str> {
        self.fault.iter().map(String::as_str).collect()
    }
}

/// What simulated meters speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Speaks {
    /// DLMS/COSEM.
    Dlms,
    /// IEC 62056-21 mode C, with passwords.
    #[value(name = "iec62056-21")]
    ModeC,
    /// Every second one mode C.
    Mixed,
}

/// A meter that runs.
pub struct Simulated {
    /// What it is.
    pub label: Label,
    /// The meter.
    pub simulator: AnySimulator,
}

/// What a simulated meter is.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    /// Its serial.
    pub serial: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is called by on its line: a system title, or an outstation address.
    pub device: String,
    /// Where it would be.
    pub supply_point: SupplyPoint,
}

impl Row for Label {
    const COLUMNS: &'static [&'static str] = &["serial", "address", "device", "supply_point"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.serial.clone(),
            self.address.to_string(),
            self.device.clone(),
            self.supply_point.to_string(),
        ]
    }
}

/// Runs meters until interrupted.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let interrupted = interrupted()?;
    let seed_file = arguments.seed_file.as_deref();
    let seed_file = seed_file.map(NewFile::create).transpose()?;
    let report = arguments.report.as_deref();
    let report = report.map(NewFile::create).transpose()?;
    let meters = match arguments.release.is_empty() {
        false => {
            let settings = Settings::offline(&arguments.offline)?;
            let keys = SealingKeys::new(arguments.sealing_key.as_deref(), &settings.keys)?;
            released(arguments, &keys).await?
        }
        true => {
            let (meters, seeds) = invented(arguments).await?;
            if let Some(file) = seed_file {
                file.write(seeds.expose())?;
            }
            meters
        }
    };
    let latency = Duration::from_millis(arguments.latency);
    for meter in meters.iter().filter_map(|meter| meter.simulator.dlms()) {
        meter.set_latency(latency);
    }
    let labels: Vec<_> = meters.iter().map(|meter| meter.label.clone()).collect();
    output.rows(&labels)?;
    output.note(format!("{} meters listen; interrupt to end", meters.len()));
    interrupted.await;
    let Some(report) = report else {
        return Ok(());
    };
    let seen = meters.iter().filter_map(|meter| {
        let serial = meter.label.serial.as_str();
        Some((serial, meter.simulator.dlms()?))
    });
    report.write(lives(seen)?.expose())
}

async fn released(arguments: &Arguments, keys: &SealingKeys) -> Result<Vec<Simulated>, Failure> {
    let mut meters = Vec::new();
    for (index, path) in (0..).zip(&arguments.release) {
        let loaded = Loaded::read(path, keys)?;
        meters.push(like(&loaded, arguments.bind(index)?, &arguments.faults()).await?);
    }
    Ok(meters)
}

/// Starts the meter that a release is about: it has the secrets that were deposited, and shows what was read off it.
pub async fn like(
    loaded: &Loaded,
    bind: SocketAddr,
    faults: &[&str],
) -> Result<Simulated, Failure> {
    let generation = loaded.opened.generations.first();
    let generation = generation.ok_or_else(|| Failure::failed("the release holds no package"))?;
    let supply_point = generation.package.supply_point.clone();
    start(bind, Seed::like(&loaded.opened)?, supply_point, faults).await
}

/// Starts new meters, and makes a record a line for a losing supplier to deposit.
async fn invented(arguments: &Arguments) -> Result<(Vec<Simulated>, Secret), Failure> {
    let mut meters = Vec::new();
    // Grows by doubling, which would leave copies behind: so it is as long as it may get.
    let capacity = usize::try_from(arguments.count).map_err(Failure::failed)? * RECORD_BYTES;
    let mut records = Zeroizing::new(Vec::with_capacity(capacity));
    for index in 0..arguments.count {
        let number = arguments.first.checked_add(index);
        let number = number.ok_or_else(|| Failure::new(Exit::Usage, "too many meters"))?;
        let is_mode_c = match arguments.protocol {
            Speaks::Dlms => false,
            Speaks::ModeC => true,
            Speaks::Mixed => index % 2 == 1,
        };
        let (serial, title) = (serial(number), system_title(number));
        let (seed, credentials) = match (is_mode_c, arguments.other_clients) {
            (true, _) => Seed::mode_c(&serial)?,
            (false, true) => Seed::dlms_with_others(&serial, title),
            (false, false) => Seed::dlms(&serial, title),
        };
        let (bind, faults) = (arguments.bind(index)?, arguments.faults());
        let meter = start(bind, seed, supply_point(number)?, &faults).await?;
        let package = package(&meter.label, credentials)?.to_json();
        for part in [b"{\"package\":", package.expose(), b"}\n"] {
            records.write_all(part).map_err(Failure::failed)?;
        }
        meters.push(meter);
    }
    Ok((meters, Secret::new(std::mem::take(&mut records))))
}

async fn start(
    bind: SocketAddr,
    seed: Seed,
    supply_point: SupplyPoint,
    faults: &[&str],
) -> Result<Simulated, Failure> {
    let (serial, device) = (seed.serial().to_owned(), seed.device());
    let simulator = seed.start(bind, faults).await?;
    let label = Label {
        serial,
        address: simulator.address(),
        device,
        supply_point,
    };
    Ok(Simulated { label, simulator })
}

fn port(base: Option<NonZeroU16>, index: u32) -> Result<u16, Failure> {
    let Some(base) = base else {
        return Ok(0);
    };
    let port = u32::from(base.get()).saturating_add(index);
    u16::try_from(port).map_err(|_| {
        let message = format!("meter {} has no port: 65535 is the last", index + 1);
        Failure::new(Exit::Usage, message)
    })
}

fn serial(number: u32) -> String {
    format!("SIM{number:07}")
}

/// `SIM` and the number.
fn system_title(number: u32) -> SystemTitle {
    let [a, b, c, d] = number.to_be_bytes();
    SystemTitle([b'S', b'I', b'M', 0, a, b, c, d])
}

/// Numbers that begin with 99 are no distributor's.
fn supply_point(number: u32) -> Result<SupplyPoint, Failure> {
    let mut candidates = (0..10).map(|check| format!("99{number:010}{check}"));
    candidates
        .find_map(|digits| digits.parse().ok())
        .ok_or_else(|| Failure::failed("no check digit holds"))
}

fn package(label: &Label, credentials: Vec<Credential>) -> Result<Package, Failure> {
    let serial: MeterSerial = label.serial.parse().map_err(Failure::failed)?;
    let make = MAKE.parse().map_err(Failure::failed)?;
    let mut meter = Meter::of(serial, make);
    if let [Credential::Password(_)] = credentials[..] {
        meter.outstation_id = Text::from_text(&label.device);
    }
    let mut package = Package::of(label.supply_point.clone(), meter);
    package.comms.address = SecretText::from_text(&label.address.ip().to_string());
    package.comms.port = NonZeroU16::new(label.address.port());
    package.credentials = credentials;
    Ok(package)
}

/// As many as an address has ports.
const MAX_METERS: i64 = 65_535;
/// More than a record takes.
const RECORD_BYTES: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_meter_of_its_own_at_a_valid_supply_point() {
        let points: std::collections::BTreeSet<_> = (0..2_000)
            .map(|number| supply_point(number).unwrap())
            .collect();
        assert_eq!(points.len(), 2_000);
        assert!(supply_point(u32::MAX).is_ok());
        assert_eq!(serial(17), "SIM0000017");
        assert_eq!(system_title(258).to_string(), "53494D0000000102");
    }

    #[test]
    fn ports_follow_each_other_and_end() {
        let base = NonZeroU16::new(65_534);
        assert_eq!(port(base, 1).unwrap(), 65_535);
        assert_eq!(port(base, 2).unwrap_err().exit, Exit::Usage);
        assert_eq!(port(None, 70_000).unwrap(), 0);
    }
}
