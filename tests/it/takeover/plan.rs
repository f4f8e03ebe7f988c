//! What `meter plan` shows is what a takeover says to the meter.

use std::sync::Mutex;

use cos_escrow::dlms::keys::{KeyRole, Suite};
use cos_escrow::meter::link::{
    Change, Dial, Identity, Item, LinkError, Login, MeterLink, Said, Setting, SettingName, Shown,
    Station, words,
};
use cos_escrow::meter::plan::{PlannedStep, plan};
use cos_escrow::meter::profile::KeyTransfer;
use cos_escrow::meter::released::ReleasedMeter;
use cos_escrow::meter::secrets::{KeySet, Role};
use cos_escrow::meter::simulate::OtherClients;
use cos_escrow::meter::takeover::{Outcome, Rounds, Settings};
use cos_escrow::types::{Secret, Timestamp};

use super::repoint;
use super::world::{World, profile_with, released_keys, seed};

#[tokio::test]
async fn the_plan_is_what_is_sent_word_by_word() {
    for (transfer, rounds) in [
        (KeyTransfer::Together, Rounds::Twice),
        (KeyTransfer::OneByOne, Rounds::Twice),
        (KeyTransfer::Together, Rounds::Once),
    ] {
        let world = World::new().await;
        let mut seed = seed(Suite::Zero);
        let password = || Secret::new(b"12345678".to_vec());
        let key = |byte| Secret::new(vec![byte; 16]);
        seed.others = Some(OtherClients {
            password: password(),
            installer: KeySet::new(Suite::Zero, key(1), key(2), key(3)).unwrap(),
        });
        let mut keys = released_keys(Suite::Zero)
            .with_other(Role::Client(2), password())
            .unwrap();
        for (role, byte) in [KeyRole::Guek, KeyRole::Gak, KeyRole::Kek]
            .into_iter()
            .zip(1..)
        {
            keys = keys
                .with_other(Role::ClientKey(3, role), key(byte))
                .unwrap();
        }
        let meter = world.meter(seed, &[]).await;
        let mut released = world.released(&meter, vec![keys]);
        released.ways[0].profile = profile_with(transfer).to_owned();
        released.repoint = Some(repoint());
        let settings = Settings {
            rounds,
            ..Settings::default()
        };
        let planned = plan(&released, &world.profile(transfer), &settings);
        world.claim(&released).await;
        let said = said_by(&world, &released, settings).await;
        assert_eq!(sent(&planned), said, "{transfer:?} {rounds:?}");
    }
}

/// What a takeover that goes well says to its meter.
pub(super) async fn said_by(
    world: &World,
    meter: &ReleasedMeter,
    settings: Settings,
) -> Vec<String> {
    let (inner, said) = (world.dial(), Mutex::default());
    let dial = RecordingDial {
        inner: &inner,
        said: &said,
    };
    let takeover = world.takeover(&dial, settings);
    let outcome = takeover.run(meter.handover, &|_, _| {}).await.unwrap();
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    said.into_inner().unwrap()
}

/// What a plan says to the meter.
pub(super) fn sent(planned: &[PlannedStep]) -> Vec<String> {
    let sent = planned.iter().filter_map(|step| match step {
        PlannedStep::Meter { sent, .. } => Some(sent.clone()),
        PlannedStep::Escrow(_) => None,
    });
    sent.collect()
}

struct RecordingDial<'a, D> {
    inner: &'a D,
    said: &'a Mutex<Vec<String>>,
}

impl<'a, D: Dial> Dial for RecordingDial<'a, D> {
    type Link = RecordingLink<'a, D::Link>;

    fn dial(&self, station: Station) -> Self::Link {
        RecordingLink {
            station: station.clone(),
            inner: self.inner.dial(station),
            said: self.said,
            is_anybody: false,
        }
    }
}

struct RecordingLink<'a, L> {
    station: Station,
    inner: L,
    said: &'a Mutex<Vec<String>>,
    is_anybody: bool,
}

impl<L> RecordingLink<'_, L> {
    fn note(&self, said: Said<'_>) {
        // What the list held before is not for a plan to know.
        let only_new;
        let said = match said {
            Said::Set(Setting::AutoConnect(choices)) => {
                only_new = Setting::AutoConnect(choices[..1].to_vec());
                Said::Set(&only_new)
            }
            said => said,
        };
        let words = words(&self.station.profile, &said);
        self.said.lock().unwrap().extend(words);
    }
}

impl<L: MeterLink> MeterLink for RecordingLink<'_, L> {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        self.is_anybody = matches!(login, Login::Anybody);
        self.note(match login {
            Login::Anybody => Said::Anybody,
            Login::Manager(_) => Said::Manager,
            Login::Other(role, _) => Said::Other(role),
        });
        self.inner.enter(login).await
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        self.note(match self.is_anybody {
            true => Said::Told(wanted),
            false => Said::Identity(wanted),
        });
        self.inner.identity(wanted).await
    }

    async fn registers(&mut self, as_of: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        self.note(Said::Registers(as_of));
        self.inner.registers(as_of).await
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        self.note(Said::Setting(name));
        self.inner.setting(name).await
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        self.note(Said::Set(setting));
        self.inner.set(setting).await
    }

    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        self.note(Said::OtherSecrets);
        self.inner.other_secrets().await
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        self.note(Said::Change(change.roles));
        self.inner.change(change).await
    }

    async fn leave(&mut self) {
        self.inner.leave().await;
    }
}
