//! Takes simulated meters over with what was released, and shows that the losing supplier is out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::events::Event;
use super::market::Market;
use super::play::Handed;
use crate::cli::exit::Failure;
use crate::cli::meter::simulation::Seed;
use crate::cli::takeover::{Generation, JournalKey, Opened, SupplierEscrow, Voices};
use crate::dlms::SystemTitle;
use crate::meter::journal::{Intake, Journal, JournalSettings};
use crate::meter::link::{DlmsDial, MeterDial};
use crate::meter::profile::Profiles;
use crate::meter::secrets::Secrets;
use crate::meter::takeover::{Outcome, Settings, Takeover};
use crate::types::{Clock as _, Fuel, Mpid, SystemRandom};

/// What became of one meter.
#[derive(Debug, serde::Serialize)]
pub struct TakenOver {
    /// Its serial.
    pub serial: String,
    /// What it speaks.
    pub protocol: &'static str,
    /// Who has it now.
    pub supplier: Mpid,
    /// Whether the takeover was reported as rotated.
    pub rotated: bool,
    /// Whether the meter still holds the keys or passwords that the losing supplier knows.
    pub old_keys_work: bool,
    /// How often a nonce was used twice.
    pub nonce_reuses: u32,
}

/// Takes over so many of the released DLMS meters, and so many of those with passwords, each a simulated one on loopback.
pub async fn take_over(
    market: &Market,
    events: &[Event],
    handed: &[Handed],
    (dlms, passwords): (usize, usize),
) -> Result<Vec<TakenOver>, Failure> {
    let profiles = profiles(events)?;
    let fit = |is_dlms| {
        handed.iter().filter(move |handed| {
            let event = &events[handed.event];
            event.scenario == "normal"
                && event.mpxn.fuel() == Fuel::Electricity
                && event.is_dlms() == is_dlms
        })
    };
    let mut taken = Vec::new();
    for handed in fit(true).take(dlms).chain(fit(false).take(passwords)) {
        taken.push(one(market, &profiles, &events[handed.event], handed).await?);
    }
    Ok(taken)
}

/// All meters with passwords are simulated ones here, whatever make the event says.
fn profiles(events: &[Event]) -> Result<Profiles, Failure> {
    let mut profiles = Profiles::built_in();
    let simulated = profiles.choose("Simulated", "iec62056-21").map(Arc::clone);
    let simulated =
        simulated.ok_or_else(|| Failure::failed("the simulated meters have no profile"))?;
    let makes = events.iter().map(|event| event.make().to_owned()).collect();
    profiles.add(simulated.for_makes("demo", makes));
    Ok(profiles)
}

async fn one(
    market: &Market,
    profiles: &Profiles,
    event: &Event,
    handed: &Handed,
) -> Result<TakenOver, Failure> {
    let supplier = market
        .suppliers
        .get(&event.requester)
        .ok_or_else(|| Failure::failed("the supplier takes no part"))?;
    let opened = Opened::release(&handed.document.release, &supplier.sealing);
    let known = opened.generations.iter().map(Generation::secrets);
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let simulator = Seed::like(&opened)?.start(LOOPBACK, &[]).await?;
    let ours = (Some(simulator.address()), None);
    let ready = opened.ready(profiles, &Voices::All, ours)?;
    let meter = &ready.meter;

    let key = Arc::new(JournalKey::random(&SystemRandom));
    let path = market.folder.join(format!("journal-{}.db", event.serial()));
    let journal = open_journal(&path, key).await?;
    let escrow = SupplierEscrow {
        client: &supplier.client,
        party: supplier.party.clone(),
        signer: &supplier.signer,
        own_key: None,
        clock: &market.clock,
        journal: &journal,
        escrow_key: OnceCell::new(),
    };
    let dlms = DlmsDial {
        title: SystemTitle(*b"COSESCRW"),
        counters: &journal,
        random: &SystemRandom,
    };
    let dial = MeterDial { dlms };
    let takeover = Takeover {
        journal: &journal,
        dial: &dial,
        profiles,
        escrow: &escrow,
        clock: &market.clock,
        random: &SystemRandom,
        settings: Settings::default(),
    };
    let papers = ready.papers(supplier.sealing.public());
    let intake = Intake {
        meter,
        papers: Some(&papers),
        left_out: &[],
        network: "",
        run: None,
    };
    let claimed = journal.take_in(intake, market.clock.now()).await;
    claimed.map_err(Failure::failed)?;
    let outcome = takeover
        .run(meter.handover, &|_, _| {})
        .await
        .map_err(Failure::failed)?;
    let taken = TakenOver {
        serial: event.serial().to_owned(),
        protocol: known.first().map_or("", Secrets::protocol),
        supplier: event.requester,
        rotated: matches!(
            outcome,
            Outcome::Done(crate::meter::escrow::Report::Rotated { .. })
        ),
        old_keys_work: known.iter().any(|secrets| simulator.holds_any(secrets)),
        nonce_reuses: simulator.nonce_reuses(),
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
