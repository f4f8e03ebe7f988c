//! `meter status`: the journal as a table.

use serde::Serialize;

use super::desk::{Desk, Files};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Row};
use crate::meter::escrow::StopReason;
use crate::meter::journal::{JournalSettings, State, Status};
use crate::types::{HandoverId, MeterSerial, SupplyPoint, Timestamp};

/// How far one takeover is.
#[derive(Serialize)]
struct Line {
    handover: HandoverId,
    serial: MeterSerial,
    supply_point: SupplyPoint,
    state: State,
    stopped: Option<StopReason>,
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
            wait_until.unwrap_or_default(),
        ]
    }
}

impl Line {
    fn of(status: Status) -> Self {
        let waits = !status.is_over() && status.wait_until > Timestamp::default();
        Self {
            wait_until: waits.then_some(status.wait_until),
            handover: status.handover,
            serial: status.serial,
            supply_point: status.supply_point,
            state: status.state,
            stopped: status.stopped,
        }
    }
}

/// Prints every takeover of a journal.
pub(super) async fn run(files: &Files, output: &Output) -> Result<(), Failure> {
    let desk = Desk::open(files, JournalSettings::default()).await?;
    let takeovers = desk.journal.list().await?;
    let over = takeovers
        .iter()
        .filter(|takeover| takeover.is_over())
        .count();
    output.note(format!("{over} of {} takeovers are over", takeovers.len()));
    let lines: Vec<_> = takeovers.into_iter().map(Line::of).collect();
    output.rows(&lines)
}
