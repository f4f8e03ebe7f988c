//! `cos-escrow meter` against a running service and simulated meters, as functions and as the program that is shipped.

use std::time::Duration;

use cos_escrow::cli::exit::Exit;
use cos_escrow::cli::meter::ending::{Ending, Verdict, verdict};
use cos_escrow::cli::meter::head_end::{HeadEnd, Rotation, Work};
use cos_escrow::cli::meter::plan;
use cos_escrow::cli::takeover::Opened;
use cos_escrow::meter::fleet::Counts;
use cos_escrow::meter::journal::{Claim, State};
use cos_escrow::meter::profile::Profiles;
use cos_escrow::meter::secrets::Secrets;
use cos_escrow::types::Clock as _;
use tokio::sync::Notify;

use world::{LOOPBACK, Suite, Wall, World, source};

mod program;
mod tampered;
mod world;

async fn claimed(world: &World, head_end: &HeadEnd<'_>, walls: &[Wall]) -> Work {
    let mut loaded = Vec::new();
    for wall in walls {
        let release = head_end.verified(world.load(&wall.source.release)).unwrap();
        let meter = release
            .loaded()
            .meter(&wall.source, &head_end.profiles)
            .unwrap();
        let claim = head_end.claim(&release, &meter).await.unwrap();
        assert_eq!(claim, Claim::New);
        loaded.push(release);
    }
    head_end.work(loaded, &world.keys())
}

fn verdicts(endings: &[Ending]) -> Vec<Verdict> {
    endings.iter().map(|ending| ending.outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn released_meters_become_ours_alone_and_the_escrow_knows() {
    let world = World::with_released(3).await;
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let work = claimed(&world, &head_end, &walls).await;
    let endings = head_end.run(work, &|_| {}).await.unwrap();
    assert_eq!(verdicts(&endings), [Verdict::Rotated; 3], "{endings:?}");
    verdict(&endings).unwrap();
    for wall in &walls {
        wall.assert_is_ours(&desk).await;
        assert_eq!(world.state_of(wall.handover).await, "confirmed");
        assert_eq!(desk.releases.read(wall.handover).unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_with_keys_and_meters_with_passwords_are_taken_over_in_one_run() {
    let world = World::with(&[Suite::Passwords, Suite::Dlms, Suite::Passwords]).await;
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let work = claimed(&world, &head_end, &walls).await;
    let endings = head_end.run(work, &|_| {}).await.unwrap();
    assert_eq!(verdicts(&endings), [Verdict::Rotated; 3], "{endings:?}");
    for wall in &walls {
        wall.assert_is_ours(&desk).await;
        assert_eq!(world.state_of(wall.handover).await, "confirmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_make_without_a_profile_is_refused_before_anything_is_sent() {
    let world = World::with(&[Suite::Passwords]).await;
    let mut opened: Opened = world.load(&world.releases[0]).opened;
    opened.packages[0].meter.make = "Unheard-of 7".parse().unwrap();
    let refused = opened.meter(&Profiles::built_in(), None).err().unwrap();
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused.message.contains("Unheard-of 7"),
        "{}",
        refused.message
    );
}

/// Runs until so many meters have reached a state, then drops the run as a crash would.
async fn run_until(head_end: &HeadEnd<'_>, work: Work, state: State) {
    let reached = Notify::new();
    let on_change = |counts: &Counts| {
        if counts.states.get(&state).is_some_and(|count| *count > 0) {
            reached.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        endings = head_end.run(work, &on_change) => panic!("not interrupted: {endings:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_goes_on_without_the_files_that_it_was_started_with() {
    for state in [
        State::Inventoried,
        State::Prepared,
        State::Sent,
        State::OthersDone,
    ] {
        let mut world = World::with_released(2).await;
        let walls = world.meters(&[]).await;
        let desk = world.desk().await;
        let work = claimed(&world, &world.head_end(&desk), &walls).await;
        run_until(&world.head_end(&desk), work, state).await;
        desk.journal.close().await;
        for release in &world.releases {
            std::fs::remove_file(release).unwrap();
        }
        // The leases of the dead run end.
        let later = world.market.clock.now().after(Duration::from_secs(301));
        world.market.wait_until(later).await.unwrap();

        let desk = world.desk().await;
        let head_end = world.head_end(&desk);
        let (work, missing) = head_end.unfinished(&world.keys()).await.unwrap();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(work.len(), 2);
        let endings = head_end.run(work, &|_| {}).await.unwrap();
        assert_eq!(
            verdicts(&endings),
            [Verdict::Rotated; 2],
            "{state}: {endings:?}"
        );
        for wall in &walls {
            wall.assert_is_ours(&desk).await;
        }
        let (rest, _) = head_end.unfinished(&world.keys()).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_right_after_a_crash_leaves_the_meters_to_the_leases() {
    let world = World::with_released(1).await;
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let work = claimed(&world, &head_end, &walls).await;
    run_until(&head_end, work, State::Inventoried).await;
    let (work, _) = head_end.unfinished(&world.keys()).await.unwrap();
    let endings = head_end.run(work, &|_| {}).await.unwrap();
    assert_eq!(verdicts(&endings), [Verdict::Busy]);
    assert_eq!(verdict(&endings).unwrap_err().exit, Exit::TryAgain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_is_another_one_is_rejected_and_left_alone() {
    let world = World::with_released(2).await;
    let mut walls = world.meters(&[]).await;
    // Two addresses are mixed up.
    let [first, second] = &mut walls[..] else {
        panic!("two meters");
    };
    std::mem::swap(&mut first.source.address, &mut second.source.address);
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let work = claimed(&world, &head_end, &walls).await;
    let endings = head_end.run(work, &|_| {}).await.unwrap();
    assert_eq!(verdicts(&endings), [Verdict::Rejected; 2], "{endings:?}");
    assert_eq!(verdict(&endings).unwrap_err().exit, Exit::Refused);
    for wall in &walls {
        assert!(wall.is_untouched());
        assert_eq!(world.state_of(wall.handover).await, "rejected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_for_somebody_else_is_not_claimed() {
    let world = World::with_released(1).await;
    let loaded = world.load(&world.releases[0]);
    let desk = world.desk().await;
    let handover = loaded.handover();
    let mut head_end = world.head_end(&desk);
    let source = source(&world.releases[0], LOOPBACK);
    let meter = loaded.meter(&source, &head_end.profiles).unwrap();
    head_end.party = "somebody".parse().unwrap();
    let release = head_end.verified(loaded).unwrap();
    let refused = head_end.claim(&release, &meter).await.unwrap_err();
    assert_eq!(refused.exit, Exit::Refused);
    assert!(desk.journal.list().await.unwrap().is_empty());
    assert_eq!(desk.releases.read(handover).unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_every_step_and_no_key() {
    let world = World::with_released(1).await;
    let source = source(&world.releases[0], LOOPBACK);
    let steps = plan::steps(&source, &world.keys(), &Rotation::default()).unwrap();
    let once = Rotation {
        once: true,
        ..Rotation::default()
    };
    let fewer = plan::steps(&source, &world.keys(), &once).unwrap();
    assert!(steps.len() > fewer.len());
    let text = serde_json::to_string(&steps).unwrap().to_lowercase();
    assert!(text.contains("guek, gak (redacted)"), "{text}");
    let meter = world.load(&world.releases[0]);
    let meter = meter.meter(&source, &Profiles::built_in()).unwrap();
    for set in meter.candidates.iter().filter_map(Secrets::keys) {
        for key in [set.guek(), set.gak(), set.kek()] {
            let hex: String = key.expose().iter().map(|b| format!("{b:02x}")).collect();
            assert!(!text.contains(&hex));
        }
    }
}
