//! The meter reports to the gaining supplier, and the losing one's destination goes last.

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::{Path, Report};
use cos_escrow::meter::journal::State;
use cos_escrow::meter::takeover::{Outcome, Settings};

use super::repoint;
use super::world::{Kill, World, released_keys, seed};

#[tokio::test]
async fn the_old_destination_stays_second_until_the_new_path_is_verified() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    released.repoint = Some(repoint());
    world.claim(&released).await;
    let repointed = Kill::AfterState(State::Repointed);
    assert!(
        world
            .run_until(released.handover, Settings::default(), repointed)
            .await
    );
    assert_eq!(meter.state().destinations, ["10.9.8.7:5000", "10.0.0.1"]);
    let world = world.after_crash().await;
    let outcome = world.run(released.handover, Settings::default()).await;
    let gaining = |report: &Report| {
        matches!(
            report,
            Report::Rotated {
                path: Path::Gaining,
                ..
            }
        )
    };
    assert!(
        matches!(&outcome, Outcome::Done(report) if gaining(report)),
        "{outcome:?}"
    );
    let state = meter.state();
    assert_eq!(state.destinations, ["10.9.8.7:5000"]);
    assert_eq!(state.destination, "10.9.8.7:5000");
}

#[tokio::test]
async fn a_meter_with_one_destination_gets_the_new_one_at_once() {
    let world = World::new().await;
    let mut seed = seed(Suite::Zero);
    seed.manners.has_one_destination = true;
    let meter = world.meter(seed, &[]).await;
    let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    released.repoint = Some(repoint());
    let outcome = world.take_over(&released, Settings::default()).await;
    assert!(
        matches!(outcome, Outcome::Done(Report::Rotated { .. })),
        "{outcome:?}"
    );
    let state = meter.state();
    assert_eq!(state.destinations, ["10.9.8.7:5000"]);
    assert_eq!(state.most_destinations, 1);
}
