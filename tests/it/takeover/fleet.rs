//! Many takeovers at once, out of one journal.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Mutex;
use std::time::Duration;

use cos_escrow::dlms::SystemTitle;
use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::fleet::{Bounds, Counts, Ended, run_fleet};
use cos_escrow::meter::journal::{Intake, Note, Query, RunId, Scope, State};
use cos_escrow::meter::link::DeviceId;
use cos_escrow::meter::simulate::Simulator;
use cos_escrow::meter::takeover::Outcome;
use cos_escrow::types::{Clock as _, HandoverId, SystemRandom};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::once;
use super::world::{World, released_keys, seed};

fn described(ended: &Ended) -> Note {
    Note {
        outcome: match ended {
            Ok(Outcome::Done(_)) => "done".to_owned(),
            _ => "not done".to_owned(),
        },
        reason: format!("{ended:?}"),
    }
}

fn bounds<'a>(
    [at_once, per_network]: [usize; 2],
    on_change: &'a (dyn Fn(&Counts) + Sync),
) -> Bounds<'a> {
    Bounds {
        scope: Scope::All,
        at_once: NonZeroUsize::new(at_once).unwrap(),
        per_network: NonZeroUsize::new(per_network).unwrap(),
        connects_per_second: NonZeroU32::new(200),
        describe: &described,
        on_change,
    }
}

fn title(number: u8) -> SystemTitle {
    SystemTitle([b'F', b'L', b'E', b'E', b'T', 0, 0, number])
}

/// Claims the meter of this number, at an address, in a network.
async fn claim(world: &World, number: u8, address: SocketAddr, network: &str) -> HandoverId {
    let mut meter = world.released_at(address, vec![released_keys(Suite::Zero)]);
    meter.ways[0].device = DeviceId::SystemTitle(title(number));
    let intake = Intake {
        meter: &meter,
        papers: None,
        left_out: &[],
        network,
        run: None,
    };
    world
        .journal
        .take_in(intake, world.clock.now())
        .await
        .unwrap();
    meter.handover
}

async fn meter(world: &World, number: u8, faults: &[&str]) -> Simulator {
    let mut seed = seed(Suite::Zero);
    seed.system_title = title(number);
    world.meter(seed, faults).await
}

#[tokio::test]
async fn a_fleet_is_taken_over_with_its_progress_told() {
    let world = World::new().await;
    let mut meters = Vec::new();
    for number in 0..20_u8 {
        let faults: &[&str] = match number % 3 {
            0 => &["drop-response"],
            _ => &[],
        };
        let meter = meter(&world, number, faults).await;
        let network = ["", "east", "west"][usize::from(number % 3)];
        let handover = claim(&world, number, meter.address(), network).await;
        meters.push((handover, meter));
    }
    let dial = world.dial();
    let takeover = world.takeover(&dial, once());
    let told = Mutex::new(Vec::new());
    let on_change = |counts: &Counts| told.lock().unwrap().push(counts.clone());
    let counts = run_fleet(&takeover, bounds([8, 4], &on_change))
        .await
        .unwrap();
    assert_eq!((counts.done, counts.ended()), (20, 20));
    assert_eq!(counts.states[&State::Reported], 20);
    let told = told.into_inner().unwrap();
    for counts in &told {
        assert_eq!(counts.states.values().sum::<usize>(), 20, "{counts:?}");
    }
    assert!(
        told.iter()
            .any(|counts| counts.states.contains_key(&State::Sent))
    );
    for (handover, meter) in &meters {
        assert!(meter.state().holds(&world.newest_keys(*handover).await));
        assert_eq!(meter.state().nonce_reuses, 0);
    }
    let over = world.journal.list(&Query::default()).await.unwrap();
    assert!(over.iter().all(|row| row.state == State::Reported));
    assert!(
        over.iter()
            .all(|row| row.note.as_ref().unwrap().outcome == "done")
    );
}

#[tokio::test]
async fn a_network_that_hangs_keeps_no_other_one_waiting() {
    let world = World::new().await;
    // Connections come about, and nothing is ever answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for number in 0..6 {
        claim(&world, number, silent.local_addr().unwrap(), "hangs").await;
    }
    let mut meters = Vec::new();
    for number in 6..10 {
        let meter = meter(&world, number, &[]).await;
        claim(&world, number, meter.address(), "works").await;
        meters.push(meter);
    }
    let dial = world.dial();
    let takeover = world.takeover(&dial, once());
    let works = Notify::new();
    let last = Mutex::new(Counts::default());
    let on_change = |counts: &Counts| {
        *last.lock().unwrap() = counts.clone();
        if counts.done == 4 {
            works.notify_one();
        }
    };
    tokio::select! {
        () = works.notified() => {}
        counts = run_fleet(&takeover, bounds([4, 3], &on_change)) => panic!("{counts:?}"),
    }
    let counts = last.into_inner().unwrap();
    assert_eq!((counts.done, counts.ended()), (4, 4), "{counts:?}");
}

#[tokio::test]
async fn a_meter_that_has_to_wait_is_left_alone_until_its_time() {
    let world = World::new().await;
    let meter = meter(&world, 1, &[]).await;
    let address = meter.address();
    meter.stop().await;
    claim(&world, 1, address, "").await;
    let dial = world.dial();
    let takeover = world.takeover(&dial, once());
    let run = async || run_fleet(&takeover, bounds([1, 1], &|_| {})).await.unwrap();
    assert_eq!(run().await.waiting, 1);
    let next = world.journal.next_due(Scope::All).await.unwrap().unwrap();
    assert!(next > world.clock.now());
    let tally = world
        .journal
        .tally(Scope::All, world.clock.now())
        .await
        .unwrap();
    assert_eq!((tally.waiting, tally.stopped), (1, 0));
    assert_eq!(run().await.ended(), 0);
    world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(run().await.waiting, 1);
}

#[tokio::test]
async fn the_journal_is_listed_in_pages_by_state_and_by_run() {
    let world = World::new().await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut handovers = Vec::new();
    for number in 0..10 {
        handovers.push(claim(&world, number, nowhere, "").await);
    }
    handovers.sort();
    let mut query = Query {
        limit: 4,
        ..Query::default()
    };
    let mut listed = Vec::new();
    loop {
        let page = world.journal.list(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        query.after = Some(last.handover);
        listed.extend(page.iter().map(|row| row.handover));
    }
    assert_eq!(listed, handovers);
    let sent = Query {
        states: vec![State::Sent, State::Proven],
        ..Query::default()
    };
    assert!(world.journal.list(&sent).await.unwrap().is_empty());
    let run = RunId::random(&SystemRandom);
    let of_run = Query {
        scope: Scope::Run(run),
        ..Query::default()
    };
    assert!(world.journal.list(&of_run).await.unwrap().is_empty());
    world.journal.adopt(run).await.unwrap();
    assert_eq!(world.journal.list(&of_run).await.unwrap().len(), 10);
}
