//! The power goes, under load and from the first start to its end: what was acknowledged is still there, and the
//! service starts.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::Signal;

use super::account::Account;
use super::dice;
use super::disk::{Disk, Flushes};
use super::load::Load;
use crate::live::{Live, Service};

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let cuts = super::count("COS_ESCROW_POWER_CUTS", 10);
    let began = Instant::now();
    let mut drill = Drill::begin(Flushes::Done).await;
    let load = Load::start(&drill.live, &drill.service, WORKERS).await;
    let (mut undecided, mut cut_at_start) = (0, 0);
    for cut in 1..=cuts {
        undecided += drill.cut().await;
        // Some go again while the service starts.
        if cut % 4 == 0 {
            cut_at_start += usize::from(drill.cut_at_start().await);
        }
        drill.start().await;
        let (status, checks) = drill.service.probe("/readyz?verbose").await;
        assert_eq!(status, 200, "after cut {cut}: {checks}");
        let Drill {
            live,
            service,
            account,
            ..
        } = &mut drill;
        account.continues(live, service).await;
        let lost = account.enter(live, service, load.acknowledged()).await;
        assert!(lost.is_empty(), "lost by cut {cut}: {lost:?}");
        load.connect(service);
    }
    let Drill {
        live,
        service,
        mut account,
        ..
    } = drill;
    let rest = load.finish().await;
    let lost = account.enter(&live, &service, rest).await;
    assert!(lost.is_empty(), "lost: {lost:?}");
    let (entries, counts) = account.close(&live, &service).await;
    assert!(service.stop().await.success());
    let sound = live.run(&["db", "check"], &[]).await;
    assert!(sound.status.success(), "{sound:?}");
    let seconds = began.elapsed().as_secs();
    eprintln!(
        "{cuts} power cuts and {cut_at_start} while starting, {seconds} s: {undecided} changes were not flushed; \
         {entries} entries, acknowledged {counts:?}, none lost"
    );
}

/// The drill bites: with fewer flushes there are losses, and the anchor knows.
#[tokio::test(flavor = "multi_thread")]
async fn with_synchronous_normal_a_power_cut_loses_what_was_acknowledged() {
    // Of what was written and not flushed, chance may keep everything.
    for _ in 0..20 {
        let mut drill = Drill::begin(Flushes::AsWithNormal).await;
        let load = Load::start(&drill.live, &drill.service, WORKERS).await;
        drill.cut().await;
        drill.start().await;
        let acknowledged = load.acknowledged();
        let (live, service) = (&drill.live, &drill.service);
        let Some(end) = service.ends_early().await else {
            let lost = drill.account.enter(live, service, acknowledged).await;
            assert!(lost.is_empty(), "the anchor says nothing of {lost:?}");
            continue;
        };
        if acknowledged.iter().any(|receipt| receipt.index >= end) {
            return;
        }
    }
    panic!("twenty power cuts lost nothing although little was flushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_loses_power_anywhere_is_followed_by_one_that_works() {
    let every = match super::count("COS_ESCROW_POWER_CUTS", 10) {
        0..100 => 12,
        _ => 1,
    };
    let mut step = 1 + dice::below(every);
    let mut steps = 0;
    loop {
        let live = Live::new();
        live.separate();
        let mut disk = Disk::below(&live.path(""), Flushes::Done);
        disk.cut_before(step);
        let starting = live.spawn_with(&disk.environment());
        let ended = match starting.listening_or_ended().await {
            Ok(service) => service.stop().await,
            Err((status, _)) => status,
        };
        if ended.success() {
            break;
        }
        assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{ended}");
        disk.restore();
        disk.cut_before(0);
        let service = live.spawn_with(&disk.environment()).listening().await;
        let (_, checks) = service.probe("/readyz?verbose").await;
        assert!(
            checks.contains("[+] log ok"),
            "after {step} changes: {checks}"
        );
        live.join(&service).await;
        assert!(service.stop().await.success());
        steps += 1;
        step += every;
    }
    assert!(steps > 1);
    eprintln!(
        "{steps} first starts without power, up to step {step}: each was followed by one that works"
    );
}

/// A service on a disk that can lose power.
struct Drill {
    live: Arc<Live>,
    service: Service,
    disk: Disk,
    account: Account,
}

impl Drill {
    async fn begin(flushes: Flushes) -> Self {
        let live = Live::new();
        live.separate();
        let disk = Disk::below(&live.path(""), flushes);
        let service = live.spawn_with(&disk.environment()).listening().await;
        live.join(&service).await;
        // A feed that has never spoken is a reason not to be ready.
        let registrar = live.staff("registrar", &service);
        live.register(&registrar, &[live.event(0)]).await.unwrap();
        let account = Account::open(&live);
        Self {
            live: Arc::new(live),
            service,
            disk,
            account,
        }
    }

    /// Cuts the power somewhere in the work of the next seconds. Returns how many changes were not flushed.
    async fn cut(&mut self) -> usize {
        self.disk.cut_before(1 + dice::below(CHANGES));
        self.service.gone().await;
        self.disk.restore()
    }

    /// Cuts the power while the service starts, or right after. Returns whether it was before it listened.
    async fn cut_at_start(&mut self) -> bool {
        self.disk.cut_before(1 + dice::below(2));
        let starting = self.live.spawn_with(&self.disk.environment());
        let early = match starting.listening_or_ended().await {
            Ok(service) => {
                service.kill().await;
                false
            }
            Err(_) => true,
        };
        self.disk.restore();
        early
    }

    async fn start(&mut self) {
        self.disk.cut_before(0);
        let starting = self.live.spawn_with(&self.disk.environment());
        self.service = starting.listening().await;
    }
}

const WORKERS: u64 = 6;
/// Changes within which the power goes: about sixty commits, and a checkpoint every third time.
const CHANGES: usize = 3_000;
