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
use std::sync::Arc;
use std::time::Duration;

use super::escrow::{Escrow, EscrowError, Path, Report, StopReason};
use super::journal::{Claim, Journal, JournalError, Lease, Pair, Progress, Record, Round, State};
use super::link::{Dial, LinkError, MeterLink as _, Station};
use super::profile::{Profile, Profiles};
use super::released::{ReleasedMeter, Way};
use super::secrets::Secrets;
use crate::types::{Clock, HandoverId, Random, Timestamp};

mod enter;
pub(super) mod inventory;
mod order;
pub(super) mod others;
mod passwords;
pub(super) mod repoint;
mod rotate;
mod verify;
mod ways;

/// Takes meters over, one at each call of [`Takeover::run`], any number at the same time.
pub struct Takeover<'a, D, E> {
    /// Where every step is written down.
    pub journal: &'a Journal,
    /// How meters are reached.
    pub dial: &'a D,
    /// What is particular to their types.
    pub profiles: &'a Profiles,
    /// Where keys are deposited and the end is reported.
    pub escrow: &'a E,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Makes the keys.
    pub random: &'a dyn Random,
    /// What may differ between suppliers.
    pub settings: Settings,
}

/// How to take a meter over.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often to rotate.
    pub rounds: Rounds,
    /// How long to leave a meter alone that cannot be reached.
    pub unreachable_wait: Duration,
    /// How long to leave a meter alone at first that refused us as often as is safe; twice as long each time after that.
    pub refused_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds: Rounds::Twice,
            unreachable_wait: Duration::from_secs(5 * 60),
            refused_wait: Duration::from_secs(15 * 60),
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
    /// The meter was claimed with a profile that is not here.
    #[error("no meter profile is called `{0}`")]
    NoProfile(String),
}

/// Called with each state reached, after it is durable.
pub type OnStep<'a> = &'a (dyn Fn(HandoverId, State) + Sync);

impl<D: Dial, E: Escrow> Takeover<'_, D, E> {
    /// Writes a released meter down, to be run.
    pub async fn claim(&self, meter: &ReleasedMeter) -> Result<Claim, TakeoverError> {
        let claim = self.journal.claim(meter, self.clock.now()).await?;
        Ok(claim)
    }

    fn profile(&self, way: &Way) -> Result<Arc<Profile>, TakeoverError> {
        let profile = self.profiles.get(&way.profile);
        profile
            .map(Arc::clone)
            .ok_or_else(|| TakeoverError::NoProfile(way.profile.clone()))
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
        let mut run = match Run::new(self, lease.clone(), record, on_step) {
            Ok(run) => run,
            Err(error) => {
                self.journal.end_lease(lease).await?;
                return Err(error);
            }
        };
        let outcome = run.as_far_as_it_goes().await;
        run.link.leave().await;
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
    profile: Arc<Profile>,
    /// Of each way, the numbers of the sets that may be said there.
    of_ways: Vec<Vec<u32>>,
    sets: BTreeMap<u32, Secrets>,
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
    ) -> Result<Self, TakeoverError> {
        let way = record.meter.ways.get(record.progress.way);
        let way = way.ok_or_else(|| damaged("no way to the meter"))?;
        let profile = takeover.profile(way)?;
        let station = station((&record.meter, way), &profile, &record.progress);
        Ok(Self {
            takeover,
            on_step,
            lease,
            link: takeover.dial.dial(station),
            meter: record.meter,
            profile,
            of_ways: record.of_ways,
            sets: record.sets,
            progress: record.progress,
        })
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
                .closing_read(self.meter.handover, self.way(), reads)
                .await?;
        }
        if self.progress.target.is_none() || self.progress.has_target() {
            self.generate().await?;
        }
        // ORDER: the escrow has the keys before the journal says so, and the journal before the meter.
        let secrets = self.set(self.target()?)?;
        let escrow = self.takeover.escrow;
        let generation = escrow
            .write_ahead(self.meter.handover, self.way(), secrets)
            .await?;
        self.progress.generation = Some(generation);
        self.progress.round = round;
        self.commit(State::Prepared).await
    }

    async fn generate(&mut self) -> Result<(), Halt> {
        let held = self.set(self.held_pair()?.guek)?;
        let (found, random) = (&self.progress.found, self.takeover.random);
        let set = held.successor(&self.profile, found, random);
        let set = set.map_err(|_| damaged("the profile is for another protocol"))?;
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
            .report(self.meter.handover, self.way(), &report)
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
            stays_open: self.progress.stays_open.clone(),
        })
    }

    /// What the escrow is told of a takeover that stopped; nothing while the meter has keys of both suppliers, or may.
    fn ending_of_stop(&self) -> Option<Report> {
        let reason = self.progress.stopped?;
        let Progress {
            held,
            released,
            expected,
            ..
        } = &self.progress;
        let untouched = held.pair == *released && expected.is_none();
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

    fn set(&self, number: u32) -> Result<&Secrets, TakeoverError> {
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
fn station(
    (meter, way): (&ReleasedMeter, &Way),
    profile: &Arc<Profile>,
    progress: &Progress,
) -> Station {
    let moved = progress.round == Round::Second || progress.state >= State::Repointed;
    let repoint = meter.repoint.as_ref().filter(|_| moved);
    let address = repoint.and_then(|repoint| repoint.address);
    Station {
        address: address.unwrap_or(way.address),
        device: way.device.clone(),
        profile: Arc::clone(profile),
    }
}

fn damaged(what: &str) -> TakeoverError {
    JournalError::Damaged(what.to_owned()).into()
}
