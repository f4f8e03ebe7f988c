//! The ways in which a change of passwords goes wrong, on both meters.

use cos_escrow::meter::takeover::Settings;

use super::meter::{Kind, Meter, PASSWORDS, passwords};
use super::{BOTH, is_rotated, to_the_end};
use crate::takeover::world::{Kill, World};

/// Faults of the meter, and where the client dies.
#[derive(Clone, Debug)]
struct Case {
    faults: Vec<String>,
    kill: Option<Kill>,
}

/// Writes 1 to 5 are level 3, level 1, level 2, destination, APN; 6 to 8 are the passwords of the second round.
fn cases() -> Vec<Case> {
    let case = |faults: &[&str], kill| Case {
        faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
        kill,
    };
    let mut cases = vec![case(&[], None)];
    for write in 1..=8 {
        for fault in ["drop-after-write", "crash-before-write"] {
            cases.push(case(&[&format!("{fault}:{write}")], None));
        }
    }
    for change in 1..=6 {
        cases.push(case(&[], Some(Kill::BeforeChange(change))));
        cases.push(case(&[], Some(Kill::WithoutAnswer(change))));
        cases.push(case(&[], Some(Kill::AfterChange(change))));
    }
    // A setting that is refused is for people.
    for write in [1, 2, 3, 6, 7, 8] {
        cases.push(case(&[&format!("refuse:{write}")], None));
    }
    for first in ["drop-after-write", "crash-before-write"] {
        for second in ["drop-after-write", "crash-before-write"] {
            for write in 1..=3 {
                let (one, two) = (
                    format!("{first}:{write}"),
                    format!("{second}:{}", write + 1),
                );
                cases.push(case(&[&one, &two], None));
            }
        }
    }
    for fault in ["silent:1", "silent:3", "busy:1", "busy:3"] {
        cases.push(case(&[fault], None));
    }
    cases
}

async fn whatever_happens(kind: Kind, case: &Case) {
    let mut world = World::new().await;
    let mut faults: Vec<_> = case.faults.iter().map(String::as_str).collect();
    faults.push("lock-out:3/3600");
    let meter = Meter::start(kind, &world, "meter", &faults).await;
    let released = meter.released();
    world.claim(&released).await;
    let settings = Settings::default();
    if let Some(kill) = case.kill {
        assert!(
            world.run_until(released.handover, settings, kill).await,
            "{case:?}"
        );
        world = world.after_crash().await;
    }
    let outcome = to_the_end(&world, released.handover, settings).await;
    assert!(is_rotated(&outcome), "{kind:?} {case:?}: {outcome:?}");
    let newest = world
        .journal
        .newest_secrets(released.handover)
        .await
        .unwrap();
    let seen = meter.seen();
    assert!(seen.holds(&newest), "{kind:?} {case:?}");
    assert!(
        world.escrow.last_deposit_holds(&newest),
        "{kind:?} {case:?}"
    );
    assert!(!seen.holds(&passwords(PASSWORDS)), "{kind:?} {case:?}");
    // One set a round, whatever was lost.
    assert!(
        seen.passwords_seen.iter().all(|seen| *seen == 3),
        "{kind:?} {case:?}: {seen:?}"
    );
    assert_eq!(world.escrow.deposits(), 2, "{kind:?} {case:?}");
    assert!(
        seen.locks == 0 && seen.most_failures <= 2,
        "{kind:?} {case:?}: {seen:?}"
    );
    assert_eq!(
        (seen.apn.as_str(), seen.destination.as_str()),
        ("gainer.smart", "10.9.8.7:5000")
    );
}

#[tokio::test]
async fn whatever_becomes_of_a_write_the_meter_ends_with_exactly_the_new_passwords() {
    let cases = cases();
    assert_eq!(cases.len(), 57);
    for case in cases {
        whatever_happens(Kind::BuiltIn, &case).await;
    }
}

#[tokio::test]
async fn so_does_a_meter_that_shares_no_code_with_us() {
    for case in cases() {
        whatever_happens(Kind::Foreign, &case).await;
    }
}

#[tokio::test]
async fn a_meter_that_denies_what_it_did_or_does_it_late_ends_the_same() {
    for fault in ["deny-after-write", "defer"] {
        for write in [1, 2, 3, 6, 7, 8] {
            let faults = vec![format!("{fault}:{write}")];
            whatever_happens(Kind::BuiltIn, &Case { faults, kill: None }).await;
        }
    }
}

#[tokio::test]
async fn a_run_that_dies_everywhere_still_ends_with_one_set_of_passwords_a_round() {
    for kind in BOTH {
        let mut world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &["lock-out:3/3600"]).await;
        let released = meter.released();
        world.claim(&released).await;
        let mut polls = 10;
        let outcome = loop {
            let outcome = world
                .run_for(released.handover, Settings::default(), polls)
                .await;
            polls += 7;
            world = world.after_crash().await;
            match outcome {
                Some(outcome) if is_rotated(&outcome) => break outcome,
                Some(_) | None => world
                    .clock
                    .advance(std::time::Duration::from_secs(24 * 60 * 60)),
            }
        };
        let newest = world
            .journal
            .newest_secrets(released.handover)
            .await
            .unwrap();
        let seen = meter.seen();
        assert!(
            seen.holds(&newest) && world.escrow.last_deposit_holds(&newest),
            "{kind:?}: {outcome:?}"
        );
        assert_eq!(
            (seen.passwords_seen, world.escrow.deposits()),
            ([3, 3, 3], 2),
            "{kind:?}"
        );
        assert_eq!(seen.locks, 0, "{kind:?}: {seen:?}");
    }
}
