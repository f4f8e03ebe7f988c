//! Meters of IEC 62056-21 mode C: the simulated one of this crate, and one that shares no code with it.

use cos_escrow::meter::escrow::{Path, Report, StopReason};
use cos_escrow::meter::journal::State;
use cos_escrow::meter::link::LinkError;
use cos_escrow::meter::plan::plan;
use cos_escrow::meter::secrets::{Level, Secrets};
use cos_escrow::meter::takeover::{Outcome, Rounds, Settings};
use cos_escrow::types::{Clock as _, HandoverId};
use meter::{Kind, Meter, PASSWORDS, highest_password, lower_passwords, passwords, released_at};

use super::plan::{said_by, sent};
use super::world::{Kill, World};

mod cuts;
mod line;
mod matrix;
mod meter;
mod peer;

const BOTH: [Kind; 2] = [Kind::BuiltIn, Kind::Foreign];

/// Runs a takeover again and again, each time when it wants to, until it waits no more.
async fn to_the_end(world: &World, handover: HandoverId, settings: Settings) -> Outcome {
    for _ in 0..20 {
        match world.run(handover, settings).await {
            Outcome::Waiting { until, .. } => {
                world.clock.advance(until.since(world.clock.now()));
            }
            ended => return ended,
        }
    }
    panic!("it waits for ever");
}

fn is_rotated(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(Report::Rotated { stays_open, .. }) if stays_open.is_empty())
}

fn once() -> Settings {
    Settings {
        rounds: Rounds::Once,
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_takeover_changes_the_passwords_of_every_level_and_repoints_the_meter() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &[]).await;
        let released = meter.released();
        let outcome = world.take_over(&released, Settings::default()).await;
        let report = Report::Rotated {
            generation: 2,
            path: Path::Gaining,
            stays_open: Vec::new(),
        };
        assert_eq!(outcome, Outcome::Done(report), "{kind:?}");
        let newest = world
            .journal
            .newest_secrets(released.handover)
            .await
            .unwrap();
        let seen = meter.seen();
        assert!(
            seen.holds(&newest) && world.escrow.last_deposit_holds(&newest),
            "{kind:?}"
        );
        assert_eq!(
            (seen.apn.as_str(), seen.destination.as_str()),
            ("gainer.smart", "10.9.8.7:5000")
        );
        // Each released password once, to see that it is refused; never two wrong ones in a row.
        assert_eq!(
            (
                seen.failures_in_all,
                seen.most_failures,
                seen.passwords_seen
            ),
            (3, 1, [3, 3, 3])
        );
        for level in [Level::One, Level::Two, Level::Three] {
            let new = newest
                .passwords()
                .unwrap()
                .password(level)
                .unwrap()
                .expose();
            assert!(
                new.len() == 8 && new.iter().all(u8::is_ascii_alphanumeric),
                "{kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_read_of_a_mode_c_meter_is_taken_before_anything_is_changed() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &[]).await;
        world.take_over(&meter.released(), once()).await;
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
            ("1.0.1.8.0.255", 1_234_567, 1),
            ("1.0.1.8.1.255", 823_045, 1),
            ("1.0.1.8.2.255", 411_522, 1),
            ("1.0.2.8.0.255", 4, 1),
        ];
        assert_eq!(
            shown,
            expected.map(|(name, value, scaler)| (name.to_owned(), value, scaler))
        );
        assert!(
            reads.iter().all(|read| read.meter_time.is_some()),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn another_mode_c_meter_at_the_address_hears_no_password() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &["wrong-serial:B000000000"]).await;
        let outcome = world
            .take_over(&meter.released(), Settings::default())
            .await;
        let rejected = Report::Rejected(StopReason::WrongMeter);
        assert_eq!(outcome, Outcome::Done(rejected), "{kind:?}");
        let seen = meter.seen();
        assert_eq!(
            (seen.logins, seen.failures_in_all, seen.writes),
            (0, 0, 0),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn wrong_passwords_are_reported_and_the_lock_is_not_tried() {
    let wrong = || passwords(["WRONG001", "WRONG002", "WRONG003"]);
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &["lock-out:3/3600"]).await;
        let mut released = meter.released();
        released.ways[0].candidates = vec![wrong()];
        let outcome = world.take_over(&released, once()).await;
        let rejected = Report::Rejected(StopReason::WrongKeys);
        assert_eq!(outcome, Outcome::Done(rejected), "{kind:?}");
        assert_eq!((meter.seen().failures_in_all, meter.seen().writes), (1, 0));
        // A second release, with two generations: the newer one is wrong as well, and the older one opens.
        let newer = passwords(["OTHER001", "OTHER002", "OTHER003"]);
        released.ways[0].candidates = vec![newer, passwords(PASSWORDS)];
        world.claim(&released).await;
        let outcome = to_the_end(&world, released.handover, once()).await;
        assert!(is_rotated(&outcome), "{kind:?}: {outcome:?}");
        assert_eq!(
            (meter.seen().most_failures, meter.seen().locks),
            (2, 0),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_meter_that_somebody_locked_is_left_alone_until_it_opens() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &["lock-out:1/3600"]).await;
        let mut stranger = meter.released();
        stranger.ways[0].candidates = vec![passwords(["WRONG001", "WRONG002", "WRONG003"])];
        world.take_over(&stranger, once()).await;
        assert_eq!(meter.seen().locks, 1, "{kind:?}");
        let released = meter.released();
        world.claim(&released).await;
        let outcome = world.run(released.handover, once()).await;
        let cause = match &outcome {
            Outcome::Waiting { cause, .. } => cause.clone(),
            _ => None,
        };
        let locked = LinkError::AssociationRefused(0);
        assert_eq!(cause, Some(locked), "{kind:?}: {outcome:?}");
        assert_eq!(
            meter.seen().failures_in_all,
            1,
            "{kind:?}: a locked door is not knocked at"
        );
        assert!(meter.seen().holds(&passwords(PASSWORDS)));
    }
}

#[tokio::test]
async fn a_package_without_the_highest_password_changes_nothing() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &[]).await;
        let mut released = meter.released();
        released.ways[0].candidates = vec![lower_passwords()];
        let outcome = world.take_over(&released, once()).await;
        let report = Report::CannotRotate(StopReason::TransferRefused);
        assert_eq!(outcome, Outcome::Done(report), "{kind:?}");
        let seen = meter.seen();
        assert!(seen.holds(&passwords(PASSWORDS)), "{kind:?}");
        assert_eq!((seen.writes, seen.failures_in_all), (0, 0), "{kind:?}");
    }
}

#[tokio::test]
async fn a_level_that_was_not_handed_over_gets_a_password_too() {
    for kind in BOTH {
        let world = World::new().await;
        let meter = Meter::start(kind, &world, "meter", &[]).await;
        let mut released = meter.released();
        released.ways[0].candidates = vec![highest_password()];
        let outcome = world.take_over(&released, once()).await;
        assert!(is_rotated(&outcome), "{kind:?}: {outcome:?}");
        let newest = world
            .journal
            .newest_secrets(released.handover)
            .await
            .unwrap();
        assert!(meter.seen().holds(&newest), "{kind:?}");
    }
}

#[tokio::test]
async fn the_plan_of_a_mode_c_takeover_shows_no_password() {
    let world = World::new().await;
    let released = released_at("127.0.0.1:1".parse().unwrap(), vec![passwords(PASSWORDS)]);
    let profile = world.profile_of(&released);
    let steps = plan(&released, &profile, &Settings::default());
    let text: Vec<_> = steps.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    for expected in [
        "R1 1.8.0",
        "W1 C003.3(redacted)",
        "W1 C003.1(redacted)",
        "APN = gainer.smart",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("FEDC"), "{text}");
}

#[tokio::test]
async fn the_plan_of_a_mode_c_takeover_is_what_is_sent_word_by_word() {
    for rounds in [Rounds::Once, Rounds::Twice] {
        let world = World::new().await;
        let meter = Meter::start(Kind::BuiltIn, &world, "meter", &[]).await;
        let released = meter.released();
        let settings = Settings {
            rounds,
            ..Settings::default()
        };
        let planned = plan(&released, &world.profile_of(&released), &settings);
        world.claim(&released).await;
        let said = said_by(&world, &released, settings).await;
        assert_eq!(sent(&planned), said, "{rounds:?}");
    }
}

#[tokio::test]
async fn the_journal_shows_no_password() {
    let world = World::new().await;
    let meter = Meter::start(Kind::BuiltIn, &world, "meter", &[]).await;
    let released = meter.released();
    world.claim(&released).await;
    let sent = Kill::AfterState(State::Sent);
    assert!(world.run_until(released.handover, once(), sent).await);
    let record = world.journal.record(released.handover).await.unwrap();
    assert_eq!(record.sets.len(), 2);
    let files = world.journal_files();
    for set in record.sets.values().filter_map(Secrets::passwords) {
        for password in set.levels().filter_map(|level| set.password(level)) {
            let mut windows = files.iter().flat_map(|file| file.windows(8));
            assert!(!windows.any(|bytes| bytes == password.expose()));
        }
    }
}
