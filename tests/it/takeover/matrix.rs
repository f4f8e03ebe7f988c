//! The 26 ways in which a rotation of GUEK and GAK goes wrong, from `tests/peers/meter/README.md`.

use cos_escrow::dlms::keys::Suite;
use cos_escrow::meter::escrow::Report;
use cos_escrow::meter::profile::KeyTransfer;
use cos_escrow::meter::takeover::{Outcome, Rounds, Settings};

use super::peer::Peer;
use super::world::{Kill, World, profile_with, released_keys, seed};

/// One row: faults of the meter, where the client dies, how keys are sent.
#[derive(Clone, Copy, Debug)]
struct Case {
    faults: &'static [&'static str],
    kill: Option<Kill>,
    transfer: KeyTransfer,
}

/// Rows of the first part run with both keys in one request and with one request each.
fn cases() -> Vec<Case> {
    const BOTH_WAYS: [(&[&str], Option<Kill>); 12] = [
        (&[], None),
        (&["drop-response"], None),
        (&["crash-before"], None),
        (&["partial"], None),
        (&["reject"], None),
        (&["reject-second"], None),
        (&["answer-newkey"], None),
        (&["defer"], None),
        (&["drop-response:1", "drop-response:2"], None),
        (&["partial", "drop-response:2"], None),
        (&[], Some(Kill::BeforeChange(1))),
        (&[], Some(Kill::AfterChange(1))),
    ];
    let mut cases = Vec::new();
    for (faults, kill) in BOTH_WAYS {
        for transfer in [KeyTransfer::Together, KeyTransfer::OneByOne] {
            cases.push(Case {
                faults,
                kill,
                transfer,
            });
        }
    }
    let together = KeyTransfer::Together;
    cases.push(Case {
        faults: &["drop-response", "no-ic-reset"],
        kill: None,
        transfer: together,
    });
    let before = Some(Kill::BeforeChange(1));
    cases.push(Case {
        faults: &["partial", "silent"],
        kill: before,
        transfer: together,
    });
    cases
}

#[tokio::test]
async fn whatever_becomes_of_a_transfer_the_meter_ends_with_exactly_the_new_keys() {
    let cases = cases();
    assert_eq!(cases.len(), 26);
    for case in cases {
        let world = World::new().await;
        let meter = world.meter(seed(Suite::Zero), case.faults).await;
        let mut released = world.released(&meter, vec![released_keys(Suite::Zero)]);
        released.profile = profile_with(case.transfer).to_owned();
        let (world, outcome) = run(world, &released, case).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{case:?}: {outcome:?}"
        );
        let state = meter.state();
        let newest = world.newest_keys(released.handover).await;
        assert!(state.holds(&newest), "{case:?}");
        assert_eq!(state.nonce_reuses, 0, "{case:?}");
        assert_eq!(
            (state.keys_seen, world.escrow.deposits()),
            ([1; 4], 1),
            "{case:?}: one key set only"
        );
        // At most two failed associations, and the one that shows that the released keys are refused.
        assert!(
            state.failures_in_all <= 3,
            "{case:?}: {}",
            state.failures_in_all
        );
    }
}

#[tokio::test]
async fn a_meter_that_shares_no_code_with_us_is_taken_over_whatever_happens() {
    for case in cases() {
        let world = World::new().await;
        let meter = Peer::start(&world, Suite::Zero, case.faults).await;
        let mut released = world.released_at(meter.address(), vec![released_keys(Suite::Zero)]);
        released.profile = profile_with(case.transfer).to_owned();
        let (world, outcome) = run(world, &released, case).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{case:?}: {outcome:?}"
        );
        let newest = world.newest_keys(released.handover).await;
        assert!(meter.holds(&newest), "{case:?}");
        let log = meter.log();
        assert!(
            log.contains("HLS reply"),
            "{case:?}: the peer's log says nothing"
        );
        assert!(!log.contains("SAME NONCE"), "{case:?}");
        assert_eq!(world.escrow.deposits(), 1, "{case:?}");
        let failures = log.matches("bad tag").count();
        assert!(failures <= 3, "{case:?}: {failures}");
    }
}

#[tokio::test]
async fn a_foreign_meter_is_repointed_in_every_suite() {
    for suite in [Suite::Zero, Suite::One, Suite::Two] {
        let world = World::new().await;
        let meter = Peer::start(&world, suite, &[]).await;
        let mut released = world.released_at(meter.address(), vec![released_keys(suite)]);
        released.repoint = Some(super::repoint());
        let outcome = world.take_over(&released, Settings::default()).await;
        assert!(
            matches!(outcome, Outcome::Done(Report::Rotated { .. })),
            "{suite:?}: {outcome:?}"
        );
        assert!(meter.holds(&world.newest_keys(released.handover).await));
        assert_eq!(meter.text("apn"), "gainer.smart");
        assert!(!meter.log().contains("SAME NONCE"));
    }
}

/// Runs a case; where it dies, goes on as a new process with the same journal.
async fn run(
    world: World,
    released: &cos_escrow::meter::released::ReleasedMeter,
    case: Case,
) -> (World, Outcome) {
    let settings = Settings {
        rounds: Rounds::Once,
        ..Settings::default()
    };
    let Some(kill) = case.kill else {
        let outcome = world.take_over(released, settings).await;
        return (world, outcome);
    };
    world.claim(released).await;
    assert!(
        world.run_until(released.handover, settings, kill).await,
        "{case:?}"
    );
    let world = world.after_crash().await;
    let outcome = world.run(released.handover, settings).await;
    (world, outcome)
}
