//! Getting into a meter without guessing more often than it takes.

use std::time::Duration;

use super::{Halt, Run, TakeoverError};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::{Pair, Progress, State};
use crate::meter::link::{Credentials, Dial, Identity, Item, LinkError, Login, MeterLink as _};
use crate::types::MeterSerial;

/// What a meter said to a pair of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Entry {
    /// We are in: it proved its keys and answered a protected read.
    Open,
    /// Not with these, as it seems.
    Refused,
    /// Nobody knows: the line was lost over a password.
    Lost,
}

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Enters with the first pair that opens, and remembers it. A pair whose answer was lost is tried once more, after
    /// all others: a line that broke once must not pass for a refusal.
    pub(super) async fn enter_with_any(&mut self, order: &[Pair]) -> Result<Option<Pair>, Halt> {
        let mut lost = false;
        while let Some(pair) = self.next_to_try(order) {
            if lost && self.progress.unclear.contains(&pair) {
                // One that was lost may be right after all. Later.
                return Err(self.leave_alone(LinkError::LoginLost).await?);
            }
            let entry = self.enter(pair).await?;
            lost |= entry == Entry::Lost;
            if entry == Entry::Open {
                self.hold(pair);
                self.save().await?;
                return Ok(Some(pair));
            }
        }
        Ok(None)
    }

    /// Only keys can be of two sets: a password is the old one or the new one.
    fn can_be(&self, pair: Pair) -> bool {
        let set = self.sets.get(&pair.guek);
        pair.guek == pair.gak || set.is_some_and(|set| set.keys().is_some())
    }

    fn next_to_try(&self, order: &[Pair]) -> Option<Pair> {
        let Progress {
            refused, unclear, ..
        } = &self.progress;
        let fresh = order.iter().filter(|pair| !unclear.contains(pair));
        let again = unclear.iter().filter(|pair| order.contains(pair));
        fresh
            .chain(again)
            .copied()
            .find(|pair| !refused.contains(pair) && self.can_be(*pair))
    }

    fn hold(&mut self, pair: Pair) {
        let before = self.progress.held.pair.replace(pair);
        if before.is_some_and(|before| before != pair) {
            // A key arrived, so the key that it was wrapped under is one that the meter has.
            self.progress.held.kek = self.progress.sent_under;
        }
        self.progress.expected = None;
    }

    /// Enters with the keys that the meter is known to have.
    pub(super) async fn enter_with_held(&mut self) -> Result<(), Halt> {
        let pair = self.held_pair()?;
        match self.enter(pair).await? {
            Entry::Open => Ok(()),
            // It had these keys. Somebody else is at the meter, or it is out of order: neither is for us to guess.
            Entry::Refused => {
                let is_clear = self.progress.refused.contains(&pair);
                let error = if is_clear {
                    LinkError::KeysRefused
                } else {
                    LinkError::Closed
                };
                Err(self.leave_alone(error).await?)
            }
            Entry::Lost => Err(self.leave_alone(LinkError::LoginLost).await?),
        }
    }

    /// Ends any association, looks at the meter as anybody may, then enters with `pair`.
    pub(super) async fn enter(&mut self, pair: Pair) -> Result<Entry, Halt> {
        self.stay_out_while_waiting().await?;
        let mut counter = self.look().await?;
        self.count_attempt().await?;
        for _ in 0..STALE_TRIES {
            match self.log_in(pair, counter).await {
                Ok(told) => {
                    self.let_in();
                    self.progress.refused.clear();
                    self.progress.unclear.clear();
                    self.progress.counter_seen = counter;
                    return match self.check_serial(&told) {
                        Ok(()) => Ok(Entry::Open),
                        Err(stop) if self.progress.state == State::Claimed => Err(stop),
                        // It told the right one before: out of order, rather than another meter with the same keys.
                        Err(_) => Err(self.leave_alone(LinkError::Garbled).await?),
                    };
                }
                // Somebody else talks to the meter too: its counter moved since we looked.
                Err(Failure::Link(LinkError::StaleCounter(lowest))) => {
                    counter =
                        counter.max(lowest.map_or(counter, |lowest| lowest.saturating_sub(1)));
                }
                Err(Failure::Link(LinkError::LoginLost)) => {
                    self.note_refusal(pair, &LinkError::LoginLost);
                    self.count_failure().await?;
                    return Ok(Entry::Lost);
                }
                Err(Failure::Link(error)) if error.is_failed_login() => {
                    self.note_refusal(pair, &error);
                    self.count_failure().await?;
                    return Ok(Entry::Refused);
                }
                Err(Failure::Link(error)) => {
                    self.note_refusal(pair, &error);
                    return Err(self.void_attempt(error).await?);
                }
                Err(Failure::Ours(error)) => return Err(error.into()),
            }
        }
        Err(self.void_attempt(LinkError::StaleCounter(None)).await?)
    }

    /// A clear no counts at once, a connection that ended instead of an answer when it does so again, and silence never.
    pub(super) fn note_refusal(&mut self, pair: Pair, error: &LinkError) {
        let Progress {
            refused, unclear, ..
        } = &mut self.progress;
        let was_unclear = unclear.contains(&pair);
        unclear.retain(|known| *known != pair);
        match error {
            LinkError::KeysRefused => refused.push(pair),
            LinkError::Closed | LinkError::MeterUnproven if was_unclear => refused.push(pair),
            LinkError::Closed
            | LinkError::MeterUnproven
            | LinkError::TimedOut
            | LinkError::LoginLost => unclear.push(pair),
            _ => {}
        }
    }

    /// Comes in and reads the serial number, protected. It is not told if the meter does not show it to managers.
    pub(super) async fn log_in(
        &mut self,
        pair: Pair,
        counter_above: u32,
    ) -> Result<Identity, Failure> {
        let set = |number| {
            let set = self.sets.get(&number);
            set.ok_or_else(|| Failure::Ours(super::damaged("no such set")))
        };
        let credentials = Credentials {
            secrets: set(pair.guek)?,
            gak: set(pair.gak)?,
            counter_above,
        };
        let login = Login::Manager(credentials);
        self.link.enter(login).await.map_err(Failure::Link)?;
        let told = self.link.identity(&[Item::Serial]).await;
        told.map_err(Failure::Link)
    }

    /// The meter's counter, as it tells anybody. Tried again once, as meters drop lines. Some meters show it to managers
    /// only: then the journal's counters have to do.
    pub(super) async fn look(&mut self) -> Result<u32, Halt> {
        if !self.profile.shows(Item::Counter) {
            return Ok(0);
        }
        let mut seen = self.ask_as_anybody(&[Item::Counter]).await;
        if seen.is_err() {
            seen = self.ask_as_anybody(&[Item::Counter]).await;
        }
        match seen {
            Ok(told) => Ok(told.counter.unwrap_or(0)),
            Err(error) => Err(self.leave_alone(error).await?),
        }
    }

    pub(super) async fn ask_as_anybody(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        self.link.enter(Login::Anybody).await?;
        self.link.identity(wanted).await
    }

    /// Stops if the serial number is not that of the released meter.
    pub(super) fn check_serial(&self, told: &Identity) -> Result<(), Halt> {
        let Some(serial) = &told.serial else {
            return Ok(());
        };
        match serial.parse::<MeterSerial>() {
            Ok(told) if told == self.meter.serial => Ok(()),
            _ => Err(Halt::Stop(StopReason::WrongMeter)),
        }
    }

    pub(super) async fn stay_out_while_waiting(&mut self) -> Result<(), Halt> {
        let now = self.takeover.clock.now();
        // A longer wait than there is means that the clock went back.
        let until = self.progress.wait_until.min(now.after(LONGEST_WAIT));
        if until < self.progress.wait_until {
            self.progress.wait_until = until;
            self.save().await?;
        }
        match until > now {
            true => Err(Halt::Wait(until, None)),
            false => Ok(()),
        }
    }

    /// The last attempt was no failure, and the meter forgets those before it.
    pub(super) fn let_in(&mut self) {
        self.progress.failures = 0;
        self.progress.failures_in_all -= 1;
        self.progress.back_off = Duration::ZERO;
    }

    /// ORDER: an attempt is counted before it is made, so that a crash never makes it free.
    pub(super) async fn count_attempt(&mut self) -> Result<(), Halt> {
        if self.progress.failures >= self.profile.wrong_in_a_row() {
            return Err(self.back_off().await?);
        }
        self.progress.failures += 1;
        self.progress.failures_in_all += 1;
        self.save().await?;
        Ok(())
    }

    pub(super) async fn count_failure(&mut self) -> Result<(), Halt> {
        if self.progress.failures >= self.profile.wrong_in_a_row() {
            return Err(self.back_off().await?);
        }
        self.save().await?;
        Ok(())
    }

    /// Leaves the meter alone for twice as long as the last time; then there is a new budget.
    async fn back_off(&mut self) -> Result<Halt, TakeoverError> {
        let first = self.takeover.settings.refused_wait;
        let wait = (self.progress.back_off * 2).max(first).min(LONGEST_WAIT);
        self.progress.back_off = wait;
        self.progress.failures = 0;
        self.wait(wait, Some(LinkError::KeysRefused)).await
    }

    /// The attempt said nothing about the keys.
    pub(super) async fn void_attempt(&mut self, error: LinkError) -> Result<Halt, TakeoverError> {
        self.progress.failures -= 1;
        self.progress.failures_in_all -= 1;
        self.leave_alone(error).await
    }

    /// What to do about an error that no key is to blame for.
    pub(super) async fn leave_alone(&mut self, error: LinkError) -> Result<Halt, TakeoverError> {
        // Who answers is not authenticated. Of a meter that we were in already, it says nothing for good.
        if matches!(error, LinkError::WrongMeter(_)) && self.progress.state == State::Claimed {
            return Ok(Halt::Stop(StopReason::WrongMeter));
        }
        let wait = self.takeover.settings.unreachable_wait;
        self.wait(wait, Some(error)).await
    }

    async fn wait(
        &mut self,
        wait: Duration,
        cause: Option<LinkError>,
    ) -> Result<Halt, TakeoverError> {
        let until = self.takeover.clock.now().after(wait);
        self.progress.wait_until = until;
        self.save().await?;
        Ok(Halt::Wait(until, cause))
    }
}

/// Why a login did not succeed.
pub(super) enum Failure {
    /// The meter or the line.
    Link(LinkError),
    /// Our side.
    Ours(TakeoverError),
}

const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
const STALE_TRIES: usize = 3;
