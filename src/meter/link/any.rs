//! A line to a meter of whatever protocol its profile says.

use super::{
    Change, Counters, Dial, DlmsDial, DlmsLink, Identity, Item, LinkError, Login, MeterLink,
    ModeCDial, ModeCLink, Setting, SettingName, Shown, Station,
};
use crate::meter::profile::Protocol;
use crate::meter::secrets::Role;
use crate::types::Timestamp;

/// Makes links to meters of all protocols.
pub struct MeterDial<'a, C> {
    /// To those of DLMS.
    pub dlms: DlmsDial<'a, C>,
}

impl<'a, C: Counters> Dial for MeterDial<'a, C> {
    type Link = AnyLink<'a, C>;

    fn dial(&self, station: Station) -> Self::Link {
        match station.profile.protocol {
            Protocol::Dlms(_) => AnyLink::Dlms(Box::new(self.dlms.dial(station))),
            Protocol::ModeC(_) => AnyLink::ModeC(Box::new(ModeCDial.dial(station))),
        }
    }
}

/// A line to a meter.
pub enum AnyLink<'a, C> {
    /// Of DLMS.
    Dlms(Box<DlmsLink<'a, C>>),
    /// Of IEC 62056-21 mode C.
    ModeC(Box<ModeCLink>),
}

impl<C: Counters> MeterLink for AnyLink<'_, C> {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        match self {
            Self::Dlms(link) => link.enter(login).await,
            Self::ModeC(link) => link.enter(login).await,
        }
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        match self {
            Self::Dlms(link) => link.identity(wanted).await,
            Self::ModeC(link) => link.identity(wanted).await,
        }
    }

    async fn registers(&mut self, as_of: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        match self {
            Self::Dlms(link) => link.registers(as_of).await,
            Self::ModeC(link) => link.registers(as_of).await,
        }
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        match self {
            Self::Dlms(link) => link.setting(name).await,
            Self::ModeC(link) => link.setting(name).await,
        }
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        match self {
            Self::Dlms(link) => link.set(setting).await,
            Self::ModeC(link) => link.set(setting).await,
        }
    }

    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        match self {
            Self::Dlms(link) => link.other_secrets().await,
            Self::ModeC(link) => link.other_secrets().await,
        }
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        match self {
            Self::Dlms(link) => link.change(change).await,
            Self::ModeC(link) => link.change(change).await,
        }
    }

    async fn leave(&mut self) {
        match self {
            Self::Dlms(link) => link.leave().await,
            Self::ModeC(link) => link.leave().await,
        }
    }
}
