//! How takeovers ended, for people and scripts: one row a meter, one exit code for the night.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Row;
use crate::meter::escrow::{EscrowError, Path, Report, StopReason};
use crate::meter::journal::{JournalError, Status};
use crate::meter::takeover::{Outcome, TakeoverError};
use crate::types::{HandoverId, MeterSerial, SupplyPoint, Timestamp};

/// How the run of one takeover ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// New keys work, the released ones are refused, the escrow knows.
    Rotated,
    /// The released keys open the meter, but it keeps them; the escrow knows.
    NotRotatable,
    /// The released keys do not open this meter; the escrow knows, and the losing supplier has to deposit again.
    Rejected,
    /// It goes no further without people at the meter.
    Stopped,
    /// The release cannot be used, or the escrow refuses.
    Refused,
    /// The release, or what the escrow or its log says, does not verify; the meter is left as it is.
    Tampered,
    /// It goes on later.
    Waiting,
    /// Another worker has the meter, or had it until it died.
    Busy,
    /// Something failed on our side.
    Failed,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::NotRotatable => "not_rotatable",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
            Self::Tampered => "tampered",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::Rotated => Exit::Ok,
            Self::NotRotatable | Self::Rejected | Self::Stopped | Self::Refused => Exit::Refused,
            Self::Tampered => Exit::Unverified,
            Self::Waiting | Self::Busy => Exit::TryAgain,
            Self::Failed => Exit::Failed,
        }
    }
}

/// How the takeover of one meter ended.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// The handover, if the release could be read so far.
    pub handover: Option<HandoverId>,
    /// The serial of the meter.
    pub serial: Option<MeterSerial>,
    /// Where it is.
    pub supply_point: Option<SupplyPoint>,
    /// How it ended.
    pub outcome: Verdict,
    /// Why, or what is left to know.
    pub reason: String,
    /// When to go on.
    pub wait_until: Option<Timestamp>,
}

impl Row for Ending {
    const COLUMNS: &'static [&'static str] = &["serial", "supply_point", "outcome", "reason"];

    fn cells(&self) -> Vec<String> {
        let serial = self.serial.as_ref().map(ToString::to_string);
        let supply_point = self.supply_point.as_ref().map(ToString::to_string);
        vec![
            serial.unwrap_or_default(),
            supply_point.unwrap_or_default(),
            self.outcome.as_str().to_owned(),
            self.reason.clone(),
        ]
    }
}

impl Ending {
    /// The ending of a run.
    pub fn of_run(
        handover: HandoverId,
        known: &BTreeMap<HandoverId, Status>,
        outcome: &Result<Outcome, TakeoverError>,
    ) -> Self {
        let (verdict, reason, wait_until) = match outcome {
            Ok(outcome) => of_outcome(outcome),
            Err(error) => (of_error(error), error.to_string(), None),
        };
        let status = known.get(&handover);
        Self {
            handover: Some(handover),
            serial: status.map(|status| status.serial.clone()),
            supply_point: status.map(|status| status.supply_point.clone()),
            outcome: verdict,
            reason,
            wait_until,
        }
    }

    /// The ending of a takeover that could not begin.
    pub fn of_failure(handover: Option<HandoverId>, failure: &Failure) -> Self {
        Self {
            handover,
            serial: None,
            supply_point: None,
            outcome: match failure.exit {
                Exit::TryAgain => Verdict::Waiting,
                Exit::Failed => Verdict::Failed,
                Exit::Unverified => Verdict::Tampered,
                _ => Verdict::Refused,
            },
            reason: failure.message.clone(),
            wait_until: None,
        }
    }

    /// The same, of a meter that is known.
    #[must_use]
    pub fn about(self, serial: MeterSerial, supply_point: SupplyPoint) -> Self {
        Self {
            serial: Some(serial),
            supply_point: Some(supply_point),
            ..self
        }
    }
}

fn of_outcome(outcome: &Outcome) -> (Verdict, String, Option<Timestamp>) {
    match outcome {
        Outcome::Done(report) => {
            let (verdict, reason) = of_report(report);
            (verdict, reason, None)
        }
        Outcome::Waiting { until, cause } => {
            let cause = cause.as_ref().map(|cause| format!("{cause}, "));
            let reason = format!("{}not before {until}", cause.unwrap_or_default());
            (Verdict::Waiting, reason, Some(*until))
        }
        Outcome::Stopped(reason) => (Verdict::Stopped, explained(*reason).to_owned(), None),
        Outcome::Busy => (
            Verdict::Busy,
            "another worker has the meter".to_owned(),
            None,
        ),
    }
}

fn of_report(report: &Report) -> (Verdict, String) {
    match report {
        Report::Rejected(reason) => (Verdict::Rejected, explained(*reason).to_owned()),
        Report::CannotRotate(reason) => (Verdict::NotRotatable, explained(*reason).to_owned()),
        Report::Rotated {
            path, stays_open, ..
        } => {
            let mut notes = Vec::new();
            if *path == Path::Losing {
                notes.push("over the losing supplier's path".to_owned());
            }
            if !stays_open.is_empty() {
                let names: Vec<_> = stays_open.iter().map(ToString::to_string).collect();
                notes.push(format!("stays open: {}", names.join(", ")));
            }
            (Verdict::Rotated, notes.join("; "))
        }
    }
}

fn of_error(error: &TakeoverError) -> Verdict {
    match error {
        TakeoverError::Escrow(EscrowError::Unavailable(_))
        | TakeoverError::Journal(JournalError::LeaseLost) => Verdict::Waiting,
        TakeoverError::Escrow(EscrowError::Refused(_)) => Verdict::Refused,
        TakeoverError::Escrow(EscrowError::Tampered(_)) => Verdict::Tampered,
        TakeoverError::Journal(_) | TakeoverError::NoProfile(_) => Verdict::Failed,
    }
}

fn explained(reason: StopReason) -> &'static str {
    match reason {
        StopReason::WrongMeter => "another meter answers at the address",
        StopReason::WrongFirmware => "the meter runs another firmware than the package says",
        StopReason::WrongKeys => "no released key set opens the meter",
        StopReason::TransferRefused => "the meter refuses new keys",
        StopReason::KekRefused => "the meter refuses the new key encryption key",
        StopReason::OldKeysWork => "the meter still opens to the released keys",
        StopReason::RepointRefused => "the meter refuses the new communication settings",
    }
}

/// What a whole run comes to: tampering first, then people, then our own failures, then what only has to wait.
pub fn verdict(endings: &[Ending]) -> Result<(), Failure> {
    let count = |exit| {
        let such = endings
            .iter()
            .filter(|ending| ending.outcome.exit() == exit);
        such.count()
    };
    let total = endings.len();
    let (tampered, people) = (count(Exit::Unverified), count(Exit::Refused));
    let (failed, later) = (count(Exit::Failed), count(Exit::TryAgain));
    let failure = match (tampered, people, failed, later) {
        (0, 0, 0, 0) => return Ok(()),
        (0, 0, 0, _) => Failure::new(
            Exit::TryAgain,
            format!("{later} of {total} meters have to wait"),
        ),
        (0, 0, ..) => Failure::failed(format!("{failed} of {total} takeovers failed here")),
        (0, ..) => Failure::new(
            Exit::Refused,
            format!("{people} of {total} meters need people"),
        ),
        _ => Failure::new(
            Exit::Unverified,
            format!("{tampered} of {total} takeovers met what does not verify"),
        )
        .hint("keep releases, journal and state folder, and ask an auditor"),
    };
    Err(match failed + later {
        0 => failure,
        _ => failure.hint("`cos-escrow meter resume` goes on with those that are not over"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlms::keys::KeyRole;
    use crate::meter::link::LinkError;
    use crate::meter::secrets::Role;

    fn ending(outcome: &Result<Outcome, TakeoverError>) -> Ending {
        let handover = HandoverId::random(&crate::types::SystemRandom);
        Ending::of_run(handover, &BTreeMap::new(), outcome)
    }

    fn rotated() -> Ending {
        ending(&Ok(Outcome::Done(Report::Rotated {
            generation: 2,
            path: Path::Losing,
            stays_open: vec![Role::Key(KeyRole::Gbek)],
        })))
    }

    fn waiting() -> Ending {
        ending(&Ok(Outcome::Waiting {
            until: Timestamp::from_seconds(1_790_000_000),
            cause: Some(LinkError::Unreachable),
        }))
    }

    fn exit(endings: &[Ending]) -> Exit {
        verdict(endings)
            .err()
            .map_or(Exit::Ok, |failure| failure.exit)
    }

    #[test]
    fn a_night_ends_as_its_worst_meter() {
        let stopped = ending(&Ok(Outcome::Stopped(StopReason::KekRefused)));
        let refused = EscrowError::Refused("no".to_owned());
        let failed = ending(&Err(JournalError::Damaged(String::new()).into()));
        assert_eq!(exit(&[]), Exit::Ok);
        assert_eq!(exit(&[rotated(), rotated()]), Exit::Ok);
        assert_eq!(exit(&[rotated(), waiting()]), Exit::TryAgain);
        assert_eq!(exit(&[waiting(), failed.clone()]), Exit::Failed);
        let people = [failed, stopped.clone(), waiting()];
        assert_eq!(exit(&people), Exit::Refused);
        assert_eq!(exit(&[ending(&Err(refused.into()))]), Exit::Refused);
        let tampered = ending(&Err(EscrowError::Tampered(String::new()).into()));
        assert_eq!(exit(&[stopped, tampered]), Exit::Unverified);
        assert_eq!(exit(&[ending(&Ok(Outcome::Busy))]), Exit::TryAgain);
    }

    #[test]
    fn a_row_says_what_is_left_to_know() {
        let notes = "over the losing supplier's path; stays open: GBEK";
        assert_eq!(rotated().cells(), ["", "", "rotated", notes]);
        let until = "the meter cannot be reached, not before 2026-09-21T14:13:20.000Z";
        assert_eq!(waiting().cells(), ["", "", "waiting", until]);
    }
}
