//! What is looked at before anything is changed, in every suite and every manner in which meters answer.

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::Report;
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::Timestamp;

use super::peer::Peer;
use super::world::{World, released_keys, seed};
use super::{once, repoint};

#[tokio::test]
async fn the_read_that_the_meter_froze_when_supply_started_is_preferred() {
    let world = World::new().await;
    let ours = world.meter(seed(Suite::Zero), &[]).await;
    let theirs = Peer::start(&world, Suite::Zero, &["pdu:512"]).await;
    for address in [ours.address(), theirs.address()] {
        // A day that the meter has, and one that it has not.
        for (start, frozen) in [
            ("2026-09-10T00:00:00Z", true),
            ("2025-09-10T00:00:00Z", false),
        ] {
            let world = World::new().await;
            let start: Timestamp = start.parse().unwrap();
            let mut released = world.released_at(address, vec![released_keys(Suite::Zero)]);
            released.supply_start = Some(start);
            world.inventory(&released).await;
            let reads = world.reads(released.handover).await;
            let total = &reads[0];
            assert_eq!(total.register.to_string(), "1.0.1.8.0.255");
            assert_eq!((total.scaler_unit.scaler, total.scaler_unit.unit), (0, 30));
            match frozen {
                true => assert_eq!((total.value, total.meter_time), (123_072_000, Some(start))),
                false => assert_eq!((total.value, reads.len()), (123_456_789, 4)),
            }
        }
    }
}

#[tokio::test]
async fn what_the_meter_tells_about_itself_is_kept() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    released.ways[0].device_name = Some("SIMA012345678".to_owned());
    released.ways[0].firmware = Some("1.0".to_owned());
    world.inventory(&released).await;
    let record = world.journal.record(released.handover).await.unwrap();
    let told = record.progress.identity;
    assert_eq!(told.serial.as_deref(), Some("A012345678"));
    assert_eq!(told.device_name, released.ways[0].device_name);
    assert_eq!(told.firmware, released.ways[0].firmware);
    assert!(told.clock.is_some());
    assert_eq!(meter.state().transfers, 0);
}

#[tokio::test]
async fn a_meter_that_takes_no_lists_is_read_one_by_one() {
    let mut shown = Vec::new();
    for takes_no_lists in [false, true] {
        let world = World::new().await;
        let mut seed = seed(Suite::One);
        seed.manners.takes_no_lists = takes_no_lists;
        seed.manners.answers_general = takes_no_lists;
        let meter = world.meter(seed, &[]).await;
        let released = world.released(&meter, vec![released_keys(Suite::One)]);
        let outcome = world.take_over(&released, once()).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{outcome:?}"
        );
        let reads = world.reads(released.handover).await.into_iter();
        shown.push(
            reads
                .map(|read| (read.register, read.value))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(shown[0].len(), 4);
    assert_eq!(shown[0], shown[1]);
}

#[tokio::test]
async fn foreign_meters_of_every_suite_and_manner_are_taken_over() {
    for suite in [Suite::Zero, Suite::One, Suite::Two] {
        for manner in [&["answer-general", "pdu:512"][..], &["cse"], &["silent"]] {
            let world = World::new().await;
            let meter = Peer::start(&world, suite, manner).await;
            let mut released = world.released_at(meter.address(), vec![released_keys(suite)]);
            released.repoint = Some(repoint());
            let outcome = world.take_over(&released, Settings::default()).await;
            assert!(
                matches!(outcome, Outcome::Done(Report::Rotated { .. })),
                "{suite:?} {manner:?}: {outcome:?}"
            );
            assert!(meter.holds(&world.newest_keys(released.handover).await));
            assert_eq!(meter.texts("autoconnect"), ["10.9.8.7:5000"]);
            assert_eq!(meter.seen().nonce_reuses, 0, "{suite:?} {manner:?}");
        }
    }
}
