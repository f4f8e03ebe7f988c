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

    /// Gives the meter the key encryption key of the target. If the outcome is lost, the same key wrapped under itself
    /// tells: a meter that has it takes it again, one that has not refuses, and neither does harm.
    pub(super) async fn change_kek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        let Some(before) = self.progress.held.kek else {
            return Err(super::damaged("no key encryption key is proven").into());
        };
        if before == target {
            return Ok(());
        }
        for attempt in 0..MAX_ATTEMPTS {
            let kek = if attempt % 2 == 0 { before } else { target };
            let wrapped = self.wrapped(KeyRole::Kek, kek)?;
            match self.link.transfer_keys(&[wrapped]).await {
                Ok(()) => {
                    self.progress.held.kek = Some(target);
                    self.save().await?;
                    return Ok(());
                }
                Err(LinkError::Denied(_)) => {}
                Err(_) => self.enter_with_held().await?,
            }
        }
        Err(Halt::Stop(StopReason::KekRefused))
    }

    /// Gives the meter a broadcast key of its own, under the new key encryption key, which that proves as well. Meters
    /// without broadcasts refuse it; for them the key encryption key goes once more, under itself.
    async fn change_gbek(&mut self) -> Result<(), Halt> {
        let target = self.target()?;
        for attempt in 0..MAX_ATTEMPTS {
            let role = if attempt % 2 == 0 {
                KeyRole::Gbek
            } else {
                KeyRole::Kek
            };
            let wrapped = self.wrapped(role, target)?;
            match self.link.transfer_keys(&[wrapped]).await {
                Ok(()) => return Ok(()),
                Err(LinkError::Denied(_)) => {}
                Err(_) => self.enter_with_held().await?,
            }
        }
        Err(Halt::Stop(StopReason::KekRefused))
    }
}

/// Two losses and two refusals, and then it is the meter.
const MAX_ATTEMPTS: usize = 4;
