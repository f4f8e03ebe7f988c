//! Taking meters over, against the simulated meter of this crate and against one that shares no code with it.

use std::time::Duration;

use cos_escrow::dlms::SystemTitle;
use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::{Path, Report, StopReason};
use cos_escrow::meter::journal::{Claim, State};
use cos_escrow::meter::link::{DeviceId, LinkError};
use cos_escrow::meter::released::Repoint;
use cos_escrow::meter::secrets::KeySet;
use cos_escrow::meter::simulate::Faults;
use cos_escrow::meter::takeover::{Outcome, Rounds, Settings};
use cos_escrow::types::{Clock as _, HandoverId, SystemRandom};
use world::{Kill, World, released_keys, seed};

mod cuts;
mod dice;
mod fleet;
mod hostile;
mod inventory;
mod loser;
mod loss;
mod matrix;
mod mode_c;
mod others;
mod peer;
mod plan;
mod proxy;
mod repoint;
mod subject;
mod ways;
mod world;

#[tokio::test]
async fn a_takeover_leaves_the_meter_with_new_keys_that_only_the_gainer_has() {
    for suite in [Suite::Zero, Suite::Two] {
        let world = World::new().await;
        let meter = world.meter(seed(suite), &[]).await;
        let mut released = world.released(&meter, vec![released_keys(suite)]);
        released.repoint = Some(repoint());
        let outcome = world.take_over(&released, Settings::default()).await;
        let report = Report::Rotated {
            generation: 2,
            path: Path::Gaining,
            stays_open: Vec::new(),
        };
        assert_eq!(outcome, Outcome::Done(report.clone()));
        assert_eq!(world.escrow.reports(), [report]);
        let state = meter.state();
        assert!(state.holds(&world.newest_keys(released.handover).await));
        assert!(
            world
                .escrow
                .last_deposit_is(&world.newest_keys(released.handover).await)
        );
        assert_eq!((state.apn.as_str(), state.port), ("gainer.smart", 4060));
        assert_eq!(state.destination, "10.9.8.7:5000");
        assert_eq!(state.nonce_reuses, 0);
        // The released keys, once, to see that they are refused.
        assert_eq!(state.failures_in_all, 1);
        assert_eq!(state.keys_seen, [2, 2, 2, 2]);
    }
}

#[tokio::test]
async fn the_read_of_the_change_of_supplier_is_taken_before_anything_is_changed() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    world.take_over(&released, once()).await;
    let reads = world.escrow.reads();
    let shown: Vec<_> = reads
        .iter()
        .map(|read| {
            (
                read.register.to_string(),
                read.value,
                read.scaler_unit.scaler,
            )
        })
        .collect();
    let expected = [
        ("1.0.1.8.0.255", 123_456_789, 0),
        ("1.0.1.8.1.255", 82_304_526, 0),
        ("1.0.1.8.2.255", 41_152_263, 0),
        ("1.0.2.8.0.255", 4, 1),
    ];
    assert_eq!(
        shown,
        expected.map(|(name, value, scaler)| (name.to_owned(), value, scaler))
    );
    assert!(
        reads
            .iter()
            .all(|read| read.meter_time.is_some() && read.read_at == world.clock.now())
    );
}

#[tokio::test]
async fn another_meter_at_the_address_is_left_as_it_is() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    for wrong in ["serial", "title", "name", "firmware"] {
        let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
        match wrong {
            "serial" => released.serial = "B0000000001".parse().unwrap(),
            "title" => {
                released.ways[0].device = DeviceId::SystemTitle(SystemTitle(*b"MMM\0\0\0\0\0"))
            }
            "name" => released.ways[0].device_name = Some("SIMother".to_owned()),
            _ => released.ways[0].firmware = Some("0.9".to_owned()),
        }
        let outcome = world.take_over(&released, Settings::default()).await;
        let reason = match wrong {
            "firmware" => StopReason::WrongFirmware,
            _ => StopReason::WrongMeter,
        };
        let rejected = Report::Rejected(reason);
        assert_eq!(outcome, Outcome::Done(rejected), "{wrong}");
        let state = meter.state();
        assert_eq!((state.transfers, state.failures_in_all), (0, 0), "{wrong}");
        assert!(state.holds(&released_keys(Suite::Zero)), "{wrong}");
    }
}

#[tokio::test]
async fn wrong_keys_are_reported_and_a_second_release_starts_again() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let wrong = KeySet::random(Suite::Zero, &SystemRandom);
    let mut released = world.released(&meter, vec![wrong]);
    let rejected = Report::Rejected(StopReason::WrongKeys);
    assert_eq!(
        world.take_over(&released, once()).await,
        Outcome::Done(rejected)
    );
    assert_eq!(meter.state().failures_in_all, 1);
    released.ways[0].candidates = vec![released_keys(Suite::Zero).into()];
    assert_eq!(world.claim(&released).await, Claim::Again);
    assert!(matches!(
        world.run(released.handover, once()).await,
        Outcome::Done(Report::Rotated { .. })
    ));
    assert!(
        meter
            .state()
            .holds(&world.newest_keys(released.handover).await)
    );
}

#[tokio::test]
async fn the_newest_candidate_is_tried_first_and_an_older_one_still_opens() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let newer = KeySet::random(Suite::Zero, &SystemRandom);
    let released = world.released(&meter, vec![newer, released_keys(Suite::Zero)]);
    assert!(matches!(
        world.take_over(&released, once()).await,
        Outcome::Done(Report::Rotated { .. })
    ));
    // One for the newer set, one for the released keys in the end.
    assert_eq!(meter.state().failures_in_all, 2);
    assert!(
        meter
            .state()
            .holds(&world.newest_keys(released.handover).await)
    );
}

#[tokio::test]
async fn a_mixed_pair_that_an_earlier_gainer_left_is_found() {
    let world = World::new().await;
    let older = released_keys(Suite::Zero);
    let newer = KeySet::random(Suite::Zero, &SystemRandom);
    let mut mixed = seed(Suite::Zero);
    let copy =
        |key: &cos_escrow::types::Secret| cos_escrow::types::Secret::new(key.expose().to_vec());
    mixed.keys = KeySet::new(
        Suite::Zero,
        copy(newer.guek()),
        copy(older.gak()),
        copy(older.kek()),
    )
    .unwrap();
    let meter = world.meter(mixed, &[]).await;
    let released = world.released(&meter, vec![newer, older]);
    let outcome = world.take_over(&released, once()).await;
    assert!(
        matches!(outcome, Outcome::Done(Report::Rotated { .. })),
        "{outcome:?}"
    );
    let state = meter.state();
    assert!(state.holds(&world.newest_keys(released.handover).await));
    assert_eq!((state.nonce_reuses, state.keys_seen[0]), (0, 1));
}

#[tokio::test]
async fn no_meter_is_tried_more_often_than_its_lock_allows() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &["lock-out:4/3600"]).await;
    let wrong = || KeySet::random(Suite::Zero, &SystemRandom);
    let released = world.released(&meter, vec![wrong(), wrong(), wrong()]);
    world.claim(&released).await;
    let mut waits = Vec::new();
    for _ in 0..2 {
        let outcome = world.run(released.handover, once()).await;
        let Outcome::Waiting { until, cause } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(cause, Some(LinkError::KeysRefused));
        waits.push(until.since(world.clock.now()));
        let failures = meter.state().failures_in_all;
        // Too early is no try at all.
        assert!(matches!(
            world.run(released.handover, once()).await,
            Outcome::Waiting { .. }
        ));
        assert_eq!(meter.state().failures_in_all, failures);
        world.clock.set(until);
        meter.set_faults(Faults::default());
    }
    let quarter = Duration::from_secs(15 * 60);
    assert_eq!(waits, [quarter, quarter * 2]);
    assert_eq!(meter.state().failures_in_all, 6);
}

#[tokio::test]
async fn a_meter_that_nobody_can_reach_is_tried_later_and_costs_no_attempt() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    meter.stop().await;
    let outcome = world.take_over(&released, once()).await;
    let until = world.clock.now().after(Duration::from_secs(5 * 60));
    let cause = Some(LinkError::Unreachable);
    assert_eq!(outcome, Outcome::Waiting { until, cause });
    let progress = world
        .journal
        .record(released.handover)
        .await
        .unwrap()
        .progress;
    assert_eq!((progress.state, progress.failures), (State::Claimed, 0));
}

#[tokio::test]
async fn a_meter_that_takes_no_keys_is_reported_and_keeps_those_it_has() {
    let world = World::new().await;
    let reject: Vec<String> = (1..=20).map(|at| format!("reject:{at}")).collect();
    let reject: Vec<&str> = reject.iter().map(String::as_str).collect();
    let meter = world.meter(seed(Suite::Zero), &reject).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let report = Report::CannotRotate(StopReason::TransferRefused);
    assert_eq!(
        world.take_over(&released, once()).await,
        Outcome::Done(report)
    );
    assert!(meter.state().holds(&released_keys(Suite::Zero)));
}

#[tokio::test]
async fn the_released_keys_must_be_refused_in_the_end() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    // After "repointing", a meter that still has the released keys and the new ones' serial number answers.
    let twin = world.meter(seed(Suite::Zero), &[]).await;
    released.repoint = Some(Repoint {
        address: Some(twin.address()),
        ..repoint()
    });
    let outcome = world.take_over(&released, once()).await;
    let report = Report::CannotRotate(StopReason::OldKeysWork);
    assert_eq!(outcome, Outcome::Done(report.clone()));
    assert_eq!(world.escrow.reports(), [report]);
}

#[tokio::test]
async fn a_meter_that_takes_no_second_round_is_for_people() {
    let world = World::new().await;
    let reject: Vec<String> = (7..=30).map(|at| format!("reject:{at}")).collect();
    let reject: Vec<&str> = reject.iter().map(String::as_str).collect();
    let meter = world.meter(seed(Suite::Zero), &reject).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let stopped = Outcome::Stopped(StopReason::TransferRefused);
    assert_eq!(
        world.take_over(&released, Settings::default()).await,
        stopped
    );
    assert!(world.escrow.reports().is_empty());
    assert!(!meter.state().holds(&released_keys(Suite::Zero)));
}

#[tokio::test]
async fn two_workers_never_work_on_one_meter() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    world.claim(&released).await;
    let both = tokio::join!(
        world.run(released.handover, once()),
        world.run(released.handover, once()),
    );
    assert!(matches!(
        both,
        (Outcome::Done(_), Outcome::Busy) | (Outcome::Busy, Outcome::Done(_))
    ));
    let mut other = world.released(&meter, vec![released_keys(Suite::Zero)]);
    other.handover = HandoverId::random(&SystemRandom);
    assert_eq!(world.claim(&other).await, Claim::New);
    let third = world.released(&meter, vec![released_keys(Suite::Zero)]);
    assert!(
        world.try_claim(&third).await.is_err(),
        "a second open takeover of one meter"
    );
}

#[tokio::test]
async fn a_meter_that_does_not_show_its_counter_tells_it_when_it_refuses_and_no_counter_is_used_twice()
 {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &["hidden-ic"]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let outcome = world.take_over(&released, Settings::default()).await;
    assert!(
        matches!(outcome, Outcome::Done(Report::Rotated { .. })),
        "{outcome:?}"
    );
    assert_eq!(meter.state().nonce_reuses, 0);
}

#[tokio::test]
async fn a_counter_that_jumps_is_not_believed_unless_it_was_handed_over() {
    let world = World::new().await;
    let mut far = seed(Suite::Zero);
    far.last_counter = Some(1 << 30);
    let meter = world.meter(far, &[]).await;
    let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let outcome = world.take_over(&released, once()).await;
    assert!(
        matches!(
            outcome,
            Outcome::Waiting {
                cause: Some(LinkError::Counters(_)),
                ..
            }
        ),
        "{outcome:?}"
    );
    released.handover = HandoverId::random(&SystemRandom);
    let far = released_keys(Suite::Zero).with_last_counter((1 << 30) - 5);
    released.ways[0].candidates = vec![far.into()];
    let again = World::new().await;
    let outcome = again.take_over(&released, once()).await;
    assert!(
        matches!(outcome, Outcome::Done(Report::Rotated { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn the_journal_shows_no_key() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    world.claim(&released).await;
    world
        .run_until(released.handover, once(), Kill::AfterState(State::Sent))
        .await;
    let record = world.journal.record(released.handover).await.unwrap();
    assert_eq!(record.sets.len(), 2);
    let files = world.journal_files();
    for set in record.sets.values() {
        let keys = set.keys().unwrap();
        for key in [keys.guek(), keys.gak(), keys.kek()] {
            let found = files
                .iter()
                .any(|file| file.windows(16).any(|bytes| bytes == key.expose()));
            assert!(!found);
        }
    }
}

fn repoint() -> Repoint {
    Repoint {
        apn: "gainer.smart".to_owned(),
        destination: "10.9.8.7:5000".to_owned(),
        port: 4060,
        address: None,
    }
}

fn once() -> Settings {
    Settings {
        rounds: Rounds::Once,
        ..Settings::default()
    }
}
