//! Many takeovers at once, out of the journal: bounded connections, network by network, nothing held in memory.
//!
//! Each network has a queue of its own, so that one that is full or slow keeps no other waiting; all of them share the
//! places of the run. A meter has at most one connection at a time, so meters at the same time are connections.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::stream::{self, FuturesUnordered, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::escrow::Escrow;
use super::journal::{Due, Journal, JournalError, Note, Scope, State};
use super::link::Dial;
use super::pace::{Pace, PacedDial};
use super::takeover::{Outcome, Takeover, TakeoverError};
use crate::types::HandoverId;

/// How many meters are where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Of all in the scope, by the state they reached.
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

/// How a run of one takeover ended.
pub type Ended = Result<Outcome, TakeoverError>;

/// How a fleet is run.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// Which takeovers.
    pub scope: Scope,
    /// Meters at the same time.
    pub at_once: NonZeroUsize,
    /// Meters of one network at the same time.
    pub per_network: NonZeroUsize,
    /// Connections that are made to one network in a second; as many as come if not given.
    pub connects_per_second: Option<NonZeroU32>,
    /// Puts an ending into words for the journal.
    pub describe: &'a (dyn Fn(&Ended) -> Note + Sync),
    /// Gets the counts after each step of any meter.
    pub on_change: &'a (dyn Fn(&Counts) + Sync),
}

/// Runs all takeovers of the scope that may run now. A run that fails on our side ends that meter's run only; an error
/// is one of the journal that leaves nothing to go on with.
pub async fn run_fleet<D: Dial, E: Escrow>(
    takeover: &Takeover<'_, D, E>,
    bounds: Bounds<'_>,
) -> Result<Counts, JournalError> {
    let journal = takeover.journal;
    let now = takeover.clock.now();
    let board = Board {
        places: Mutex::new(Places {
            counts: Counts {
                states: journal.tally(bounds.scope, now).await?.states,
                ..Counts::default()
            },
            running: BTreeMap::new(),
        }),
        on_change: bounds.on_change,
    };
    let places = Semaphore::new(bounds.at_once.get());
    let fleet = Fleet {
        takeover,
        bounds,
        board: &board,
        places: &places,
    };
    let networks = journal.networks(bounds.scope).await?;
    let queues: FuturesUnordered<_> = networks
        .iter()
        .map(|name| fleet.run_network(name))
        .collect();
    queues.try_collect::<()>().await?;
    Ok(board.counts())
}

struct Fleet<'a, 'b, D, E> {
    takeover: &'a Takeover<'b, D, E>,
    bounds: Bounds<'a>,
    board: &'a Board<'a>,
    places: &'a Semaphore,
}

impl<D: Dial, E: Escrow> Fleet<'_, '_, D, E> {
    async fn run_network(&self, network: &str) -> Result<(), JournalError> {
        let pace = self.bounds.connects_per_second.map(Pace::per_second);
        let takeover = self.takeover;
        let paced = Takeover {
            journal: takeover.journal,
            dial: &PacedDial {
                inner: takeover.dial,
                pace: pace.as_ref(),
            },
            profiles: takeover.profiles,
            escrow: takeover.escrow,
            clock: takeover.clock,
            random: takeover.random,
            settings: takeover.settings,
        };
        let per_network = self.bounds.per_network.get();
        self.due(network)
            .try_for_each_concurrent(per_network, |due| self.run_one(&paced, due))
            .await
    }

    /// What is due in a network, a page at a time: all that was when the run began, each once.
    fn due<'q>(
        &'q self,
        network: &'q str,
    ) -> impl futures_util::Stream<Item = Result<Due, JournalError>> + 'q {
        let began = self.takeover.clock.now();
        let page = move |after: Option<HandoverId>| async move {
            let journal: &Journal = self.takeover.journal;
            let scope = self.bounds.scope;
            let page = journal.due(scope, network, began, (after, PAGE)).await?;
            let Some(last) = page.last() else {
                return Ok::<_, JournalError>(None);
            };
            let next = Some(last.handover);
            Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
        };
        stream::try_unfold(None, page).try_flatten()
    }

    async fn run_one(
        &self,
        takeover: &Takeover<'_, PacedDial<'_, D>, E>,
        due: Due,
    ) -> Result<(), JournalError> {
        let _place = self.places.acquire().await;
        self.board.begins(due);
        let on_step = |handover, state| self.board.moved(handover, state);
        let ended = takeover.run(due.handover, &on_step).await;
        if !matches!(ended, Ok(Outcome::Busy)) {
            let note = (self.bounds.describe)(&ended);
            takeover.journal.note(due.handover, note).await?;
        }
        self.board.ended(due.handover, &ended);
        Ok(())
    }
}

struct Board<'a> {
    places: Mutex<Places>,
    on_change: &'a (dyn Fn(&Counts) + Sync),
}

struct Places {
    counts: Counts,
    /// Where the meters are that run now.
    running: BTreeMap<HandoverId, State>,
}

impl Board<'_> {
    fn counts(&self) -> Counts {
        self.places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .counts
            .clone()
    }

    fn begins(&self, due: Due) {
        self.change(|places| {
            places.running.insert(due.handover, due.state);
        });
    }

    fn moved(&self, handover: HandoverId, state: State) {
        self.change(|places| {
            let left = places.running.insert(handover, state);
            let states = &mut places.counts.states;
            if let Some(count) = left.and_then(|left| states.get_mut(&left)) {
                *count = count.saturating_sub(1);
            }
            *states.entry(state).or_default() += 1;
        });
    }

    fn ended(&self, handover: HandoverId, ended: &Ended) {
        self.change(|places| {
            places.running.remove(&handover);
            let counts = &mut places.counts;
            match ended {
                Ok(Outcome::Done(_)) => counts.done += 1,
                Ok(Outcome::Waiting { .. }) => counts.waiting += 1,
                Ok(Outcome::Stopped(_)) => counts.stopped += 1,
                Ok(Outcome::Busy) => counts.busy += 1,
                Err(_) => counts.failed += 1,
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Places)) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut places);
        (self.on_change)(&places.counts);
    }
}

/// Takeovers that are looked up at a time.
const PAGE: u32 = 64;
