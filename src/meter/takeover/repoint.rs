//! Making the meter report to us.

use super::{Halt, Run, station};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _, Setting, SettingName};
use crate::meter::profile::Profile;
use crate::meter::released::Repoint;

/// What is written into a meter of this type to repoint it, in this order: what cuts the line comes last. `before` is
/// where it connected to by itself; it stays second choice until the new path is verified.
pub(in crate::meter) fn writes(
    repoint: &Repoint,
    profile: &Profile,
    before: &[String],
) -> Vec<Setting> {
    let others = before.iter().filter(|known| **known != repoint.destination);
    let choices = [&repoint.destination].into_iter().chain(others);
    let mut writes = vec![
        Setting::AutoConnect(choices.take(MAX_CHOICES).cloned().collect()),
        Setting::PushDestination(repoint.destination.clone()),
        Setting::Apn(repoint.apn.clone()),
        Setting::Port(repoint.port),
    ];
    writes.retain(|setting| profile.offers(setting.name()));
    writes
}

/// What is written last of all, over the new path: nobody else is connected to any more.
pub(in crate::meter) fn last_write(repoint: &Repoint, profile: &Profile) -> Option<Setting> {
    let only = Setting::AutoConnect(vec![repoint.destination.clone()]);
    profile.offers(only.name()).then_some(only)
}

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Writes each setting and reads it back. Doing it twice does no harm.
    pub(super) async fn repoint(&mut self) -> Result<(), Halt> {
        if let Some(repoint) = self.meter.repoint.clone() {
            self.enter_with_held().await?;
            let before = self.connects_to().await?;
            for setting in writes(&repoint, &self.profile, before.as_deref().unwrap_or(&[])) {
                match setting {
                    Setting::AutoConnect(_) if before.is_none() => {}
                    setting => self.write_choices(&setting, &repoint).await?,
                }
            }
        }
        self.commit(State::Repointed).await?;
        self.link.leave().await;
        let station = station((&self.meter, self.way()), &self.profile, &self.progress);
        self.link = self.takeover.dial.dial(station);
        Ok(())
    }

    /// Removes the losing supplier's destination, in the session that is open.
    pub(super) async fn forget_old_destination(&mut self) -> Result<(), Halt> {
        let Some(repoint) = self.meter.repoint.clone() else {
            return Ok(());
        };
        match (
            last_write(&repoint, &self.profile),
            self.connects_to().await?,
        ) {
            (Some(Setting::AutoConnect(only)), Some(now)) if now != only => {
                self.write(&Setting::AutoConnect(only)).await
            }
            _ => Ok(()),
        }
    }

    /// Where the meter connects to by itself; where it pushes to, if the list is empty. `None` if it has no such list.
    async fn connects_to(&mut self) -> Result<Option<Vec<String>>, Halt> {
        let Some(Setting::AutoConnect(listed)) = self.read(SettingName::AutoConnect).await? else {
            return Ok(None);
        };
        if !listed.is_empty() {
            return Ok(Some(listed));
        }
        Ok(Some(
            match self.read(SettingName::PushDestination).await? {
                Some(Setting::PushDestination(destination)) => vec![destination],
                _ => Vec::new(),
            },
        ))
    }

    async fn read(&mut self, name: SettingName) -> Result<Option<Setting>, Halt> {
        match self.link.setting(name).await {
            Ok(setting) => Ok(Some(setting)),
            Err(LinkError::Denied(_) | LinkError::NotOffered) => Ok(None),
            Err(error) => Err(self.leave_alone(error).await?),
        }
    }

    /// Writes a setting; a meter that takes no second choice gets the first alone.
    async fn write_choices(&mut self, setting: &Setting, repoint: &Repoint) -> Result<(), Halt> {
        match (self.write(setting).await, setting) {
            (Err(Halt::Stop(_)), Setting::AutoConnect(choices)) if choices.len() > 1 => {
                let only = Setting::AutoConnect(vec![repoint.destination.clone()]);
                self.write(&only).await
            }
            (written, _) => written,
        }
    }

    async fn write(&mut self, setting: &Setting) -> Result<(), Halt> {
        let refused = || Halt::Stop(StopReason::RepointRefused);
        match self.link.set(setting).await {
            Ok(()) => {}
            Err(LinkError::Denied(_)) => return Err(refused()),
            Err(error) => return Err(self.leave_alone(error).await?),
        }
        match self.link.setting(setting.name()).await {
            Ok(read) if read == *setting => Ok(()),
            Ok(_) | Err(LinkError::Denied(_)) => Err(refused()),
            Err(error) => Err(self.leave_alone(error).await?),
        }
    }
}

/// The new destination and the one before.
const MAX_CHOICES: usize = 2;
