//! Several ways to one meter: which is gone, and what is said on the others.

use std::net::SocketAddr;

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::{Report, StopReason};
use cos_escrow::meter::journal::State;
use cos_escrow::meter::link::LinkError;
use cos_escrow::meter::released::{Belief, ReleasedMeter};
use cos_escrow::meter::secrets::KeySet;
use cos_escrow::meter::takeover::{Outcome, Settings};
use cos_escrow::types::SystemRandom;

use super::world::{World, released_keys, seed};

/// Where nothing listens.
fn away() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn strange_keys() -> Vec<KeySet> {
    vec![KeySet::random(Suite::Zero, &SystemRandom)]
}

/// One meter by both ways, the second one believed so far.
fn by_both(mut first: ReleasedMeter, mut second: ReleasedMeter, belief: Belief) -> ReleasedMeter {
    let mut way = second.ways.remove(0);
    way.belief = belief;
    first.ways.push(way);
    first
}

#[tokio::test]
async fn a_way_that_is_away_keeps_only_those_waiting_that_are_believed_less() {
    for belief in [Belief::Due, Belief::Unsigned, Belief::Former] {
        let world = World::new().await;
        let meter = world.meter(seed(Suite::Zero), &[]).await;
        let first = world.released_at(away(), strange_keys());
        let second = world.released(&meter, vec![released_keys(Suite::Zero)]);
        let released = by_both(first, second, belief);
        let outcome = world.take_over(&released, Settings::default()).await;
        match (belief, outcome) {
            (Belief::Due, Outcome::Done(Report::Rotated { .. })) => {
                let ours = world.newest_keys(released.handover).await;
                assert!(meter.state().holds(&ours));
            }
            (Belief::Unsigned | Belief::Former, Outcome::Waiting { cause, .. }) => {
                assert_eq!(cause, Some(LinkError::Unreachable));
                assert!(meter.state().attempts.is_empty(), "{belief:?}");
                let record = world.journal.record(released.handover).await.unwrap();
                assert_eq!(record.progress.state, State::Claimed);
                assert_eq!(record.progress.way, 0);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_way_that_leads_nowhere_for_good_is_left_for_the_next_and_not_gone_again() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let first = world.released(&meter, strange_keys());
    let second = world.released(&meter, vec![released_keys(Suite::Zero)]);
    let released = by_both(first, second, Belief::Former);
    let outcome = world.take_over(&released, Settings::default()).await;
    assert!(
        matches!(outcome, Outcome::Done(Report::Rotated { .. })),
        "{outcome:?}"
    );
    let record = world.journal.record(released.handover).await.unwrap();
    let no_ways: Vec<_> = record.progress.no_ways.iter().map(|no| no.reason).collect();
    assert_eq!(
        (record.progress.way, &no_ways[..]),
        (1, &[StopReason::WrongKeys][..])
    );
}

#[tokio::test]
async fn when_no_way_leads_to_the_meter_the_likeliest_says_why() {
    let world = World::new().await;
    let mut other = seed(Suite::Zero);
    other.serial = "ANOTHER001".to_owned();
    let other = world.meter(other, &[]).await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let first = world.released(&other, vec![released_keys(Suite::Zero)]);
    let second = world.released(&meter, strange_keys());
    let released = by_both(first, second, Belief::Due);
    let outcome = world.take_over(&released, Settings::default()).await;
    let rejected = Report::Rejected(StopReason::WrongMeter);
    assert_eq!(outcome, Outcome::Done(rejected));
    assert!(meter.state().holds(&released_keys(Suite::Zero)));
}
