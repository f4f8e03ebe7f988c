//! `kill -9` under load, again and again: what was acknowledged is still there, and the log is still one log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cos_escrow::client::{Client, Request};
use cos_escrow::types::{Random as _, SystemRandom};
use serde_json::Value;
use tokio::time::sleep;

use super::load::Load;
use crate::live::{Acknowledged, Live, Mirror, Service, What, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_loses_nothing_that_it_acknowledged() {
    let kills = std::env::var_os("COS_ESCROW_KILLS");
    let kills: u32 = kills.map_or(20, |kills| kills.to_str().unwrap().parse().unwrap());
    let began = Instant::now();
    let (live, mut service) = Live::open().await;
    let live = Arc::new(live);
    let auditor = live.issue("urn:cos-escrow:auditor:live", now());
    // A feed that has never spoken is a reason not to be ready.
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &[live.event(0)]).await.unwrap();
    let load = Load::start(&live, &service, WORKERS).await;
    let mut mirror = Mirror::default();
    let mut killed_early = 0;
    for kill in 1..=kills {
        sleep(up_to(LIFE)).await;
        service.kill().await;
        // Some die before they listen: while they open the database, or bring it back in order.
        if kill % 4 == 0 {
            let starting = live.spawn();
            sleep(up_to(BIRTH)).await;
            starting.kill().await;
            killed_early += 1;
        }
        service = live.start().await;
        let (status, checks) = service.probe("/readyz?verbose").await;
        assert_eq!(status, 200, "after kill {kill}: {checks}");
        let pinned = live.pinned(&auditor, &service, "pinned-auditor");
        pinned.verified_checkpoint().await.unwrap();
        mirror.fetch(&pinned, &service.log_key).await;
        load.connect(&service);
    }
    let acknowledged = load.finish().await;
    let reader = live.pinned(&auditor, &service, "pinned-auditor");
    let log = mirror.fetch(&reader, &service.log_key).await;
    for receipt in &acknowledged {
        let (what, index) = (receipt.what, receipt.index);
        assert!(
            receipt.is_in(&log, &service.log_key),
            "{what:?} in entry {index}"
        );
    }
    let counts = is_reflected(&live, &service, &acknowledged).await;
    assert!(service.stop().await.success());
    let seconds = began.elapsed().as_secs();
    eprintln!(
        "{kills} kills and {killed_early} while starting, {seconds} s: {} entries, acknowledged {counts:?}, none lost",
        log.head.size
    );
}

/// Every handover is at least where its newest acknowledgement says. Returns how many there were of each kind.
async fn is_reflected(
    live: &Live,
    service: &Service,
    acknowledged: &[Acknowledged],
) -> BTreeMap<What, usize> {
    let gainer = live.client(&live.gainer.tls, service);
    let handovers = gained(&gainer).await;
    let mut counts = BTreeMap::new();
    for receipt in acknowledged {
        let handover = &handovers[&receipt.handover.to_string()];
        let instant = match receipt.what {
            What::Deposit => "deposited_at",
            What::Release => "released_at",
            What::Confirmation => "confirmed_at",
        };
        assert!(
            handover[instant].is_string(),
            "{:?}: {handover}",
            receipt.what
        );
        *counts.entry(receipt.what).or_default() += 1;
        // Every worker ends with a whole handover.
        assert_eq!(handover["state"], "confirmed", "{handover}");
    }
    counts
}

/// All handovers to the gaining supplier, by id.
async fn gained(gainer: &Client) -> BTreeMap<String, Value> {
    let mut handovers = BTreeMap::new();
    let mut path = "/v1/handovers?role=gaining&limit=1000".to_owned();
    loop {
        let page: Value = gainer
            .send(Request::get(&path))
            .await
            .unwrap()
            .json()
            .unwrap();
        for handover in page["handovers"].as_array().unwrap() {
            handovers.insert(
                handover["id"].as_str().unwrap().to_owned(),
                handover.clone(),
            );
        }
        let Some(next) = page["next"].as_str() else {
            return handovers;
        };
        path = format!("/v1/handovers?role=gaining&limit=1000&after={next}");
    }
}

/// A random time below this one.
fn up_to(most: Duration) -> Duration {
    let mut random = [0; 4];
    SystemRandom.fill(&mut random);
    most.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
}

const WORKERS: u64 = 6;
/// How long the service lives at most before it is killed.
const LIFE: Duration = Duration::from_millis(800);
/// About how long it takes to start.
const BIRTH: Duration = Duration::from_millis(150);
