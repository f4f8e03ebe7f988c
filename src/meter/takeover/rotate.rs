//! Changing what opens the meter, whatever becomes of the messages that do it.

use super::order::{Transferred, after_transfer};
use super::{Halt, Run, TakeoverError};
use crate::dlms::keys::KeyRole;
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::{Pair, Round, State};
use crate::meter::link::{Change, Dial, LinkError, MeterLink as _};
use crate::meter::secrets::Role;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Sends what is missing and looks what the meter has, until it has all of the target. Always the same keys.
    pub(super) async fn rotate(&mut self) -> Result<(), Halt> {
        self.stay_out_while_waiting().await?;
        if self.progress.state == State::Sent {
            self.resolve(Denied::No).await?;
        } else {
            self.enter_with_held().await?;
        }
        if self.progress.round == Round::Second {
            self.change_kek().await?;
        }
        let keks = self.keks_to_try()?;
        let mut denials = 0;
        for _ in 0..MAX_TRANSFERS {
            let missing = self.missing()?;
            if missing.is_empty() {
                return self.commit(State::Proven).await;
            }
            let kek = keks[denials % keks.len()];
            let denied = self.transfer(&missing, kek).await?;
            if denied == Denied::Yes {
                denials += 1;
            }
            self.resolve(denied).await?;
        }
        match self.missing()?.is_empty() {
            true => self.commit(State::Proven).await,
            false => Err(Halt::Stop(StopReason::TransferRefused)),
        }
    }

    /// Which of the secrets that open the meter it does not have yet, as many as go into one request.
    fn missing(&self) -> Result<Vec<Role>, TakeoverError> {
        let (pair, target) = (self.held_pair()?, self.target()?);
        let is_missing = |role: &Role| match role {
            Role::Key(KeyRole::Gak) => pair.gak != target,
            _ => pair.guek != target,
        };
        let mut roles = self.set(target)?.opening();
        roles.retain(is_missing);
        if self.profile.changes_one_by_one() {
            // GAK first, as head ends in the field do.
            roles = roles.pop().into_iter().collect();
        }
        Ok(roles)
    }

    async fn transfer(&mut self, roles: &[Role], kek: u32) -> Result<Denied, Halt> {
        let target = self.target()?;
        let before = self.held_pair()?;
        self.progress.expected = Some(match *roles {
            [Role::Key(KeyRole::Gak)] => Pair {
                gak: target,
                ..before
            },
            [Role::Key(KeyRole::Guek)] => Pair {
                guek: target,
                ..before
            },
            _ => Pair::of(target),
        });
        self.progress.sent_under = Some(kek);
        self.progress.refused.clear();
        self.progress.unclear.clear();
        // ORDER: the journal says that the meter may have the secrets before it may.
        self.commit(State::Sent).await?;
        match self.change(roles, kek).await? {
            Err(LinkError::Denied(_)) => Ok(Denied::Yes),
            Ok(()) | Err(_) => Ok(Denied::No),
        }
    }

    /// Sends secrets of the target, under the set `under`.
    pub(super) async fn change(
        &mut self,
        roles: &[Role],
        under: u32,
    ) -> Result<Result<(), LinkError>, TakeoverError> {
        let target = self.target()?;
        let set = |number| {
            let set = self.sets.get(&number);
            set.ok_or_else(|| super::damaged("a set is missing"))
        };
        let change = Change {
            roles,
            to: set(target)?,
            under: set(under)?,
        };
        Ok(self.link.change(change).await)
    }

    /// Finds out what the meter has. Whatever it answered to the transfer was only a hint.
    async fn resolve(&mut self, denied: Denied) -> Result<(), Halt> {
        let (before, target) = (self.held_pair()?, self.target()?);
        let order = after_transfer(Transferred {
            before,
            expected: self.progress.expected.unwrap_or(before),
            target,
            denied: denied == Denied::Yes,
            counter_fell: self.look().await? < self.progress.counter_seen,
        });
        if self.enter_with_any(&order).await?.is_some() {
            return Ok(());
        }
        // One of them it must have, so a refusal was not what it seemed. From the beginning, later.
        self.progress.refused.clear();
        self.progress.unclear.clear();
        Err(self.leave_alone(LinkError::KeysRefused).await?)
    }

    /// The sets whose key encryption key the meter may have, likeliest first. Passwords go under that of the meter.
    fn keks_to_try(&self) -> Result<Vec<u32>, TakeoverError> {
        if self.set(self.target()?)?.keys().is_none() {
            return Ok(vec![self.held_pair()?.guek]);
        }
        if let Some(kek) = self.progress.held.kek {
            return Ok(vec![kek]);
        }
        let target = self.target()?;
        let likeliest = self.progress.released.map_or(target, |pair| pair.guek);
        let others = self
            .sets
            .keys()
            .rev()
            .filter(|set| ![likeliest, target].contains(set));
        Ok([likeliest].into_iter().chain(others.copied()).collect())
    }
}

/// Whether the meter said, protected, that it does not take the keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    Yes,
    No,
}

/// Enough for two keys one by one, each lost twice; a meter that takes none by then never will.
const MAX_TRANSFERS: usize = 8;
