//! Making the meter report to us.

use super::{Halt, Run, station};
use crate::meter::escrow::{Escrow, StopReason};
use crate::meter::journal::State;
use crate::meter::link::{Dial, LinkError, MeterLink as _, Setting};
use crate::meter::profile::Profile;
use crate::meter::released::Repoint;

/// What is written into a meter of this type to repoint it, in this order: what cuts the line comes last.
pub(in crate::meter) fn writes(repoint: &Repoint, profile: &Profile) -> Vec<Setting> {
    let mut writes = vec![
        Setting::PushDestination(repoint.destination.clone()),
        Setting::Apn(repoint.apn.clone()),
        Setting::Port(repoint.port),
    ];
    writes.retain(|setting| profile.offers(setting.name()));
    writes
}

impl<D: Dial, E: Escrow> Run<'_, D, E> {
    /// Writes each setting and reads it back. Doing it twice does no harm.
    pub(super) async fn repoint(&mut self) -> Result<(), Halt> {
        if let Some(repoint) = self.meter.repoint.clone() {
            self.enter_with_held().await?;
            for setting in writes(&repoint, &self.profile) {
                self.write(&setting).await?;
            }
        }
        self.commit(State::Repointed).await?;
        self.link.leave().await;
        let station = station(&self.meter, &self.profile, &self.progress);
        self.link = self.takeover.dial.dial(station);
        Ok(())
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
