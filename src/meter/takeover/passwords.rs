//! Passwords of IEC 62056-21: one a level, each changed by a write of its own and proven by a login of its own.
//!
//! The highest level changes them all, so it is changed first, by [`super::rotate`]: from then on the losing supplier
//! changes nothing any more, and what becomes of a lower password is never in doubt for long, for it can be written again.

use super::enter::Entry;
use super::{Halt, Run, TakeoverError};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, Item, LinkError, Login, MeterLink as _};
use crate::meter::secrets::{Level, PasswordSet, Role};

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Changes the passwords of the lower levels. Returns those that stay as they were.
    pub(super) async fn change_lower_passwords(&mut self) -> Result<Vec<Role>, Halt> {
        let target = self.target()?;
        let (new, old) = (self.levels(target)?, self.levels(self.released()?)?);
        let mut open: Vec<_> = old
            .into_iter()
            .filter(|level| !new.contains(level))
            .collect();
        for level in &new[..new.len().saturating_sub(1)] {
            if !self.change_password(*level, target).await? {
                open.push(*level);
            }
        }
        Ok(open.into_iter().map(Role::Password).collect())
    }

    /// Whether the meter now lets in who has the password of set `target`. What it answers to the write is only a hint.
    async fn change_password(&mut self, level: Level, target: u32) -> Result<bool, Halt> {
        for _ in 0..MAX_ATTEMPTS {
            self.enter_with_held().await?;
            // ORDER: that the lease is still ours is known before the meter is told anything.
            self.save().await?;
            let sent = self.change(&[Role::Password(level)], target).await?;
            if matches!(sent, Err(LinkError::Denied(_) | LinkError::NotOffered)) {
                continue;
            }
            if self.enter_at(level, target).await? == Entry::Open {
                return Ok(true);
            }
        }
        // A meter may deny what it has done.
        Ok(self.enter_at(level, target).await? == Entry::Open)
    }

    /// Shows that the released passwords are refused, at every level that was changed. Each wrong password comes between
    /// two right ones, so that the meter never counts more than one.
    pub(super) async fn verify_passwords(&mut self) -> Result<(), Halt> {
        self.stay_out_while_waiting().await?;
        let released = self.released()?;
        let mut levels = self.levels(released)?;
        let done = &self.progress.levels_refused;
        let stays = &self.progress.stays_open;
        levels.retain(|level| !done.contains(level) && !stays.contains(&Role::Password(*level)));
        for level in levels {
            self.enter_with_held().await?;
            match self.enter_at(level, released).await? {
                Entry::Open => return Err(Halt::Stop(StopReason::OldKeysWork)),
                Entry::Refused => {}
                Entry::Lost => return Err(self.leave_alone(LinkError::LoginLost).await?),
            }
            self.progress.levels_refused.push(level);
            self.save().await?;
        }
        self.enter_with_held().await?;
        if !self.progress.has_target() {
            return Err(super::damaged("the meter has not the passwords it should").into());
        }
        self.progress.released_refused = true;
        self.commit(State::Verified).await
    }

    /// Comes in with the password of one level. A wrong one counts like any other.
    async fn enter_at(&mut self, level: Level, set: u32) -> Result<Entry, Halt> {
        self.stay_out_while_waiting().await?;
        self.count_attempt().await?;
        let secrets = self.sets.get(&set);
        let secrets = secrets.ok_or_else(|| super::damaged("a set is missing"))?;
        let mut entered = self
            .link
            .enter(Login::Other(Role::Password(level), secrets))
            .await;
        if entered.is_ok() {
            // A meter that says yes to everybody shows nothing to anybody.
            entered = self.link.identity(&[Item::Serial]).await.map(drop);
        }
        match entered {
            Ok(()) => {
                self.let_in();
                Ok(Entry::Open)
            }
            Err(LinkError::LoginLost) => self.count_failure().await.map(|()| Entry::Lost),
            Err(error) if error.is_failed_login() => {
                self.count_failure().await.map(|()| Entry::Refused)
            }
            Err(error) => Err(self.void_attempt(error).await?),
        }
    }

    /// The levels that a set has passwords for, ascending.
    fn levels(&self, set: u32) -> Result<Vec<Level>, TakeoverError> {
        let passwords = self.set(set)?.passwords();
        let levels = passwords.map(PasswordSet::levels).into_iter().flatten();
        Ok(levels.collect())
    }

    /// The set that opened the meter first.
    fn released(&self) -> Result<u32, TakeoverError> {
        let released = self.progress.released.map(|pair| pair.guek);
        released.ok_or_else(|| super::damaged("no passwords were proven"))
    }
}

/// Enough for every answer to be lost once; beyond that, it is the meter.
const MAX_ATTEMPTS: usize = 3;
