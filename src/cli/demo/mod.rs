//! `demo`: the whole main job with real parts, on loopback, with throw-away keys.

pub mod events;
mod keep;
pub mod market;
pub mod meters;
pub mod play;
pub mod script;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::{Exit, Failure};
use super::files;
use super::output::{Output, Row};
use crate::types::Mpid;
use events::Event;
use market::Market;
use play::{Handed, Play};

/// Runs the whole main job once: deposits, releases, refusals, takeovers, verification of the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  cos-escrow demo\n  cos-escrow demo --keep ./market")]
pub struct Arguments {
    /// Leave a set-up in this folder that `serve` can run on.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Play the events of this file instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

/// What came of the events of one scenario.
#[derive(Debug, serde::Serialize)]
struct Line {
    scenario: String,
    events: usize,
    expected: String,
    actual: String,
    verdict: &'static str,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] =
        &["scenario", "events", "expected", "actual", "verdict"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.scenario.clone(),
            self.events.to_string(),
            self.expected.clone(),
            self.actual.clone(),
            self.verdict.to_owned(),
        ]
    }
}

impl Row for meters::TakenOver {
    const COLUMNS: &'static [&'static str] = &[
        "serial",
        "protocol",
        "supplier",
        "rotated",
        "old_keys_work",
        "nonce_reuses",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.serial.clone(),
            self.protocol.to_owned(),
            self.supplier.to_string(),
            self.rotated.to_string(),
            self.old_keys_work.to_string(),
            self.nonce_reuses.to_string(),
        ]
    }
}

/// Runs the demo.
pub async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let text = match &arguments.events {
        None => EVENTS.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| files::at(file, &error))?,
    };
    let events = Event::read_all(&text)?;
    let temporary = tempfile::tempdir().map_err(Failure::failed)?;
    let folder = arguments.keep.as_deref().unwrap_or(temporary.path());
    make_empty(folder)?;

    let steps = script::steps(&events);
    let first = steps.first().map(|step| step.at).unwrap_or_default();
    let suppliers: std::collections::BTreeSet<Mpid> = events
        .iter()
        .flat_map(|event| [event.loser, event.gainer, event.requester])
        .collect();
    output.note(format_args!(
        "{} events, {} suppliers; service and data in {}",
        events.len(),
        suppliers.len(),
        folder.display()
    ));
    let opening = first.before(Duration::from_secs(3_600));
    let mut market = Market::open(folder, opening, suppliers).await?;
    output.note(format_args!(
        "the service listens on {}",
        market.instance.address
    ));

    let (outcomes, handed) = play(&mut market, &events, &steps, output).await?;
    let lines = judge(&events, &outcomes);
    output.rows(&lines)?;
    let wrong = (0..events.len())
        .filter(|index| outcomes.get(index) != Some(&events[*index].expect))
        .count();

    let taken = meters::take_over(&market, &events, &handed, (DLMS, PASSWORDS)).await?;
    output.note(format_args!(
        "{} simulated meters were taken over",
        taken.len()
    ));
    output.rows(&taken)?;
    let still_in = taken.iter().filter(|taken| !taken.is_right()).count() + METERS - taken.len();

    market.wait_until(meters::grace_over(&market)).await?;
    let closed = market.instance.escrow.close_confirmed().await;
    let closed = closed.map_err(Failure::failed)?;
    output.note(format_args!(
        "{closed} handovers were closed after their grace, and what the losing suppliers knew is erased"
    ));

    let log = verify::from_outside(&market).await?;
    output.note(format_args!(
        "the auditor's copy of the log verifies offline: {} entries, root {}",
        log.size, log.root
    ));

    let failed = wrong + still_in + usize::from(closed != taken.len());
    let passed = events.len() + METERS + 2 - failed;
    if let Some(example) = handed.first().map(|handed| &events[handed.event]) {
        let log_key = market.instance.escrow.log_key().to_string();
        let mut example = example.clone();
        if arguments.keep.is_some() {
            example = keep::one_more(&mut market, &example).await?;
            keep::write(&market, &example)?;
        }
        let shown = arguments.keep.as_deref().unwrap_or(Path::new("DIR"));
        output.note("the same by hand, after `cos-escrow demo --keep DIR`:");
        for line in keep::command_lines(shown, &log_key, &example) {
            output.note(format_args!("  {line}"));
        }
    }
    market.instance.stop().await;
    output.print(&format!("{passed} passed, {failed} failed\n"))?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(
            Exit::Failed,
            "some outcomes are not the expected ones",
        )),
    }
}

/// Makes the folder of a set-up; one that holds something is somebody's.
fn make_empty(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(Failure::failed)?;
    let mut there = std::fs::read_dir(folder).map_err(Failure::failed)?;
    if there.next().is_some() {
        let message = format!("`{}` is not empty", folder.display());
        return Err(Failure::new(Exit::Usage, message).hint("name a new folder"));
    }
    Ok(())
}

/// Plays all steps; what came of each event, and what was handed out.
async fn play(
    market: &mut Market,
    events: &[Event],
    steps: &[script::Step],
    output: &Output,
) -> Result<(BTreeMap<usize, String>, Vec<Handed>), Failure> {
    let progress = progress(steps.len(), output);
    let mut play = Play::new(market, events);
    play.register_losers().await?;
    for step in steps {
        play.take(step).await.map_err(|failure| {
            let event = &events[step.event];
            let what = format!("{:?} of {} ({})", step.action, event.mpxn, event.scenario);
            Failure::new(failure.exit, format!("{what}: {}", failure.message))
        })?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok((play.outcomes, play.handed))
}

/// Expected beside actual outcome, scenario by scenario.
fn judge(events: &[Event], outcomes: &BTreeMap<usize, String>) -> Vec<Line> {
    let mut lines: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let actual = outcomes.get(&index).map_or("nothing", String::as_str);
        *lines
            .entry((&event.scenario, &event.expect, actual))
            .or_default() += 1;
    }
    lines
        .into_iter()
        .map(|((scenario, expected, actual), events)| Line {
            scenario: scenario.to_owned(),
            events,
            expected: expected.to_owned(),
            actual: actual.to_owned(),
            verdict: if expected == actual { "ok" } else { "WRONG" },
        })
        .collect()
}

fn progress(steps: usize, output: &Output) -> ProgressBar {
    if output.quiet {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {eta} left");
    let bar = ProgressBar::new(steps as u64);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// How many simulated meters are taken over: of DLMS, of IEC 62056-21 with passwords, of both.
const DLMS: usize = 5;
const PASSWORDS: usize = 3;
const METERS: usize = DLMS + PASSWORDS;
/// 100 synthetic events: every scenario, every class of meter.
const EVENTS: &str = include_str!("../../../tests/data/cos_events.jsonl");
