//! The keys besides GUEK and GAK, and the doors besides ours.

use super::{Halt, Run};
use crate::dlms::keys::KeyRole;
use crate::dlms::obis::Member;
use crate::dlms::objects::{listed_objects, other_doors};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _};

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Comes in once more with the new keys, changes key encryption and broadcast key, and lists what stays open.
    pub(super) async fn others(&mut self) -> Result<(), Halt> {
        self.enter_with_held().await?;
        self.change_kek().await?;
        self.change_gbek().await?;
        self.progress.other_doors = match self.link.read(Member::OBJECT_LIST).await {
            Ok(list) => other_doors(&listed_objects(&list).unwrap_or_default()),
            Err(LinkError::Denied(_)) => Vec::new(),
            Err(error) => return Err(self.leave_alone(error).await?),
        };
        self.commit(State::OthersDone).await
    }

    /// Gives the meter the key encryption key of the target, and proves it in an association of its own: the key wrapped
    /// under itself is taken by a meter that has it and refused by one that has not, and neither does harm.
    pub(super) async fn change_kek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        let Some(before) = self.progress.held.kek else {
            return Err(super::damaged("no key encryption key is proven").into());
        };
        if before == target {
            return Ok(());
        }
        for _ in 0..MAX_ATTEMPTS {
            // Whatever comes of it: the proof is what counts.
            let _ = self.send(KeyRole::Kek, before).await?;
            self.enter_with_held().await?;
            let mut proof = self.send(KeyRole::Kek, target).await?;
            if proof == Sent::Lost {
                self.enter_with_held().await?;
                proof = self.send(KeyRole::Kek, target).await?;
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

    /// Gives the meter a broadcast key of its own. Meters without broadcasts refuse it.
    async fn change_gbek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        self.progress.keeps_gbek = true;
        for _ in 0..MAX_ATTEMPTS {
            match self.send(KeyRole::Gbek, target).await? {
                Sent::Taken => {
                    self.progress.keeps_gbek = false;
                    break;
                }
                Sent::Denied => {}
                Sent::Lost => self.enter_with_held().await?,
            }
        }
        Ok(())
    }

    /// Sends one key of the target, wrapped under the key encryption key of set `kek`.
    async fn send(&mut self, role: KeyRole, kek: u32) -> Result<Sent, Halt> {
        let wrapped = self.wrapped(role, kek)?;
        // ORDER: that the lease is still ours is known before the meter is told anything.
        self.save().await?;
        Ok(match self.link.transfer_keys(&[wrapped]).await {
            Ok(()) => Sent::Taken,
            Err(LinkError::Denied(_)) => Sent::Denied,
            Err(_) => Sent::Lost,
        })
    }
}

/// What the meter said to a key that changes nothing for the association it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Taken,
    Denied,
    /// Nothing that can be relied upon.
    Lost,
}

/// Enough for every answer to be lost once; beyond that, it is the meter.
const MAX_ATTEMPTS: usize = 3;
