//! `kill -9` under load, again and again: what was acknowledged is still there, and the log is still one log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::account::Account;
use super::dice;
use super::load::Load;
use crate::live::Live;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_loses_nothing_that_it_acknowledged() {
    let kills = super::count("COS_ESCROW_KILLS", 20);
    let began = Instant::now();
    let (live, mut service) = Live::open().await;
    let live = Arc::new(live);
    // A feed that has never spoken is a reason not to be ready.
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &[live.event(0)]).await.unwrap();
    let load = Load::start(&live, &service, WORKERS).await;
    let mut account = Account::open(&live);
    let mut killed_early = 0;
    for kill in 1..=kills {
        sleep(dice::time(LIFE)).await;
        service.kill().await;
        // Some die before they listen: while they open the database, or bring it back in order.
        if kill % 4 == 0 {
            let starting = live.spawn();
            sleep(dice::time(BIRTH)).await;
            starting.kill().await;
            killed_early += 1;
        }
        service = live.start().await;
        let (status, checks) = service.probe("/readyz?verbose").await;
        assert_eq!(status, 200, "after kill {kill}: {checks}");
        account.continues(&live, &service).await;
        let lost = account.enter(&live, &service, load.acknowledged()).await;
        assert!(lost.is_empty(), "lost by kill {kill}: {lost:?}");
        load.connect(&service);
    }
    let rest = load.finish().await;
    let lost = account.enter(&live, &service, rest).await;
    assert!(lost.is_empty(), "lost: {lost:?}");
    let (entries, counts) = account.close(&live, &service).await;
    assert!(service.stop().await.success());
    let seconds = began.elapsed().as_secs();
    eprintln!(
        "{kills} kills and {killed_early} while starting, {seconds} s: {entries} entries, acknowledged {counts:?}, none lost"
    );
}

const WORKERS: u64 = 6;
/// How long the service lives at most before it is killed.
const LIFE: Duration = Duration::from_millis(800);
/// About how long it takes to start.
const BIRTH: Duration = Duration::from_millis(150);
