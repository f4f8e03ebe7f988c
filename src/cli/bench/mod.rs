//! `bench`: what a deposit, a release and a handover cost, beside a floor that is measured in the same run.
//!
//! This process is the service; the load comes from a process of its own, so that the CPU time of the service can be
//! told apart. The floor does what nobody can do without: the same TLS, the same HTTP, one AES-GCM, one group commit.

mod line;
mod load;
mod outsider;
mod plan;
mod takeover;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

pub use line::Arguments as LineArguments;
pub use line::run as run_line;
pub use load::Arguments as LoadArguments;
pub use load::run as run_load;

use super::demo::market::Market;
use super::exit::{Exit, Failure};
use super::output::{Output, Row};
use crate::http::Floor;
use crate::tls::{LiveTls, Material, PostQuantum};
use crate::types::{Clock as _, SystemClock, Timestamp};
use load::Measured;
use plan::{Plan, Planner};

/// Measures the service on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cos-escrow bench\n  \
                  cos-escrow bench --scenario release --connections 16 --operations 5000 -o json\n  \
                  cos-escrow bench --outsider --operations 1000\n  \
                  cos-escrow bench --scenario takeover --connections 2000 --operations 4000 --latency 500\n\n\
                  Of takeovers, `--connections` are meters at a time and `--operations` meters.")]
pub struct Arguments {
    /// What to measure; everything but takeovers if nothing is named.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// Connections at the same time; may be given more than once.
    #[arg(long, default_values_t = [1, 16, 64])]
    connections: Vec<usize>,
    /// Operations of each measurement.
    #[arg(long, default_value_t = 2_000)]
    operations: usize,
    /// Instead, compare how long refusals of an outsider take, about what exists and about what does not.
    #[arg(long, conflicts_with_all = ["scenario", "connections"])]
    outsider: bool,
    /// The KEM of the gaining supplier's key.
    #[arg(long, default_value = "x-wing")]
    kem: crate::envelope::Kem,
    /// How long a connection to a simulated meter and each of its answers take.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    latency: u64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Scenario {
    /// A durable write over the same TLS, and nothing else: the floor of deposits and releases.
    Floor,
    /// A deposit, sealed by the depositor, acknowledged with its receipt.
    Deposit,
    /// A release, re-sealed by the service, logged durably first, with its receipt.
    Release,
    /// A release whose stanza the depositor made for the gaining supplier.
    PassThrough,
    /// A new connection with its full handshake, and one small request.
    Handshake,
    /// Taking simulated meters over, from their releases to the confirmations.
    Takeover,
}

impl Scenario {
    const ALL: [Self; 5] = [
        Self::Floor,
        Self::Deposit,
        Self::Release,
        Self::PassThrough,
        Self::Handshake,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Deposit => "deposit",
            Self::Release => "release",
            Self::PassThrough => "pass-through",
            Self::Handshake => "handshake",
            Self::Takeover => "takeover",
        }
    }
}

/// One measurement.
#[derive(Debug, serde::Serialize)]
struct Figure {
    scenario: &'static str,
    connections: usize,
    operations: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_us: f64,
    written_bytes: u64,
    of_floor: Option<f64>,
}

impl Row for Figure {
    const COLUMNS: &'static [&'static str] = &[
        "scenario",
        "connections",
        "per_second",
        "p50_ms",
        "p99_ms",
        "server_cpu_us",
        "written_bytes",
        "of_floor",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.scenario.to_owned(),
            self.connections.to_string(),
            format!("{:.0}", self.per_second),
            format!("{:.2}", self.p50_ms),
            format!("{:.2}", self.p99_ms),
            format!("{:.0}", self.server_cpu_us),
            self.written_bytes.to_string(),
            self.of_floor
                .map_or_else(String::new, |share| format!("{share:.2}")),
        ]
    }
}

/// Runs the measurements, one after the other.
pub async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(Failure::failed)?;
    let now = SystemClock.now();
    let mpids = ["LOSE", "GAIN", "OUTS"].map(|mpid| mpid.parse().expect("a valid MPID"));
    let market = Market::open_with(folder.path(), now, mpids, arguments.kem).await?;
    if arguments.outsider {
        let comparisons = outsider::compare(&market, now, arguments.operations).await?;
        market.instance.stop().await;
        return output.rows(&comparisons);
    }
    if arguments.scenario == [Scenario::Takeover] {
        return takeovers(arguments, &market, now, output).await;
    }
    if arguments.scenario.contains(&Scenario::Takeover) {
        return Err(alone());
    }
    let floor = floor(&market).await?;
    let scenarios = match arguments.scenario.as_slice() {
        [] => Scenario::ALL.to_vec(),
        chosen => chosen.to_vec(),
    };
    let mut planner = Planner::new(&market, now);
    let mut figures: Vec<Figure> = Vec::new();
    for connections in &arguments.connections {
        for scenario in &scenarios {
            output.note(format_args!(
                "{} over {connections} connections: preparing",
                scenario.as_str()
            ));
            let plan = planner
                .plan(*scenario, arguments.operations, floor.address)
                .await?;
            let file = folder.path().join("plan.json");
            plan.write(&file)?;
            let mut figure = measure(*scenario, *connections, &file, &plan).await?;
            let floor = figures
                .iter()
                .find(|f| f.scenario == "floor" && f.connections == *connections);
            figure.of_floor = floor.map(|floor| figure.per_second / floor.per_second);
            figures.push(figure);
        }
    }
    market.instance.stop().await;
    output.rows(&figures)
}

fn alone() -> Failure {
    Failure::new(Exit::Usage, "takeovers are measured on their own")
}

async fn takeovers(
    arguments: &Arguments,
    market: &Market,
    now: Timestamp,
    output: &Output,
) -> Result<(), Failure> {
    super::meter::allow_many_connections();
    let planner = Planner::new(market, now);
    let meters = u32::try_from(arguments.operations).map_err(Failure::failed)?;
    let mut figures = Vec::new();
    for (round, at_once) in (0..).zip(&arguments.connections) {
        output.note(format_args!("{meters} meters, {at_once} at a time"));
        let setup = takeover::Setup {
            meters,
            at_once: *at_once,
            latency: Duration::from_millis(arguments.latency),
            first: 1 + round * meters,
        };
        figures.push(takeover::measure(market, &planner, setup).await?);
    }
    output.rows(&figures)
}

async fn floor(market: &Market) -> Result<Floor, Failure> {
    let material = Material::load(&market.service_files()).map_err(Failure::failed)?;
    let clock = Arc::new(market.clock.clone());
    let tls = LiveTls::new(&material, PostQuantum::Preferred, clock).map_err(Failure::failed)?;
    let file = market.folder.join("floor.log");
    Floor::start(Arc::new(tls), &file)
        .await
        .map_err(Failure::failed)
}

async fn measure(
    scenario: Scenario,
    connections: usize,
    file: &PathBuf,
    plan: &Plan,
) -> Result<Figure, Failure> {
    let binary = std::env::current_exe().map_err(Failure::failed)?;
    let before = usage()?;
    let child = tokio::process::Command::new(binary)
        .arg("bench-load")
        .arg("--plan")
        .arg(file)
        .arg("--connections")
        .arg(connections.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(Failure::failed)?;
    let after = usage()?;
    if !child.status.success() {
        return Err(Failure::failed("the load generator failed"));
    }
    let measured: Measured = serde_json::from_slice(&child.stdout).map_err(Failure::failed)?;
    let operations = plan.requests.len();
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are small")]
    let count = operations as f64;
    Ok(Figure {
        scenario: scenario.as_str(),
        connections,
        operations,
        per_second: count / measured.seconds,
        p50_ms: measured.p50_ms,
        p99_ms: measured.p99_ms,
        server_cpu_us: (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6 / count,
        written_bytes: (after.written - before.written) / operations as u64,
        of_floor: None,
    })
}

/// What this process has used so far.
struct Usage {
    cpu: Duration,
    written: u64,
}

fn usage() -> Result<Usage, Failure> {
    let io = std::fs::read_to_string("/proc/self/io").map_err(Failure::failed)?;
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok());
    Ok(Usage {
        cpu: cpu_at(14)?,
        written: written.ok_or_else(unexpected)?,
    })
}

/// The CPU time of the children that have ended.
fn children_cpu() -> Result<Duration, Failure> {
    cpu_at(16)
}

/// User and system time in `/proc/self/stat`: the field of this number, and the one after it.
fn cpu_at(number: usize) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(Failure::failed)?;
    // The first two fields are the id and the name, which may hold spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or_else(unexpected)?;
    let mut ticks = fields
        .split_whitespace()
        .skip(number - 3)
        .map(str::parse::<u64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(Duration::from_millis((user + system) * 10)),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Failure {
    Failure::failed("/proc/self does not read as expected")
}

/// When the measured handovers take effect: their window has just opened.
fn effective(now: Timestamp) -> Timestamp {
    now.before(Duration::from_secs(2 * 86_400))
}
