//! What happens when: every event's steps, all events together in the order of time.

use std::time::Duration;

use super::events::Event;
use crate::types::Timestamp;

/// One step of one event.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// Of which event.
    pub event: usize,
    /// What.
    pub action: Action,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The losing supplier deposits before any switch is in sight.
    StandingDeposit,
    /// The registration service says that a switch is asked for.
    Pending,
    /// The losing supplier deposits for the handover.
    Deposit,
    /// The same request again: its first answer may have been lost.
    DepositAgain,
    /// The registration is secured.
    Secured,
    /// The losing supplier's objection is upheld.
    Rejected,
    /// The registration is withdrawn.
    Cancelled,
    /// The gaining supplier has read the meter otherwise.
    Dispute,
    /// The requester asks for the package; the outcome is judged.
    Release,
    /// A second switch, away from the gaining supplier, three days later.
    SecondSwitch,
    /// The second gaining supplier asks, and the first losing one tries.
    SecondRelease,
}

/// All steps of all events, in the order of time.
pub fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        steps.extend(of(event).into_iter().map(|(at, action)| Step {
            at,
            event: index,
            action,
        }));
    }
    steps.sort_by_key(|step| step.at);
    steps
}

fn of(event: &Event) -> Vec<(Timestamp, Action)> {
    let gate = event.gate_closure_utc;
    let start = event.effective_utc;
    let asked = gate.before(10 * DAY);
    let normal = [
        (asked, Action::Pending),
        (gate.before(2 * HOUR), Action::Deposit),
        (gate, Action::Secured),
        (start.after(10 * MINUTE), Action::Release),
    ];
    match event.scenario.as_str() {
        "too_early" => replace(
            normal,
            Action::Release,
            &[(gate.after(HOUR), Action::Release)],
        ),
        "objected" => replace(
            normal,
            Action::Secured,
            &[(gate.before(HOUR), Action::Rejected)],
        ),
        "withdrawn_after_secured" => replace(
            normal,
            Action::Secured,
            &[
                (gate, Action::Secured),
                (gate.after(HOUR), Action::Cancelled),
            ],
        ),
        "late_upload" => {
            let late = start.after(4 * HOUR);
            let steps = replace(normal, Action::Deposit, &[(late, Action::Deposit)]);
            replace(
                steps,
                Action::Release,
                &[(late.after(HOUR), Action::Release)],
            )
        }
        "read_disputed" => replace(
            normal,
            Action::Release,
            &[
                (start.after(5 * MINUTE), Action::Dispute),
                (start.after(10 * MINUTE), Action::Release),
            ],
        ),
        "duplicate_upload" => replace(
            normal,
            Action::Deposit,
            &[
                (gate.before(2 * HOUR), Action::Deposit),
                (gate.before(HOUR), Action::DepositAgain),
            ],
        ),
        "solr" => replace(
            normal,
            Action::Deposit,
            &[(asked.before(DAY), Action::StandingDeposit)],
        ),
        "chain_abc_same_week" => {
            let mut steps = normal.to_vec();
            steps.push((start.after(DAY), Action::SecondSwitch));
            steps.push((start.after(3 * DAY + 10 * MINUTE), Action::SecondRelease));
            steps
        }
        _ => normal.to_vec(),
    }
}

fn replace(
    steps: impl IntoIterator<Item = (Timestamp, Action)>,
    what: Action,
    with: &[(Timestamp, Action)],
) -> Vec<(Timestamp, Action)> {
    steps
        .into_iter()
        .flat_map(|step| match step.1 == what {
            true => with.to_vec(),
            false => vec![step],
        })
        .collect()
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// A day of 24 hours.
pub const DAY: Duration = Duration::from_secs(86_400);
