//! The life of one handover, as a function: a state and an event give the next state, or the reason why not.
//!
//! ```text
//! expected ─deposit→ deposited ─grant→ released ─confirm→ confirmed ─grace→ closed
//!    │                   │                └─ rejected (credentials do not open the meter) → deposit again
//!    └─ overdue          ├─ held
//!                        └─ from any of these: withdrawn · superseded · annulled
//! ```
//!
//! INVARIANT: `Released` is reached only by a grant, and `Closed` is never left.

use serde::{Deserialize, Serialize};

use crate::types::Code;

/// Where a handover stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The switch is known; the losing supplier owes a package.
    Expected,
    /// It still owes it after the due time.
    Overdue,
    /// The package is held, sealed.
    Deposited,
    /// It is held back: a dispute or a hold.
    Held,
    /// The gaining supplier has it.
    Released,
    /// It has said that the credentials do not open the meter.
    Rejected,
    /// It has said how the handover ended.
    Confirmed,
    /// The grace period is over; what the losing supplier knew is erased.
    Closed,
    /// The registration was withdrawn.
    Withdrawn,
    /// A later switch has overtaken it.
    Superseded,
    /// The registration was void.
    Annulled,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Expected,
        Self::Overdue,
        Self::Deposited,
        Self::Held,
        Self::Released,
        Self::Rejected,
        Self::Confirmed,
        Self::Closed,
        Self::Withdrawn,
        Self::Superseded,
        Self::Annulled,
    ];

    /// The word in documents, columns and entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Overdue => "overdue",
            Self::Deposited => "deposited",
            Self::Held => "held",
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::Confirmed => "confirmed",
            Self::Closed => "closed",
            Self::Withdrawn => "withdrawn",
            Self::Superseded => "superseded",
            Self::Annulled => "annulled",
        }
    }
}

/// Something that happens to a handover.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The losing supplier's package came in.
    DepositReceived,
    /// It is late.
    DueTimePassed,
    /// The package was granted to the gaining supplier.
    Granted,
    /// The gaining supplier says which of its keys the meter holds now.
    Rotated,
    /// It says that the handover ended otherwise: not wanted, meter exchanged, not rotatable.
    EndedUnrotated,
    /// The gaining supplier says that the credentials do not open the meter.
    CredentialsRejected,
    /// It is held back.
    HoldPlaced,
    /// It is no longer held back.
    HoldLifted,
    /// The registration was withdrawn or objected to.
    RegistrationWithdrawn,
    /// The registration was void.
    RegistrationAnnulled,
    /// The registration came back.
    RegistrationRestored,
    /// A later switch has overtaken it.
    RegistrationSuperseded,
    /// The later switch is void, and the registration in force again.
    SuccessorVoided,
    /// Time to think better of a confirmation has run out.
    GraceOver,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 14] = [
        Self::DepositReceived,
        Self::DueTimePassed,
        Self::Granted,
        Self::Rotated,
        Self::EndedUnrotated,
        Self::CredentialsRejected,
        Self::HoldPlaced,
        Self::HoldLifted,
        Self::RegistrationWithdrawn,
        Self::RegistrationAnnulled,
        Self::RegistrationRestored,
        Self::RegistrationSuperseded,
        Self::SuccessorVoided,
        Self::GraceOver,
    ];
}

/// The state after an event, or why the event does not follow from the state.
pub fn next(state: State, event: Event) -> Result<State, Code> {
    use State::*;
    let next = match (event, state) {
        // A package may come early, late, or again after the first one failed. After the release it changes nothing
        // here: it is a further generation.
        (Event::DepositReceived, Expected | Overdue | Deposited | Rejected) => Deposited,
        (Event::DepositReceived, Held | Released) => state,
        (Event::DueTimePassed, Expected | Overdue) => Overdue,
        // Asking twice is not an error: the first answer may have been lost on the way.
        // What an earlier supplier left may be granted although the losing one still owes its package.
        (Event::Granted, Expected | Overdue | Deposited | Held | Released | Rejected) => Released,
        (Event::Granted, Confirmed) => Confirmed,
        // Nobody changes the keys of a meter that it was never given any for.
        (Event::Rotated, Released | Rejected | Confirmed) => Confirmed,
        // A meter can be exchanged, or not be wanted, before any package came.
        (
            Event::EndedUnrotated,
            Expected | Overdue | Deposited | Held | Released | Rejected | Confirmed,
        ) => Confirmed,
        (Event::CredentialsRejected, Released | Rejected) => Rejected,
        (Event::HoldPlaced, Deposited | Held) => Held,
        (Event::HoldLifted, Held | Deposited) => Deposited,
        (Event::RegistrationWithdrawn, Expected | Overdue | Deposited | Held | Withdrawn) => {
            Withdrawn
        }
        (Event::RegistrationWithdrawn, Released | Rejected | Confirmed) => Withdrawn,
        (Event::RegistrationAnnulled, Closed) => return Err(Code::WrongState),
        (Event::RegistrationAnnulled, _) => Annulled,
        (Event::RegistrationRestored, Withdrawn | Annulled) => Expected,
        (Event::RegistrationSuperseded, Expected | Overdue | Deposited | Held | Released) => {
            Superseded
        }
        (Event::RegistrationSuperseded, Rejected | Superseded) => Superseded,
        (Event::SuccessorVoided, Superseded) => Expected,
        (Event::GraceOver, Confirmed | Closed) => Closed,
        _ => return Err(Code::WrongState),
    };
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(event: Event, target: State) -> Vec<State> {
        State::ALL
            .into_iter()
            .filter(|state| *state != target && next(*state, event) == Ok(target))
            .collect()
    }

    #[test]
    fn released_is_reached_only_by_a_grant() {
        for event in Event::ALL.into_iter().filter(|e| *e != Event::Granted) {
            assert_eq!(reachable(event, State::Released), [], "{event:?}");
        }
        let from = [
            State::Expected,
            State::Overdue,
            State::Deposited,
            State::Held,
            State::Rejected,
        ];
        assert_eq!(reachable(Event::Granted, State::Released), from);
    }

    #[test]
    fn closed_is_never_left_and_is_reached_only_from_confirmed() {
        for event in Event::ALL {
            let after = next(State::Closed, event);
            assert!(matches!(after, Err(_) | Ok(State::Closed)), "{event:?}");
        }
        assert_eq!(
            reachable(Event::GraceOver, State::Closed),
            [State::Confirmed]
        );
    }

    #[test]
    fn an_event_that_is_repeated_changes_nothing() {
        for event in Event::ALL {
            for state in State::ALL {
                if let Ok(after) = next(state, event) {
                    let again = next(after, event);
                    let begins_anew =
                        matches!(event, Event::RegistrationRestored | Event::SuccessorVoided);
                    assert!(again == Ok(after) || begins_anew, "{state:?} {event:?}");
                }
            }
        }
    }

    #[test]
    fn keys_are_rotated_only_once_they_were_granted() {
        assert_eq!(
            reachable(Event::Rotated, State::Confirmed),
            [State::Released, State::Rejected]
        );
    }

    #[test]
    fn nothing_is_granted_after_a_withdrawal_or_the_end() {
        for state in [
            State::Withdrawn,
            State::Annulled,
            State::Superseded,
            State::Closed,
        ] {
            assert_eq!(next(state, Event::Granted), Err(Code::WrongState));
        }
    }
}
