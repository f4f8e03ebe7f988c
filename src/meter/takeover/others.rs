//! The secrets besides those that open the meter for changes, and the doors besides ours.

use super::{Halt, Run};
use crate::dlms::keys::KeyRole;
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _};
use crate::meter::secrets::Role;

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Comes in once more with the new secrets, changes all others, and lists what stays open.
    pub(super) async fn others(&mut self) -> Result<(), Halt> {
        if self.set(self.target()?)?.passwords().is_some() {
            self.progress.stays_open = self.change_lower_passwords().await?;
            return self.commit(State::OthersDone).await;
        }
        self.enter_with_held().await?;
        self.change_kek().await?;
        let mut open = match self.link.other_secrets().await {
            Ok(found) => found,
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        for role in self.set(self.target()?)?.others() {
            open.retain(|found| *found != role);
            if !self.change_other(role).await? {
                open.push(role);
            }
        }
        self.progress.stays_open = open;
        self.commit(State::OthersDone).await
    }

    /// Gives the meter the key encryption key of the target, and proves it in an association of its own: the key wrapped
    /// under itself is taken by a meter that has it and refused by one that has not, and neither does harm.
    pub(super) async fn change_kek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        if self.set(target)?.keys().is_none() {
            return Ok(());
        }
        let Some(before) = self.progress.held.kek else {
            return Err(super::damaged("no key encryption key is proven").into());
        };
        if before == target {
            return Ok(());
        }
        for _ in 0..MAX_ATTEMPTS {
            // Whatever comes of it: the proof is what counts.
            let _ = self.send(KEK, before).await?;
            self.enter_with_held().await?;
            let mut proof = self.send(KEK, target).await?;
            if proof == Sent::Lost {
                self.enter_with_held().await?;
                proof = self.send(KEK, target).await?;
            }
            match proof {
                Sent::Taken => {
                    self.progress.held.kek = Some(target);
                    self.save().await?;
                    return Ok(());
                }
                Sent::Denied => {}
                Sent::Lost => self.enter_with_held().await?,
            }
        }
        Err(Halt::Stop(StopReason::KekRefused))
    }

    /// Changes a secret that does not matter for getting in. Whether the meter took it: not every meter has every one.
    async fn change_other(&mut self, role: Role) -> Result<bool, Halt> {
        let target = self.target()?;
        for _ in 0..MAX_ATTEMPTS {
            match self.send(role, target).await? {
                Sent::Taken => return Ok(true),
                Sent::Denied => {}
                Sent::Lost => self.enter_with_held().await?,
            }
        }
        Ok(false)
    }

    /// Sends one secret of the target, under the set `under`.
    async fn send(&mut self, role: Role, under: u32) -> Result<Sent, Halt> {
        // ORDER: that the lease is still ours is known before the meter is told anything.
        self.save().await?;
        Ok(match self.change(&[role], under).await? {
            Ok(()) => Sent::Taken,
            Err(LinkError::Denied(_) | LinkError::NotOffered) => Sent::Denied,
            Err(_) => Sent::Lost,
        })
    }
}

/// What the meter said to a secret that changes nothing for the association it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Taken,
    Denied,
    /// Nothing that can be relied upon.
    Lost,
}

const KEK: Role = Role::Key(KeyRole::Kek);
/// Enough for every answer to be lost once; beyond that, it is the meter.
const MAX_ATTEMPTS: usize = 3;
