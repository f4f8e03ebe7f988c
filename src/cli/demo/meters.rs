//! Takes simulated meters over with what was released, and shows that the losing supplier is out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::events::Event;
use super::market::Market;
use super::play::Handed;
use crate::cli::exit::Failure;
use crate::cli::takeover::{JournalKey, Opened, SupplierEscrow};
use crate::dlms::SystemTitle;
use crate::meter::journal::{Journal, JournalSettings};
use crate::meter::link::{DeviceId, DlmsDial};
use crate::meter::profile::Profiles;
use crate::meter::secrets::Secrets;
use crate::meter::simulate::{Faults, MeterSeed, Simulator};
use crate::meter::takeover::{Outcome, Settings, Takeover};
use crate::types::{Clock as _, Fuel, Mpid, SystemRandom};

/// What became of one meter.
#[derive(Debug, serde::Serialize)]
pub struct TakenOver {
    /// Its serial.
    pub serial: String,
    /// Who has it now.
    pub supplier: Mpid,
    /// Whether the takeover was reported as rotated.
    pub rotated: bool,
    /// Whether the meter still holds the keys that the losing supplier knows.
    pub old_keys_work: bool,
    /// How often a nonce was used twice.
    pub nonce_reuses: u32,
}

/// Takes over up to `limit` of the released DLMS meters, each a simulated one on loopback.
pub async fn take_over(
    market: &Market,
    events: &[Event],
    handed: &[Handed],
    limit: usize,
) -> Result<Vec<TakenOver>, Failure> {
    let fit = handed.iter().filter(|handed| {
        let event = &events[handed.event];
        event.scenario == "normal" && event.mpxn.fuel() == Fuel::Electricity && event.is_dlms()
    });
    let mut taken = Vec::new();
    for handed in fit.take(limit) {
        taken.push(one(market, &events[handed.event], handed).await?);
    }
    Ok(taken)
}

async fn one(market: &Market, event: &Event, handed: &Handed) -> Result<TakenOver, Failure> {
    let supplier = market
        .suppliers
        .get(&event.requester)
        .ok_or_else(|| Failure::failed("the supplier takes no part"))?;
    let opened = Opened::release(&handed.document.release, &supplier.sealing)?;
    let profiles = Profiles::built_in();
    let on_the_wall = opened.meter(&profiles, Some(LOOPBACK))?;
    let simulator = simulator(event, opened.meter(&profiles, Some(LOOPBACK))?).await?;
    let meter = opened.meter(&profiles, Some(simulator.address()))?;

    let key = Arc::new(JournalKey::random(&SystemRandom));
    let path = market.folder.join(format!("journal-{}.db", event.serial()));
    let journal = open_journal(&path, key).await?;
    let escrow = SupplierEscrow {
        client: &supplier.client,
        party: supplier.party.clone(),
        signer: &supplier.signer,
        own_key: supplier.sealing.public().clone(),
        clock: &market.clock,
        opened: BTreeMap::from([(opened.handover, opened)]),
    };
    let dial = DlmsDial {
        title: SystemTitle(*b"COSESCRW"),
        counters: &journal,
        random: &SystemRandom,
    };
    let takeover = Takeover {
        journal: &journal,
        dial: &dial,
        profiles: &profiles,
        escrow: &escrow,
        clock: &market.clock,
        random: &SystemRandom,
        settings: Settings::default(),
    };
    takeover.claim(&meter).await.map_err(Failure::failed)?;
    let outcome = takeover
        .run(meter.handover, &|_, _| {})
        .await
        .map_err(Failure::failed)?;
    let state = simulator.state();
    let taken = TakenOver {
        serial: event.serial().to_owned(),
        supplier: event.requester,
        rotated: matches!(
            outcome,
            Outcome::Done(crate::meter::escrow::Report::Rotated { .. })
        ),
        old_keys_work: (on_the_wall.candidates.iter())
            .filter_map(Secrets::keys)
            .any(|keys| state.holds(keys)),
        nonce_reuses: state.nonce_reuses,
    };
    simulator.stop().await;
    journal.close().await;
    Ok(taken)
}

async fn open_journal(path: &Path, key: Arc<JournalKey>) -> Result<Journal, Failure> {
    Journal::open(path, key, JournalSettings::default())
        .await
        .map_err(Failure::failed)
}

/// The meter on the wall: it has the keys of the package, and shows what the losing supplier read.
async fn simulator(
    event: &Event,
    meter: crate::meter::released::ReleasedMeter,
) -> Result<Simulator, Failure> {
    let keys = meter.candidates.into_iter().next();
    let keys = keys.and_then(Secrets::into_keys);
    let (Some(keys), DeviceId::SystemTitle(title)) = (keys, meter.device) else {
        return Err(Failure::failed("the release holds no keys"));
    };
    let counter = keys.last_counter();
    let mut seed = MeterSeed::new(event.serial(), title, keys);
    seed.last_counter = Some(counter);
    if let Some(total) = seed.registers.first_mut() {
        total.value = event.total_watt_hours();
    }
    Simulator::start(LOOPBACK, seed, Faults::default())
        .await
        .map_err(Failure::failed)
}

/// What shows that a takeover did what it should.
impl TakenOver {
    /// The new keys work, the old are refused, and no nonce was used twice.
    pub fn is_right(&self) -> bool {
        self.rotated && !self.old_keys_work && self.nonce_reuses == 0
    }
}

/// When the grace period after a confirmation is over.
pub fn grace_over(market: &Market) -> crate::types::Timestamp {
    let grace = market.instance.escrow.terms().grace();
    market
        .clock
        .now()
        .after(grace + std::time::Duration::from_secs(60))
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
