//! Answers lost, processes killed, escrows away: nothing of it costs a meter.

use std::time::Duration;

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::Report;
use cos_escrow::meter::journal::State;
use cos_escrow::meter::takeover::{Outcome, Settings};

use super::world::{Kill, World, released_keys, seed};
use super::{once, repoint};

#[tokio::test]
async fn lost_answers_in_every_transfer_of_both_rounds_do_not_matter() {
    for fault in [
        "drop-response",
        "crash-before",
        "reject",
        "answer-newkey",
        "defer",
    ] {
        for at in 1..=8 {
            let world = World::new().await;
            let fault = format!("{fault}:{at}");
            let meter = world.meter(seed(Suite::Zero), &[&fault]).await;
            let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
            released.repoint = Some(repoint());
            let outcome = world.take_over(&released, Settings::default()).await;
            assert!(
                matches!(outcome, Outcome::Done(Report::Rotated { .. })),
                "{fault}: {outcome:?}"
            );
            let state = meter.state();
            let newest = world.newest_keys(released.handover).await;
            assert!(state.holds(&newest), "{fault}");
            assert_eq!(
                (state.nonce_reuses, world.escrow.deposits()),
                (0, 2),
                "{fault}"
            );
            assert!(
                state.keys_seen.iter().all(|keys| *keys <= 2),
                "{fault}: {:?}",
                state.keys_seen
            );
        }
    }
}

#[tokio::test]
async fn a_run_may_die_at_any_step_and_the_next_one_goes_on() {
    for state in State::ALL {
        let world = World::new().await;
        let meter = world.meter(seed(Suite::Zero), &[]).await;
        let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
        released.repoint = Some(repoint());
        world.claim(&released).await;
        let settings = Settings::default();
        world
            .run_until(released.handover, settings, Kill::AfterState(state))
            .await;
        // The lease of the dead run must first expire.
        assert!(matches!(
            world.run(released.handover, settings).await,
            Outcome::Busy | Outcome::Done(_)
        ));
        let reopened = world.after_crash().await;
        let outcome = reopened.run(released.handover, settings).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{state}: {outcome:?}"
        );
        let newest = reopened.newest_keys(released.handover).await;
        assert!(meter.state().holds(&newest), "{state}");
        assert_eq!(meter.state().nonce_reuses, 0, "{state}");
        assert!(
            meter.state().keys_seen.iter().all(|keys| *keys == 2),
            "{state}"
        );
    }
}

#[tokio::test]
async fn a_run_that_dies_everywhere_still_ends_with_one_key_set_a_round_and_no_nonce_used_twice() {
    for stride in [3, 8] {
        let mut world = World::new().await;
        let meter = world.meter(seed(Suite::Zero), &["drop-response:2"]).await;
        let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
        released.repoint = Some(repoint());
        world.claim(&released).await;
        let mut outcome = None;
        let mut polls = 10;
        while outcome.is_none() {
            outcome = world
                .run_for(released.handover, Settings::default(), polls)
                .await;
            polls += stride;
            world = world.after_crash().await;
            world.clock.advance(Duration::from_secs(24 * 60 * 60));
            if matches!(outcome, Some(Outcome::Waiting { .. })) {
                outcome = None;
            }
        }
        assert!(
            matches!(outcome, Some(Outcome::Done(Report::Rotated { .. }))),
            "{outcome:?}"
        );
        let newest = world.newest_keys(released.handover).await;
        let state = meter.state();
        assert!(state.holds(&newest) && world.escrow.last_deposit_is(&newest));
        assert_eq!((state.nonce_reuses, world.escrow.deposits()), (0, 2));
        assert_eq!(state.keys_seen, [2; 4]);
    }
}

#[tokio::test]
async fn no_key_goes_out_before_the_escrow_has_it() {
    let world = World::new().await;
    let meter = world.meter(seed(Suite::Zero), &[]).await;
    let released = world.released(&meter, vec![released_keys(Suite::Zero)]);
    world.escrow.refuse_deposits(true);
    world.claim(&released).await;
    assert!(world.try_run(released.handover, once()).await.is_err());
    assert_eq!(meter.state().transfers, 0);
    world.escrow.refuse_deposits(false);
    assert!(matches!(
        world.run(released.handover, once()).await,
        Outcome::Done(Report::Rotated { .. })
    ));
    assert_eq!(meter.state().keys_seen[0], 1);
}
