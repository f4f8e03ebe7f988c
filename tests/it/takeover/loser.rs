//! The head end of the losing supplier, which goes on as if nothing had happened.

use std::sync::Mutex;
use std::time::Duration;

use cos_escrow::dlms::SystemTitle;
use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::link::{
    CounterBlock, Counters, CountersError, Credentials, Dial as _, DlmsDial, DlmsLink, Item,
    LinkError, Login, MeterLink as _, Station,
};
use cos_escrow::meter::secrets::Secrets;
use cos_escrow::types::{Digest, SystemRandom};

use super::world::released_keys;

/// It polls with the released keys, and moves the meter's counter each time.
#[derive(Default)]
pub(super) struct Loser {
    used: Mutex<u32>,
}

impl Loser {
    /// Polls again and again, until the meter has refused the keys a few times.
    pub(super) async fn poll_while_it_can(&self, meter: Station) {
        let mut refusals = 0;
        while refusals < 5 {
            if self.poll(meter.clone()).await == Err(LinkError::KeysRefused) {
                refusals += 1;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    async fn poll(&self, meter: Station) -> Result<(), LinkError> {
        let dial = self.dial();
        let mut link = dial.dial(meter);
        enter(&mut link).await?;
        link.registers(None).await?;
        link.leave().await;
        Ok(())
    }

    /// How it reaches meters: under a title of its own.
    pub(super) fn dial(&self) -> DlmsDial<'_, Self> {
        DlmsDial {
            title: SystemTitle(*b"LOSERHES"),
            counters: self,
            random: &SystemRandom,
        }
    }
}

/// Comes in with the released keys.
pub(super) async fn enter(link: &mut DlmsLink<'_, Loser>) -> Result<(), LinkError> {
    link.enter(Login::Anybody).await?;
    let counter = link.identity(&[Item::Counter]).await?.counter;
    let secrets = Secrets::from(released_keys(Suite::Zero));
    let credentials = Credentials {
        secrets: &secrets,
        gak: &secrets,
        counter_above: counter.unwrap_or(0),
    };
    link.enter(Login::Manager(credentials)).await
}

impl Counters for Loser {
    async fn reserve(
        &self,
        _: Digest,
        _: SystemTitle,
        above: u32,
    ) -> Result<CounterBlock, CountersError> {
        let mut used = self.used.lock().unwrap();
        let first = above.max(*used) + 1;
        *used = first + 7;
        Ok(CounterBlock {
            first,
            last: *used,
            is_far: false,
        })
    }

    async fn prove(&self, _: Digest, _: SystemTitle, _: u32) -> Result<(), CountersError> {
        Ok(())
    }
}
