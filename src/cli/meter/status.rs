//! `meter status`: the journal as a table, page by page, or its counts.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;

use super::desk::{self, Desk};
use super::ending::Verdict;
use crate::cli::connect::now;
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Row};
use crate::meter::escrow::StopReason;
use crate::meter::journal::{Query, Scope, State, Status};
use crate::types::{HandoverId, MeterSerial, SupplyPoint, Timestamp};

/// What to show.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    desk: desk::Files,
    /// How many are in which state, instead of a list.
    #[arg(long, conflicts_with_all = ["state", "outcome", "after", "limit"])]
    counts: bool,
    /// Only takeovers in this state; may be given several times.
    #[arg(long, value_name = "STATE", value_parser = states())]
    state: Vec<State>,
    /// Only takeovers whose last run ended like this; may be given several times.
    #[arg(long, value_name = "OUTCOME", value_enum)]
    outcome: Vec<Verdict>,
    /// Takeovers on a page.
    #[arg(long, value_name = "N", default_value_t = PAGE)]
    limit: u32,
    /// Go on behind this handover, the last one of the page before.
    #[arg(long, value_name = "HANDOVER")]
    after: Option<HandoverId>,
}

fn states() -> impl clap::builder::TypedValueParser<Value = State> {
    let words = PossibleValuesParser::new(State::ALL.map(State::as_str));
    words.map(|word| {
        let named = State::ALL.into_iter().find(|state| state.as_str() == word);
        named.expect("only words of states are possible")
    })
}

/// How far one takeover is.
#[derive(Serialize)]
struct Line {
    handover: HandoverId,
    serial: MeterSerial,
    supply_point: SupplyPoint,
    network: String,
    state: State,
    stopped: Option<StopReason>,
    /// How the last run ended.
    outcome: Option<String>,
    reason: Option<String>,
    /// Nothing is tried before this time.
    wait_until: Option<Timestamp>,
}

impl Row for Line {
    const COLUMNS: &'static [&'static str] = &[
        "serial",
        "supply_point",
        "handover",
        "state",
        "stopped",
        "outcome",
        "wait_until",
    ];

    fn cells(&self) -> Vec<String> {
        let stopped = self.stopped.map(|reason| reason.to_string());
        let wait_until = self.wait_until.map(|until| until.to_string());
        vec![
            self.serial.to_string(),
            self.supply_point.to_string(),
            self.handover.to_string(),
            self.state.to_string(),
            stopped.unwrap_or_default(),
            self.outcome.clone().unwrap_or_default(),
            wait_until.unwrap_or_default(),
        ]
    }
}

impl Line {
    fn of(status: Status) -> Self {
        let waits = !status.is_over() && status.wait_until > Timestamp::default();
        let (outcome, reason) = status.note.map(|note| (note.outcome, note.reason)).unzip();
        Self {
            wait_until: waits.then_some(status.wait_until),
            handover: status.handover,
            serial: status.serial,
            supply_point: status.supply_point,
            network: status.network,
            state: status.state,
            stopped: status.stopped,
            outcome,
            reason,
        }
    }
}

/// How many takeovers are in one state.
#[derive(Serialize)]
struct Count {
    state: State,
    meters: usize,
}

impl Row for Count {
    const COLUMNS: &'static [&'static str] = &["state", "meters"];

    fn cells(&self) -> Vec<String> {
        vec![self.state.to_string(), self.meters.to_string()]
    }
}

/// Prints a page of a journal, or its counts.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let journal = Desk::look(&arguments.desk).await?.journal;
    let tally = journal.tally(Scope::All, now()).await?;
    let total: usize = tally.states.values().sum();
    let over = tally.states.get(&State::Reported).copied().unwrap_or(0);
    output.note(format!(
        "{over} of {total} takeovers are over, {} wait, {} need people",
        tally.waiting, tally.stopped
    ));
    if arguments.counts {
        let counts = tally.states.into_iter();
        let counts: Vec<_> = counts
            .map(|(state, meters)| Count { state, meters })
            .collect();
        return output.rows(&counts);
    }
    let query = Query {
        scope: Scope::All,
        states: arguments.state.clone(),
        outcomes: arguments
            .outcome
            .iter()
            .map(|o| o.as_str().to_owned())
            .collect(),
        after: arguments.after,
        limit: arguments.limit,
    };
    let page = journal.list(&query).await?;
    let is_full = page.len() == usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    if let Some(last) = page.last().filter(|_| is_full) {
        output.note(format!("there may be more: --after {}", last.handover));
    }
    let lines: Vec<_> = page.into_iter().map(Line::of).collect();
    output.rows(&lines)
}

const PAGE: u32 = 1_000;
