//! The driver of IEC 62056-21 mode C: passwords over a transparent TCP connection. Every level is a session of its own.

use zeroize::Zeroizing;

use super::{
    Change, Credentials, DeviceId, Dial, Identity, Item, LinkError, Login, MeterLink, Setting,
    SettingName, Shown, Station,
};
use crate::iec62056_21::command::{Command, Verb};
use crate::iec62056_21::data::{DataSet, Reply};
use crate::iec62056_21::login::{Plain, Transform};
use crate::iec62056_21::sign_on::{Mode, SignOn};
use crate::iec62056_21::stream::Message;
use crate::meter::profile::{LoginForm, ModeC, Protocol};
use crate::meter::secrets::{Level, Role, Secrets};
use crate::types::Timestamp;
pub(super) use words::words;

use conversation::Conversation;
use values::Register;

mod conversation;
mod values;
mod words;

/// Makes links to mode C meters.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModeCDial;

impl Dial for ModeCDial {
    type Link = ModeCLink;

    fn dial(&self, station: Station) -> ModeCLink {
        ModeCLink {
            station,
            session: None,
            has_called: false,
        }
    }
}

/// A line to a mode C meter.
pub struct ModeCLink {
    station: Station,
    session: Option<Session>,
    /// Whether the meter may still be busy with the session before.
    has_called: bool,
}

/// What a session is.
struct Session {
    /// What the meter called itself.
    name: String,
    stage: Stage,
}

enum Stage {
    /// Somebody has logged in.
    Open(Box<Conversation>),
    /// It is over, and this is what the meter told anybody.
    Told(Vec<Register>),
}

impl MeterLink for ModeCLink {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        self.leave().await;
        if self.has_called {
            tokio::time::sleep(self.station.profile.line.pause()).await;
        }
        self.has_called = true;
        let session = match login {
            Login::Anybody => self.look().await?,
            Login::Manager(Credentials { secrets, .. }) => {
                let highest = secrets.passwords().map(|passwords| passwords.highest());
                self.log_in(highest.ok_or(LinkError::NotOffered)?, secrets)
                    .await?
            }
            Login::Other(Role::Password(level), secrets) => self.log_in(level, secrets).await?,
            Login::Other(..) => return Err(LinkError::NotOffered),
        };
        self.session = Some(session);
        Ok(())
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        let registers = self.profile()?.registers.clone();
        let session = self.session.as_ref().ok_or(LinkError::Unreachable)?;
        let mut told = Identity::default();
        if wanted.contains(&Item::DeviceName) {
            told.device_name = Some(session.name.clone());
        }
        if wanted.contains(&Item::Serial) {
            told.serial = self.told(registers.serial.as_deref()).await?;
        }
        if wanted.contains(&Item::Firmware) {
            told.firmware = self.told(registers.firmware.as_deref()).await?;
        }
        if wanted.contains(&Item::Clock) {
            told.clock = self.clock().await?;
        }
        Ok(told)
    }

    /// Always what they show now: mode C has no common form for what was frozen.
    async fn registers(&mut self, _: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        let wanted = self.profile()?.read.clone();
        let meter_time = self.clock().await?;
        let mut shown = Vec::new();
        for register in wanted {
            match self.read(&register.at).await {
                Ok(read) => shown.push(values::shown(register.is, &read, meter_time)?),
                Err(LinkError::Denied(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(shown)
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        let register = self.profile()?.setting(name).ok_or(LinkError::NotOffered)?;
        let register = register.to_owned();
        let read = self.read(&register).await?;
        values::setting(name, read.value)
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        let register = self.profile()?.setting(setting.name());
        let register = register.ok_or(LinkError::NotOffered)?.to_owned();
        let value = values::of_setting(setting).ok_or(LinkError::NotOffered)?;
        self.write(&register, &value).await
    }

    /// All that it has are in the profile.
    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        Ok(Vec::new())
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        let [Role::Password(level)] = change.roles else {
            return Err(LinkError::NotOffered);
        };
        let register = {
            let registers = self.profile()?.passwords.registers();
            let register = registers.get(level).ok_or(LinkError::NotOffered)?;
            (*register).to_owned()
        };
        let password = password(*level, change.to)?;
        self.write(&register, password).await
    }

    async fn leave(&mut self) {
        if let Some(Session {
            stage: Stage::Open(conversation),
            ..
        }) = self.session.take()
        {
            conversation.end().await;
        }
    }
}

impl ModeCLink {
    fn profile(&self) -> Result<&ModeC, LinkError> {
        match &self.station.profile.protocol {
            Protocol::ModeC(profile) => Ok(profile),
            Protocol::Dlms(_) => Err(LinkError::NotOffered),
        }
    }

    /// Looks at the meter as anybody may.
    async fn look(&self) -> Result<Session, LinkError> {
        let mode = match self.profile()?.readout {
            true => Mode::Readout,
            false => Mode::Programming,
        };
        let (mut conversation, named) =
            Conversation::begin(&self.station, &self.call()?, mode).await?;
        let told = match conversation.hear().await {
            Ok(Message::Data(data)) => match data.reply() {
                Ok(Reply::Sets(sets)) => sets.iter().map(Register::of).collect(),
                Ok(Reply::Refused(_)) => Vec::new(),
                Err(_) => return Err(LinkError::Garbled),
            },
            Ok(Message::Command(command)) => match command.command() {
                Ok(Some(command)) if command.verb == Verb::Seed => Vec::new(),
                _ => return Err(BUSY),
            },
            Ok(_) => return Err(LinkError::Garbled),
            Err(error) => return Err(error),
        };
        conversation.end().await;
        Ok(Session {
            name: named.name().to_owned(),
            stage: Stage::Told(told),
        })
    }

    async fn log_in(&self, level: Level, secrets: &Secrets) -> Result<Session, LinkError> {
        let password = password(level, secrets)?;
        let begun = Conversation::begin(&self.station, &self.call()?, Mode::Programming).await;
        let (mut conversation, named) = begun?;
        let seed = match conversation.hear().await {
            Ok(Message::Command(seed)) => seed,
            Ok(_) => return Err(LinkError::Garbled),
            Err(error) => return Err(error),
        };
        let seed = match seed.command() {
            Ok(Some(command)) if command.verb == Verb::Seed => command
                .set
                .map(|set| set.value().to_owned())
                .unwrap_or_default(),
            Ok(_) => return Err(BUSY),
            Err(_) => return Err(LinkError::Garbled),
        };
        let (verb, operand) = match self.profile()?.login {
            LoginForm::Plain => Plain.answer(&seed, password),
        };
        let set = DataSet::new("", &operand, None).map_err(|_| LinkError::NotOffered)?;
        let answer = conversation.ask(&Command::new(verb, set).encode()).await;
        match answer {
            Ok(Message::Ack) => Ok(Session {
                name: named.name().to_owned(),
                stage: Stage::Open(Box::new(conversation)),
            }),
            Ok(Message::Nak | Message::Command(_) | Message::Data(_)) => {
                Err(LinkError::KeysRefused)
            }
            // Whether the meter has counted it, nobody knows.
            Ok(_) | Err(_) => Err(LinkError::LoginLost),
        }
    }

    fn call(&self) -> Result<SignOn, LinkError> {
        match &self.station.device {
            DeviceId::Outstation(address) => {
                SignOn::new(address).map_err(|_| LinkError::NotOffered)
            }
            DeviceId::SystemTitle(_) => Err(LinkError::NotOffered),
        }
    }

    /// What a register shows, as text; nothing if the meter has it not or does not show it.
    async fn told(&mut self, register: Option<&str>) -> Result<Option<String>, LinkError> {
        let Some(register) = register else {
            return Ok(None);
        };
        match self.read(register).await {
            Ok(read) => Ok(Some(read.value)),
            Err(LinkError::Denied(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn clock(&mut self) -> Result<Option<Timestamp>, LinkError> {
        let registers = self.profile()?.registers.clone();
        let date = self.told(registers.date.as_deref()).await?;
        let time = self.told(registers.time.as_deref()).await?;
        Ok(date
            .zip(time)
            .and_then(|(date, time)| values::instant(&date, &time)))
    }

    async fn read(&mut self, register: &str) -> Result<Register, LinkError> {
        if let Some(Session {
            stage: Stage::Told(told),
            ..
        }) = &self.session
        {
            let told = told.iter().find(|told| told.address == register);
            return told.cloned().ok_or(LinkError::Denied(UNTOLD));
        }
        let asked = DataSet::of(register).map_err(|_| LinkError::NotOffered)?;
        let request = Command::new(Verb::Read, asked).encode();
        self.ask(&request, |answer| match answer {
            Message::Data(data) => match data.reply() {
                Ok(Reply::Sets(sets)) => match &sets[..] {
                    [only] if only.address() == register => Ok(Register::of(only)),
                    _ => Err(LinkError::Garbled),
                },
                Ok(Reply::Refused(code)) => Err(LinkError::Denied(values::number(code))),
                Err(_) => Err(LinkError::Garbled),
            },
            Message::Nak => Err(LinkError::Denied(UNTOLD)),
            _ => Err(LinkError::Garbled),
        })
        .await
    }

    async fn write(&mut self, register: &str, value: &str) -> Result<(), LinkError> {
        let set = DataSet::new(register, value, None).map_err(|_| LinkError::NotOffered)?;
        let request = Command::new(Verb::Write, set).encode();
        self.ask(&request, |answer| match answer {
            Message::Ack => Ok(()),
            Message::Nak => Err(LinkError::Denied(UNTOLD)),
            Message::Data(data) => match data.reply() {
                Ok(Reply::Refused(code)) => Err(LinkError::Denied(values::number(code))),
                _ => Err(LinkError::Garbled),
            },
            _ => Err(LinkError::Garbled),
        })
        .await
    }

    /// Asks in the session that is open. It goes on unless it is spoilt: after anything but a clear answer, nobody knows
    /// what comes next.
    async fn ask<T>(
        &mut self,
        request: &Zeroizing<Vec<u8>>,
        understand: impl FnOnce(Message) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let Some(Session {
            name,
            stage: Stage::Open(mut conversation),
        }) = self.session.take()
        else {
            return Err(LinkError::Unreachable);
        };
        let understood = conversation.ask(request).await.and_then(understand);
        if matches!(understood, Ok(_) | Err(LinkError::Denied(_))) {
            let stage = Stage::Open(conversation);
            self.session = Some(Session { name, stage });
        }
        understood
    }
}

fn password(level: Level, secrets: &Secrets) -> Result<&str, LinkError> {
    let password = secrets
        .passwords()
        .and_then(|passwords| passwords.password(level));
    let password = password.ok_or(LinkError::NotOffered)?;
    str::from_utf8(password.expose()).map_err(|_| LinkError::NotOffered)
}

/// Broken off before anybody could log in: somebody else reads the meter, or it is locked.
const BUSY: LinkError = LinkError::AssociationRefused(0);
/// A refusal without a number.
const UNTOLD: u8 = 0;
