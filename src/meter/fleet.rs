//! Many takeovers at once, with bounded connections; what was interrupted goes on at the next run.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::StreamExt as _;
use futures_util::stream;

use super::escrow::Escrow;
use super::journal::State;
use super::link::Dial;
use super::takeover::{Outcome, Takeover, TakeoverError};
use crate::types::HandoverId;

/// How many meters are where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// By the state they reached.
    pub states: BTreeMap<State, usize>,
    /// Runs that ended: taken over, or reported as not possible.
    pub done: usize,
    /// Runs to be repeated later.
    pub waiting: usize,
    /// Takeovers that need people.
    pub stopped: usize,
    /// Meters that another worker has.
    pub busy: usize,
    /// Runs that failed on our side.
    pub failed: usize,
}

impl Counts {
    /// Runs that ended, however.
    pub fn ended(&self) -> usize {
        self.done + self.waiting + self.stopped + self.busy + self.failed
    }
}

/// Runs claimed takeovers, at most `at_once` at a time. `on_change` gets the counts after each step of any meter. A run
/// that fails on our side ends that meter's run only.
pub async fn run_fleet<D: Dial, E: Escrow>(
    takeover: &Takeover<'_, D, E>,
    handovers: &[HandoverId],
    at_once: usize,
    on_change: &(dyn Fn(&Counts) + Sync),
) -> Vec<(HandoverId, Result<Outcome, TakeoverError>)> {
    let board = Board {
        places: Mutex::default(),
        on_change,
    };
    let on_step = |handover, state| board.moved(handover, state);
    stream::iter(handovers)
        .map(|handover| {
            let (board, on_step) = (&board, &on_step);
            async move {
                let outcome = takeover.run(*handover, on_step).await;
                board.ended(&outcome);
                (*handover, outcome)
            }
        })
        .buffer_unordered(at_once.max(1))
        .collect()
        .await
}

struct Board<'a> {
    places: Mutex<(BTreeMap<HandoverId, State>, Counts)>,
    on_change: &'a (dyn Fn(&Counts) + Sync),
}

impl Board<'_> {
    fn moved(&self, handover: HandoverId, state: State) {
        self.change(|places, counts| {
            if let Some(left) = places.insert(handover, state)
                && let Some(count) = counts.states.get_mut(&left)
            {
                *count -= 1;
            }
            *counts.states.entry(state).or_default() += 1;
        });
    }

    fn ended(&self, outcome: &Result<Outcome, TakeoverError>) {
        self.change(|_, counts| match outcome {
            Ok(Outcome::Done(_)) => counts.done += 1,
            Ok(Outcome::Waiting { .. }) => counts.waiting += 1,
            Ok(Outcome::Stopped(_)) => counts.stopped += 1,
            Ok(Outcome::Busy) => counts.busy += 1,
            Err(_) => counts.failed += 1,
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<HandoverId, State>, &mut Counts)) {
        let mut guard = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (places, counts) = &mut *guard;
        change(places, counts);
        (self.on_change)(counts);
    }
}
