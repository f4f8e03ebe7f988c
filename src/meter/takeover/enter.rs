//! Getting into a meter without guessing more often than it takes.

use std::time::Duration;

use super::{Halt, Run, TakeoverError};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::Pair;
use crate::meter::link::{Credentials, Dial, Identity, Item, LinkError, Login, MeterLink as _};
use crate::types::MeterSerial;

/// What a meter said to a pair of keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Entry {
    /// We are in: it proved its keys and answered a protected read.
    Open,
    /// Not with these.
    Refused,
    /// Nobody knows: the line was lost over a password.
    Lost,
}

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Enters with the first pair that opens, and remembers it.
    pub(super) async fn enter_with_any(&mut self, order: &[Pair]) -> Result<Option<Pair>, Halt> {
        let mut lost = false;
        for pair in order {
            if self.progress.refused.contains(pair) || !self.can_be(*pair)? {
                continue;
            }
            let entry = self.enter(*pair).await?;
            lost |= entry == Entry::Lost;
            if entry == Entry::Open {
                let before = self.progress.held.pair.replace(*pair);
                if before.is_some_and(|before| before != *pair) {
                    // A key arrived, so the key that it was wrapped under is one that the meter has.
                    self.progress.held.kek = self.progress.sent_under;
                }
                self.save().await?;
                return Ok(Some(*pair));
            }
        }
        if lost {
            // One of them may be right after all. From the beginning, later.
            self.progress.refused.clear();
            return Err(self.leave_alone(LinkError::LoginLost).await?);
        }
        Ok(None)
    }

    /// Only keys can be of two sets: a password is the old one or the new one.
    fn can_be(&self, pair: Pair) -> Result<bool, TakeoverError> {
        Ok(pair.guek == pair.gak || self.set(pair.guek)?.keys().is_some())
    }

    /// Enters with the keys that the meter is known to have.
    pub(super) async fn enter_with_held(&mut self) -> Result<(), Halt> {
        let pair = self.held_pair()?;
        match self.enter(pair).await? {
            Entry::Open => Ok(()),
            // It had these keys. Somebody else is at the meter, or it is out of order: neither is for us to guess.
            Entry::Refused => Err(self.leave_alone(LinkError::KeysRefused).await?),
            Entry::Lost => Err(self.leave_alone(LinkError::LoginLost).await?),
        }
    }

    /// Ends any association, looks at the meter as anybody may, then enters with `pair`.
    pub(super) async fn enter(&mut self, pair: Pair) -> Result<Entry, Halt> {
        self.stay_out_while_waiting()?;
        let mut counter = self.look().await?;
        self.count_attempt().await?;
        for _ in 0..STALE_TRIES {
            match self.log_in(pair, counter).await {
                Ok(told) => {
                    self.let_in();
                    self.progress.refused.clear();
                    self.progress.counter_seen = counter;
                    self.check_serial(&told)?;
                    return Ok(Entry::Open);
                }
                // Somebody else talks to the meter too: its counter moved since we looked.
                Err(Failure::Link(LinkError::StaleCounter(lowest))) => {
                    counter =
                        counter.max(lowest.map_or(counter, |lowest| lowest.saturating_sub(1)));
                }
                Err(Failure::Link(LinkError::LoginLost)) => {
                    self.count_failure().await?;
                    return Ok(Entry::Lost);
                }
                Err(Failure::Link(error)) if error.is_failed_login() => {
                    self.progress.refused.push(pair);
                    self.count_failure().await?;
                    return Ok(Entry::Refused);
                }
                Err(Failure::Link(error)) => return Err(self.void_attempt(error).await?),
                Err(Failure::Ours(error)) => return Err(error.into()),
            }
        }
        Err(self.void_attempt(LinkError::StaleCounter(None)).await?)
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

    pub(super) fn stay_out_while_waiting(&self) -> Result<(), Halt> {
        let until = self.progress.wait_until;
        if until > self.takeover.clock.now() {
            return Err(Halt::Wait(until, None));
        }
        Ok(())
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
        let wait = (self.progress.back_off * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
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
        if matches!(error, LinkError::WrongMeter(_)) {
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

const FIRST_WAIT: Duration = Duration::from_secs(15 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
const STALE_TRIES: usize = 3;
