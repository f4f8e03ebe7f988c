//! Taking one meter over: a state machine that may be interrupted anywhere and goes on from its journal.
//!
//! ```text
//! claimed → inventoried → prepared → sent → proven → others_done → repointed → verified → reported
//!                            ▲                                         │
//!                            └────────────── second round ─────────────┘
//! ```
//!
//! INVARIANT: the meter is never told a key that is not durable here and in the escrow; no second set is made while it
//! is not known what became of the first; no key is destroyed before the meter is proven to have its successor.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::escrow::{Escrow, EscrowError, Path, Report, StopReason};
use super::journal::{Claim, Journal, JournalError, Lease, Pair, Progress, Record, Round, State};
use super::link::{Dial, LinkError, MeterLink as _};
use super::released::{KeySet, ReleasedMeter};
use crate::types::{Clock, HandoverId, Random, Timestamp};

mod enter;
mod inventory;
mod order;
mod others;
pub(super) mod repoint;
mod rotate;
mod verify;

/// Takes meters over, one at each call of [`Takeover::run`], any number at the same time.
pub struct Takeover<'a, D, E> {
    /// Where every step is written down.
    pub journal: &'a Journal,
    /// How meters are reached.
    pub dial: &'a D,
    /// Where keys are deposited and the end is reported.
    pub escrow: &'a E,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Makes the keys.
    pub random: &'a dyn Random,
    /// What may differ between manufacturers and suppliers.
    pub settings: Settings,
}

/// How to take a meter over.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often to rotate.
    pub rounds: Rounds,
    /// How keys are sent.
    pub transfer: Transfer,
    /// How long to leave a meter alone that cannot be reached.
    pub unreachable_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds: Rounds::Twice,
            transfer: Transfer::Together,
            unreachable_wait: Duration::from_secs(5 * 60),
        }
    }
}

/// How often keys are rotated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rounds {
    /// Only over the path that the meter was released with. Whoever listens there knows the new keys.
    Once,
    /// Again after repointing, key encryption key first.
    Twice,
}

/// How GUEK and GAK are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transfer {
    /// Both in one request.
    Together,
    /// One request each, for meters that take no array of two.
    OneByOne,
}

/// How far a run got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The meter is taken over and the escrow knows.
    Done(Report),
    /// It makes no sense to go on before this time.
    Waiting {
        /// When to run it again.
        until: Timestamp,
        /// What the meter did last.
        cause: Option<LinkError>,
    },
    /// It goes no further without people.
    Stopped(StopReason),
    /// Another worker has the meter.
    Busy,
}

/// A run failed on our side. The journal has what was done; run it again.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The escrow failed.
    #[error(transparent)]
    Escrow(#[from] EscrowError),
}

/// Called with each state reached, after it is durable.
pub type OnStep<'a> = &'a (dyn Fn(HandoverId, State) + Sync);

impl<D: Dial, E: Escrow> Takeover<'_, D, E> {
    /// Writes a released meter down, to be run.
    pub async fn claim(&self, meter: &ReleasedMeter) -> Result<Claim, TakeoverError> {
        let claim = self.journal.claim(meter, self.clock.now()).await?;
        Ok(claim)
    }

    /// Takes a claimed meter as far as it goes now. May be dropped at any point and called again.
    pub async fn run(
        &self,
        handover: HandoverId,
        on_step: OnStep<'_>,
    ) -> Result<Outcome, TakeoverError> {
        let now = self.clock.now();
        let lease = self.journal.lease(handover, now, self.random).await?;
        let record = self.journal.record(handover).await?;
        let Some(lease) = lease else {
            return Ok(Outcome::Busy);
        };
        let mut run = Run::new(self, lease, record, on_step);
        let outcome = run.as_far_as_it_goes().await;
        run.link.release().await;
        // A lease that cannot be given back expires.
        let _ = self.journal.end_lease(run.lease).await;
        outcome
    }
}

/// One run of one takeover.
struct Run<'a, D: Dial, E> {
    takeover: &'a Takeover<'a, D, E>,
    on_step: OnStep<'a>,
    lease: Lease,
    meter: ReleasedMeter,
    sets: BTreeMap<u32, KeySet>,
    progress: Progress,
    link: D::Link,
}

/// Why a step did not reach its end.
enum Halt {
    /// The meter: try again then.
    Wait(Timestamp, Option<LinkError>),
    /// The meter: for good.
    Stop(StopReason),
    /// Our side.
    Fail(TakeoverError),
}

impl<E: Into<TakeoverError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Fail(error.into())
    }
}

impl<'a, D: Dial, E: Escrow> Run<'a, D, E> {
    fn new(
        takeover: &'a Takeover<'a, D, E>,
        lease: Lease,
        record: Record,
        on_step: OnStep<'a>,
    ) -> Self {
        let address = address(&record.meter, &record.progress);
        Self {
            takeover,
            on_step,
            lease,
            meter: record.meter,
            sets: record.sets,
            progress: record.progress,
            link: takeover.dial.dial(address),
        }
    }

    async fn as_far_as_it_goes(&mut self) -> Result<Outcome, TakeoverError> {
        while self.progress.state != State::Reported {
            let step = match self.progress.stopped {
                Some(reason) if self.ending_of_stop().is_none() => {
                    return Ok(Outcome::Stopped(reason));
                }
                Some(_) => self.report().await,
                None => self.step().await,
            };
            match step {
                Ok(()) => {}
                Err(Halt::Wait(until, cause)) => return Ok(Outcome::Waiting { until, cause }),
                Err(Halt::Stop(reason)) => {
                    self.progress.stopped = Some(reason);
                    self.save().await?;
                }
                Err(Halt::Fail(error)) => return Err(error),
            }
        }
        Ok(Outcome::Done(self.ending()?))
    }

    async fn step(&mut self) -> Result<(), Halt> {
        let again = self.takeover.settings.rounds == Rounds::Twice || !self.progress.has_target();
        match (self.progress.state, self.progress.round) {
            (State::Claimed, _) => self.inventory().await,
            (State::Inventoried, round) => self.prepare(round).await,
            (State::Prepared | State::Sent, _) => self.rotate().await,
            (State::Proven, _) => self.others().await,
            (State::OthersDone, Round::First) => self.repoint().await,
            (State::Repointed, Round::First) if again => self.prepare(Round::Second).await,
            (State::OthersDone | State::Repointed, _) => self.verify().await,
            (State::Verified | State::Reported, _) => self.report().await,
        }
    }

    /// Makes the keys of a round and puts them where they survive us.
    async fn prepare(&mut self, round: Round) -> Result<(), Halt> {
        if round == Round::First {
            let reads = &self.progress.reads;
            self.takeover
                .escrow
                .closing_read(self.meter.handover, reads)
                .await?;
        }
        if self.progress.target.is_none() || self.progress.has_target() {
            self.generate().await?;
        }
        // ORDER: the escrow has the keys before the journal says so, and the journal before the meter.
        let keys = self.set(self.target()?)?;
        let generation = self.takeover.escrow.write_ahead(&self.meter, keys).await?;
        self.progress.generation = Some(generation);
        self.progress.round = round;
        self.commit(State::Prepared).await
    }

    async fn generate(&mut self) -> Result<(), Halt> {
        let suite = self.set(self.held_pair()?.guek)?.suite();
        let set = KeySet::random(suite, self.takeover.random);
        let number = self.sets.keys().next_back().map_or(1, |newest| newest + 1);
        self.progress.target = Some(number);
        self.progress.generation = None;
        let now = self.takeover.clock.now();
        let journal = self.takeover.journal;
        journal
            .save_with_set(&self.lease, &self.progress, (number, &set), now)
            .await?;
        self.sets.insert(number, set);
        Ok(())
    }

    /// Tells the escrow, then lets go of the keys that the meter no longer has.
    async fn report(&mut self) -> Result<(), Halt> {
        let report = self.ending()?;
        self.takeover
            .escrow
            .report(self.meter.handover, &report)
            .await?;
        self.progress.state = State::Reported;
        let now = self.takeover.clock.now();
        let journal = self.takeover.journal;
        match report {
            Report::Rotated { .. } => {
                let target = self.target()?;
                journal
                    .save_keeping(&self.lease, &self.progress, target, now)
                    .await?;
            }
            Report::Rejected(_) | Report::CannotRotate(_) => self.save().await?,
        }
        (self.on_step)(self.meter.handover, State::Reported);
        Ok(())
    }

    fn ending(&self) -> Result<Report, TakeoverError> {
        if let Some(report) = self.ending_of_stop() {
            return Ok(report);
        }
        let generation = self
            .progress
            .generation
            .ok_or_else(|| damaged("no generation"))?;
        let over_ours = self.progress.round == Round::Second && self.meter.repoint.is_some();
        Ok(Report::Rotated {
            generation,
            path: if over_ours {
                Path::Gaining
            } else {
                Path::Losing
            },
            keeps_gbek: self.progress.keeps_gbek,
            other_doors: self.progress.other_doors.clone(),
        })
    }

    /// What the escrow is told of a takeover that stopped; nothing while the meter has keys of both suppliers.
    fn ending_of_stop(&self) -> Option<Report> {
        let reason = self.progress.stopped?;
        let untouched = self.progress.held.pair == self.progress.released;
        reason
            .report()
            .filter(|_| untouched || reason == StopReason::OldKeysWork)
    }

    async fn commit(&mut self, state: State) -> Result<(), Halt> {
        self.progress.state = state;
        self.save().await?;
        (self.on_step)(self.meter.handover, state);
        Ok(())
    }

    async fn save(&self) -> Result<(), JournalError> {
        let now = self.takeover.clock.now();
        self.takeover
            .journal
            .save(&self.lease, &self.progress, now)
            .await
    }

    fn set(&self, number: u32) -> Result<&KeySet, TakeoverError> {
        self.sets
            .get(&number)
            .ok_or_else(|| damaged("a key set is missing"))
    }

    fn target(&self) -> Result<u32, TakeoverError> {
        self.progress.target.ok_or_else(|| damaged("no target"))
    }

    fn held_pair(&self) -> Result<Pair, TakeoverError> {
        self.progress
            .held
            .pair
            .ok_or_else(|| damaged("no keys are proven"))
    }
}

/// Where the meter is reached: it moves when it is repointed.
fn address(meter: &ReleasedMeter, progress: &Progress) -> SocketAddr {
    let moved = progress.round == Round::Second || progress.state >= State::Repointed;
    let repoint = meter.repoint.as_ref().filter(|_| moved);
    repoint
        .and_then(|repoint| repoint.address)
        .unwrap_or(meter.address)
}

fn damaged(what: &str) -> TakeoverError {
    JournalError::Damaged(what.to_owned()).into()
}
