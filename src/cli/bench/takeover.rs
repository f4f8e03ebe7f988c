//! `bench --scenario takeover`: the shipped head end against simulated meters in a process of their own and the real
//! service in this one, beside the limit of the same run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::line::{Echo, Limit};
use super::plan::{Planner, Point};
use super::{children_cpu, usage};
use crate::cli::demo::market::{Market, Supplier};
use crate::cli::exit::Failure;
use crate::cli::key::file as key_file;
use crate::cli::output::Row;
use crate::identity::{Identity, Subject};
use crate::types::Timestamp;

/// How takeovers are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) meters: u32,
    pub(super) at_once: usize,
    pub(super) latency: Duration,
    /// The number of the first meter.
    pub(super) first: u32,
}

/// What takeovers cost.
#[derive(Debug, serde::Serialize)]
pub(super) struct TakeoverFigure {
    meters: u32,
    at_once: usize,
    latency_ms: u128,
    seconds: f64,
    per_minute: f64,
    /// CPU of the head end for a meter, in milliseconds.
    cpu_ms: f64,
    /// The most memory that the head end had, in MiB.
    rss_mib: f64,
    /// Messages to a meter, each answered.
    round_trips: f64,
    connections: f64,
    /// CPU of the service for a meter, in milliseconds.
    service_cpu_ms: f64,
    /// The same connections and messages without a protocol, and the same cryptography: CPU for a meter.
    limit_cpu_ms: f64,
    limit_seconds: f64,
    /// CPU as a multiple of the limit's.
    of_limit: f64,
}

impl Row for TakeoverFigure {
    const COLUMNS: &'static [&'static str] = &[
        "meters",
        "at_once",
        "latency_ms",
        "seconds",
        "per_minute",
        "cpu_ms",
        "rss_mib",
        "round_trips",
        "connections",
        "service_cpu_ms",
        "limit_cpu_ms",
        "limit_seconds",
        "of_limit",
    ];

    fn cells(&self) -> Vec<String> {
        let tenths = |value: f64| format!("{value:.1}");
        vec![
            self.meters.to_string(),
            self.at_once.to_string(),
            self.latency_ms.to_string(),
            tenths(self.seconds),
            format!("{:.0}", self.per_minute),
            format!("{:.2}", self.cpu_ms),
            tenths(self.rss_mib),
            tenths(self.round_trips),
            tenths(self.connections),
            format!("{:.2}", self.service_cpu_ms),
            format!("{:.2}", self.limit_cpu_ms),
            tenths(self.limit_seconds),
            format!("{:.2}", self.of_limit),
        ]
    }
}

/// What a simulated meter says of its life.
#[derive(Deserialize)]
struct Life {
    connections: u32,
    messages: u32,
    keys_seen: [u32; 4],
    nonce_reuses: u32,
}

/// Measures one night.
pub(super) async fn measure(
    market: &Market,
    planner: &Planner<'_>,
    setup: Setup,
) -> Result<TakeoverFigure, Failure> {
    let folder = tempfile::tempdir_in(&market.folder).map_err(Failure::failed)?;
    let folder = folder.path();
    let mut meters = simulate(folder, setup).await?;
    let gainer = planner.gainer()?;
    hand_over(planner, gainer, folder).await?;
    configure(market, gainer, planner.now(), folder)?;

    let (before, children) = (usage()?, children_cpu()?);
    let began = Instant::now();
    let rss_mib = take_over(folder, setup).await?;
    let seconds = began.elapsed().as_secs_f64();
    let head_end = children_cpu()?.saturating_sub(children);
    let service = usage()?.cpu.saturating_sub(before.cpu);

    stop(&mut meters).await?;
    let lives = fs::read(folder.join("lives.json")).map_err(Failure::failed)?;
    let lives: Vec<Life> = serde_json::from_slice(&lives).map_err(Failure::failed)?;
    if lives.iter().any(|life| life.nonce_reuses > 0) {
        return Err(Failure::failed("a nonce was used twice"));
    }
    let limit = limit(&lives, setup).await?;
    let a_meter = |cpu: Duration| cpu.as_secs_f64() * 1e3 / f64::from(setup.meters);
    let mean = |sum: u32| f64::from(sum) / f64::from(setup.meters);
    let limit_cpu = limit.line_cpu + limit.crypto_cpu;
    Ok(TakeoverFigure {
        meters: setup.meters,
        at_once: setup.at_once,
        latency_ms: setup.latency.as_millis(),
        seconds,
        per_minute: f64::from(setup.meters) * 60.0 / seconds,
        cpu_ms: a_meter(head_end),
        rss_mib,
        round_trips: mean(lives.iter().map(|life| life.messages).sum()),
        connections: mean(lives.iter().map(|life| life.connections).sum()),
        service_cpu_ms: a_meter(service),
        limit_cpu_ms: a_meter(limit_cpu),
        limit_seconds: limit.seconds,
        of_limit: head_end.as_secs_f64() / limit_cpu.as_secs_f64(),
    })
}

/// This program with other arguments.
fn program(folder: &Path) -> Result<Command, Failure> {
    let binary = std::env::current_exe().map_err(Failure::failed)?;
    let mut command = Command::new(binary);
    command.current_dir(folder).kill_on_drop(true);
    Ok(command)
}

/// Starts the meters, and waits until they listen.
async fn simulate(folder: &Path, setup: Setup) -> Result<Child, Failure> {
    let mut meters = program(folder)?
        .args([
            "meter",
            "simulate",
            "-o",
            "csv",
            "--seed-file",
            "seeds.ndjson",
        ])
        .args([
            "--report",
            "lives.json",
            "--count",
            &setup.meters.to_string(),
        ])
        .args(["--first", &setup.first.to_string()])
        .args(["--latency", &setup.latency.as_millis().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::failed)?;
    let talk = meters.stderr.take();
    let talk = talk.ok_or_else(|| Failure::failed("the meters say nothing"))?;
    let said = BufReader::new(talk).lines().next_line().await;
    match said.map_err(Failure::failed)? {
        Some(line) if line.ends_with("interrupt to end") => Ok(meters),
        said => Err(Failure::failed(said.unwrap_or_default())),
    }
}

/// Registers, deposits and releases every meter, and lists the releases.
async fn hand_over(planner: &Planner<'_>, gainer: &Supplier, folder: &Path) -> Result<(), Failure> {
    let seeds = fs::read_to_string(folder.join("seeds.ndjson")).map_err(Failure::failed)?;
    let points: Vec<_> = seeds
        .lines()
        .map(Point::of_seed)
        .collect::<Result<_, _>>()?;
    planner.register(&points).await?;
    planner.deposit(&points).await?;
    let lines: Vec<String> = stream::iter(&points)
        .map(|point| release(point, gainer, folder))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    fs::write(folder.join("releases.ndjson"), lines.join("\n")).map_err(Failure::failed)
}

/// Fetches one release into a file; its line in the list.
async fn release(point: &Point, gainer: &Supplier, folder: &Path) -> Result<String, Failure> {
    let handover = point.handover();
    let request = json!({ "meter_serial": point.serial() });
    let key = format!("take-{handover}");
    let released = gainer.client.release(handover, &request, &key).await?;
    let name = format!("{handover}.release");
    fs::write(folder.join(&name), &released.bytes).map_err(Failure::failed)?;
    Ok(json!({ "release": name }).to_string())
}

/// Writes what the head end needs to speak for the gaining supplier.
fn configure(
    market: &Market,
    gainer: &Supplier,
    now: Timestamp,
    folder: &Path,
) -> Result<(), Failure> {
    let identity = Identity::party(gainer.party.clone());
    let write = |subject: Subject, name: &str| -> Result<PathBuf, Failure> {
        let (chain, _) = market.write_identity(&subject, name, now)?;
        Ok(chain)
    };
    let cert = write(Subject::Client(identity.clone()), "bench-head-end")?;
    let signing = write(Subject::Signer(identity), "bench-head-end-signing")?;
    key_file::write(&folder.join("gainer.key"), &gainer.sealing)?;
    let root = market.root_file();
    let config = format!(
        "url = \"https://localhost:{}\"\ncert = {cert:?}\nsigning_cert = {signing:?}\nroots = {root:?}\n\
         lists = {:?}\nlog_key = \"{}\"\nstate_dir = \"state\"\nkeys = \"keys\"\n",
        market.instance.address.port(),
        root.with_file_name("lists.pem"),
        market.instance.escrow.log_key(),
    );
    fs::write(folder.join("config.toml"), config).map_err(Failure::failed)
}

/// Runs the head end to its end; the most memory that it had, in MiB.
async fn take_over(folder: &Path, setup: Setup) -> Result<f64, Failure> {
    let mut head_end = program(folder)?
        .args(["meter", "takeover", "--from", "releases.ndjson", "-q"])
        .args(["--config", "config.toml", "--sealing-key", "gainer.key"])
        .args(["--journal", "night.db", "--journal-key", "night.key"])
        .args([
            "--report",
            "night.csv",
            "--concurrency",
            &setup.at_once.to_string(),
        ])
        .stdout(Stdio::null())
        .spawn()
        .map_err(Failure::failed)?;
    let status = head_end.id().map(|id| format!("/proc/{id}/status"));
    let status = status.ok_or_else(|| Failure::failed("the head end is gone"))?;
    let mut kib = 0;
    loop {
        // Gone between two looks, it had no more than at the last one.
        let seen = fs::read_to_string(&status).unwrap_or_default();
        let most = seen.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let most = most.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok());
        kib = kib.max(most.unwrap_or(0_u32));
        tokio::select! {
            ended = head_end.wait() => {
                let ended = ended.map_err(Failure::failed)?;
                let failed = || Failure::failed(format!("the head end ended with {ended}"));
                return ended.success().then_some(f64::from(kib) / 1024.0).ok_or_else(failed);
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Has the meters write down their lives.
async fn stop(meters: &mut Child) -> Result<(), Failure> {
    use rustix::process::{Pid, Signal, kill_process};
    let id = meters.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw);
    let id = id.ok_or_else(|| Failure::failed("the meters are gone"))?;
    kill_process(id, Signal::TERM).map_err(Failure::failed)?;
    meters.wait().await.map(drop).map_err(Failure::failed)
}

async fn limit(lives: &[Life], setup: Setup) -> Result<Limit, Failure> {
    let echo = Echo::start(setup.latency).await?;
    let each = |of: fn(&Life) -> u32| {
        let sum: u32 = lives.iter().map(of).sum();
        sum.div_ceil(setup.meters.max(1)).to_string()
    };
    let output = program(Path::new("."))?
        .arg("bench-line")
        .args(["--address", &echo.address.to_string()])
        .args(["--meters", &setup.meters.to_string()])
        .args(["--connections", &each(|life| life.connections)])
        .args(["--messages", &each(|life| life.messages)])
        .args(["--keys", &each(|life| life.keys_seen.iter().sum())])
        .args(["--at-once", &setup.at_once.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .await
        .map_err(Failure::failed)?;
    serde_json::from_slice(&output.stdout).map_err(Failure::failed)
}

/// Requests at the same time while everything is made ready.
const AT_ONCE: usize = 32;
const LOOK_EVERY: Duration = Duration::from_millis(50);
