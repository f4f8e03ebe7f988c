//! How takeovers ended, for people and scripts: one row a meter, what it needs next, one exit code for the night.

use serde::Serialize;

use super::releases::Unusable;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Row;
use crate::cli::takeover::Readied;
use crate::meter::escrow::{EscrowError, Path, Report, StopReason};
use crate::meter::fleet::Ended;
use crate::meter::journal::{JournalError, Note, Status};
use crate::meter::released::LeftOut;
use crate::meter::takeover::{Outcome, TakeoverError};
use crate::types::{HandoverId, MeterSerial, PartyId, SupplyPoint, Timestamp};

/// How the run of one takeover ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
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
    /// Nobody has signed what was released, and unsigned is not accepted; the meter is left as it is.
    Unsigned,
    /// The release, or what the escrow or its log says, does not verify; the meter is left as it is.
    Tampered,
    /// It goes on later.
    Waiting,
    /// Another worker has the meter, or had it until it died.
    Busy,
    /// Something failed on our side.
    Failed,
    /// It has not been run to an end yet.
    Pending,
}

/// What a meter needs next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Somebody has to go there.
    SiteVisit,
    /// The losing supplier has to deposit again.
    NewDeposit,
    /// Somebody has to look into it here.
    Review,
    /// The same command again.
    Retry,
    /// The same command again, but not before a time.
    Wait,
    /// Nothing.
    Nothing,
}

impl Need {
    fn as_str(self) -> &'static str {
        match self {
            Self::SiteVisit => "site_visit",
            Self::NewDeposit => "new_deposit",
            Self::Review => "review",
            Self::Retry => "retry",
            Self::Wait => "wait",
            Self::Nothing => "nothing",
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Verdict {
    const ALL: [Self; 11] = [
        Self::Rotated,
        Self::NotRotatable,
        Self::Rejected,
        Self::Stopped,
        Self::Refused,
        Self::Unsigned,
        Self::Tampered,
        Self::Waiting,
        Self::Busy,
        Self::Failed,
        Self::Pending,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::NotRotatable => "not_rotatable",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
            Self::Unsigned => "unsigned",
            Self::Tampered => "tampered",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }

    fn need(self) -> Need {
        match self {
            Self::Rotated => Need::Nothing,
            Self::NotRotatable | Self::Stopped => Need::SiteVisit,
            Self::Rejected => Need::NewDeposit,
            Self::Refused | Self::Unsigned | Self::Tampered => Need::Review,
            Self::Waiting => Need::Wait,
            Self::Busy | Self::Failed | Self::Pending => Need::Retry,
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::Rotated => Exit::Ok,
            Self::NotRotatable
            | Self::Rejected
            | Self::Stopped
            | Self::Refused
            | Self::Unsigned => Exit::Refused,
            Self::Tampered => Exit::Unverified,
            Self::Waiting | Self::Busy | Self::Pending => Exit::TryAgain,
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
    /// What it needs next.
    pub needs: Need,
    /// Why, or what is left to know.
    pub reason: String,
    /// Whose word led to the meter.
    pub address_of: Option<AddressOf>,
    /// What of the release was not used.
    pub left_out: Vec<LeftOut>,
    /// When to go on.
    pub wait_until: Option<Timestamp>,
}

/// Who said where the meter is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AddressOf {
    /// The depositor.
    pub party: PartyId,
    /// Its generation.
    pub generation: u32,
}

impl Row for Ending {
    const COLUMNS: &'static [&'static str] = &[
        "serial",
        "supply_point",
        "outcome",
        "needs",
        "wait_until",
        "reason",
        "address_of",
        "left_out",
    ];

    fn cells(&self) -> Vec<String> {
        let serial = self.serial.as_ref().map(ToString::to_string);
        let supply_point = self.supply_point.as_ref().map(ToString::to_string);
        let wait_until = self.wait_until.map(|until| until.to_string());
        vec![
            serial.unwrap_or_default(),
            supply_point.unwrap_or_default(),
            self.outcome.as_str().to_owned(),
            self.needs.to_string(),
            wait_until.unwrap_or_default(),
            self.reason.clone(),
            (self.address_of.as_ref())
                .map(|of| format!("generation {} of `{}`", of.generation, of.party))
                .unwrap_or_default(),
            self.left_out
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        ]
    }
}

impl Ending {
    /// The ending of the last run of a takeover, as the journal has it.
    pub fn of_status(status: Status) -> Self {
        let word = status.note.as_ref().map(|note| note.outcome.as_str());
        let known = Verdict::ALL.into_iter().find(|v| Some(v.as_str()) == word);
        let outcome = known.unwrap_or(Verdict::Pending);
        let waits = outcome == Verdict::Waiting && status.wait_until > Timestamp::default();
        Self {
            handover: Some(status.handover),
            serial: Some(status.serial),
            supply_point: Some(status.supply_point),
            outcome,
            needs: match outcome.need() {
                Need::Wait if !waits => Need::Retry,
                need => need,
            },
            reason: status.note.map(|note| note.reason).unwrap_or_default(),
            address_of: (status.address_of)
                .map(|(party, generation)| AddressOf { party, generation }),
            left_out: status.left_out,
            wait_until: waits.then_some(status.wait_until),
        }
    }

    /// The ending of a takeover that could not begin.
    pub fn of_failure(handover: Option<HandoverId>, failure: &Failure) -> Self {
        let outcome = match failure.exit {
            Exit::TryAgain => Verdict::Waiting,
            Exit::Failed => Verdict::Failed,
            Exit::Unverified => Verdict::Tampered,
            _ => Verdict::Refused,
        };
        Self::unbegun(handover, outcome, failure.message.clone())
    }

    /// The ending of a takeover whose release may not be used.
    pub fn of_unusable(handover: HandoverId, release: &Unusable) -> Self {
        let outcome = match release {
            Unusable::Unsigned(_) => Verdict::Unsigned,
            Unusable::Tampered(_) => Verdict::Tampered,
        };
        Self::unbegun(Some(handover), outcome, release.to_string())
    }

    fn unbegun(handover: Option<HandoverId>, outcome: Verdict, reason: String) -> Self {
        Self {
            handover,
            serial: None,
            supply_point: None,
            outcome,
            needs: match outcome.need() {
                Need::Wait => Need::Retry,
                need => need,
            },
            reason,
            address_of: None,
            left_out: Vec::new(),
            wait_until: None,
        }
    }

    /// The same, of a meter that is known.
    #[must_use]
    pub fn about(self, readied: Readied) -> Self {
        Self {
            serial: Some(readied.meter.serial),
            supply_point: Some(readied.meter.supply_point),
            left_out: readied.left_out,
            ..self
        }
    }
}

/// The ending of a run, as the journal keeps it.
pub fn note(ended: &Ended) -> Note {
    let (verdict, reason) = match ended {
        Ok(outcome) => of_outcome(outcome),
        Err(error) => (of_error(error), error.to_string()),
    };
    Note {
        outcome: verdict.as_str().to_owned(),
        reason,
    }
}

fn of_outcome(outcome: &Outcome) -> (Verdict, String) {
    match outcome {
        Outcome::Done(report) => of_report(report),
        Outcome::Waiting { cause, .. } => {
            let cause = cause.as_ref().map(ToString::to_string);
            (Verdict::Waiting, cause.unwrap_or_default())
        }
        Outcome::Stopped(reason) => (Verdict::Stopped, explained(*reason).to_owned()),
        Outcome::Busy => (Verdict::Busy, "another worker has the meter".to_owned()),
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
        TakeoverError::Escrow(EscrowError::Tampered(_))
        | TakeoverError::Journal(JournalError::Sealed(_)) => Verdict::Tampered,
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
    use crate::meter::journal::State;
    use crate::meter::link::LinkError;
    use crate::meter::secrets::Role;

    fn ending(ended: &Ended) -> Ending {
        let wait_until = match ended {
            Ok(Outcome::Waiting { until, .. }) => *until,
            _ => Timestamp::default(),
        };
        Ending::of_status(Status {
            handover: HandoverId::random(&crate::types::SystemRandom),
            supply_point: "9693016118873".parse().unwrap(),
            serial: "E1".parse().unwrap(),
            network: String::new(),
            state: State::Claimed,
            stopped: None,
            wait_until,
            note: Some(note(ended)),
            address_of: Some(("north".parse().unwrap(), 1)),
            left_out: Vec::new(),
        })
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
    fn a_row_says_what_is_left_to_know_and_to_do() {
        let notes = "over the losing supplier's path; stays open: GBEK";
        let north = "generation 1 of `north`";
        let told = ["rotated", "nothing", "", notes, north, ""];
        assert_eq!(rotated().cells()[2..], told);
        let until = "2026-09-21T14:13:20.000Z";
        let cause = "the meter cannot be reached";
        let told = ["waiting", "wait", until, cause, north, ""];
        assert_eq!(waiting().cells()[2..], told);
    }

    #[test]
    fn every_ending_says_who_has_to_do_something() {
        let needs = |ended: Ended| ending(&ended).needs;
        let report = |report| needs(Ok(Outcome::Done(report)));
        let rejected = Report::Rejected(StopReason::WrongKeys);
        assert_eq!(report(rejected), Need::NewDeposit);
        let kept = Report::CannotRotate(StopReason::TransferRefused);
        assert_eq!(report(kept), Need::SiteVisit);
        let unavailable = EscrowError::Unavailable("busy".to_owned());
        assert_eq!(needs(Err(unavailable.into())), Need::Retry);
        let refused = EscrowError::Refused("no".to_owned());
        assert_eq!(needs(Err(refused.into())), Need::Review);
    }
}
