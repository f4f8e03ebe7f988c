//! `cos-escrow meter` against a running service and simulated meters, as functions and as the program that is shipped.

use cos_escrow::cli::exit::Exit;
use cos_escrow::cli::meter::ending::{Ending, Verdict, verdict};
use cos_escrow::cli::meter::head_end::{HeadEnd, Rotation};
use cos_escrow::cli::meter::plan;
use cos_escrow::cli::takeover::{Opened, Voices};
use cos_escrow::meter::fleet::Counts;
use cos_escrow::meter::journal::{Claim, Query, RunId, State};
use cos_escrow::meter::profile::Profiles;
use cos_escrow::meter::secrets::Secrets;
use cos_escrow::types::SystemRandom;
use tokio::sync::Notify;

use world::{LOOPBACK, Suite, Wall, World, source};

mod drill;
mod export;
mod forge;
mod hostile;
mod liar;
mod program;
mod tampered;
mod world;

async fn claimed(world: &World, head_end: &HeadEnd<'_>, walls: &[Wall]) -> RunId {
    let run = RunId::random(&SystemRandom);
    for wall in walls {
        let release = head_end.verified(world.load(&wall.source.release)).unwrap();
        let ready = head_end.ready(release, &wall.source).await.unwrap();
        let claim = head_end.claim(&ready, run).await.unwrap();
        assert_eq!(claim, Claim::New);
    }
    run
}

async fn endings(head_end: &HeadEnd<'_>, run: RunId) -> Vec<Ending> {
    head_end.run(run, &|_| {}).await.unwrap();
    head_end.endings(run).await.unwrap()
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
    let run = claimed(&world, &head_end, &walls).await;
    let endings = endings(&head_end, run).await;
    assert_eq!(verdicts(&endings), [Verdict::Rotated; 3], "{endings:?}");
    verdict(&endings).unwrap();
    for wall in &walls {
        wall.assert_is_ours(&desk).await;
        assert_eq!(world.state_of(wall.handover).await, "confirmed");
        let papers = desk.journal.papers(wall.handover).await;
        assert!(
            papers.is_err(),
            "they are gone once nothing will be deposited"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_with_keys_and_meters_with_passwords_are_taken_over_in_one_run() {
    let world = World::with(&[Suite::Passwords, Suite::Dlms, Suite::Passwords]).await;
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let run = claimed(&world, &head_end, &walls).await;
    let endings = endings(&head_end, run).await;
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
    opened.generations[0].package.meter.make = "Unheard-of 7".parse().unwrap();
    let refused = opened.ready(&Profiles::built_in(), &Voices::All, (None, None));
    let refused = refused.err().unwrap();
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused.message.contains("Unheard-of 7"),
        "{}",
        refused.message
    );
}

/// Runs until so many meters have reached a state, then drops the run as a crash would.
async fn run_until(head_end: &HeadEnd<'_>, run: RunId, state: State) {
    let reached = Notify::new();
    let on_change = |counts: &Counts| {
        if counts.states.get(&state).is_some_and(|count| *count > 0) {
            reached.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        ended = head_end.run(run, &on_change) => panic!("not interrupted: {ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_goes_on_with_the_journal_and_its_key_alone() {
    for state in [
        State::Inventoried,
        State::Prepared,
        State::Sent,
        State::OthersDone,
    ] {
        let world = World::with_released(2).await;
        let walls = world.meters(&[]).await;
        let desk = world.desk().await;
        let run = claimed(&world, &world.head_end(&desk), &walls).await;
        run_until(&world.head_end(&desk), run, state).await;
        desk.journal.close().await;
        drop(desk);
        for release in &world.releases {
            std::fs::remove_file(release).unwrap();
        }

        let desk = world.desk().await;
        let head_end = world.head_end(&desk);
        let rest = RunId::random(&SystemRandom);
        desk.journal.adopt(rest).await.unwrap();
        let endings = endings(&head_end, rest).await;
        assert_eq!(
            verdicts(&endings),
            [Verdict::Rotated; 2],
            "{state}: {endings:?}"
        );
        for wall in &walls {
            wall.assert_is_ours(&desk).await;
        }
        let nothing = RunId::random(&SystemRandom);
        desk.journal.adopt(nothing).await.unwrap();
        assert!(head_end.endings(nothing).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_keeps_its_meters_until_its_leases_end() {
    let world = World::with_released(1).await;
    let walls = world.meters(&[]).await;
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let run = claimed(&world, &head_end, &walls).await;
    run_until(&head_end, run, State::Inventoried).await;
    let mut counts = Counts::default();
    let last = std::sync::Mutex::new(&mut counts);
    let on_change = |now: &Counts| **last.lock().unwrap() = now.clone();
    head_end.run(run, &on_change).await.unwrap();
    assert_eq!((counts.busy, counts.ended()), (1, 1));
    let endings = head_end.endings(run).await.unwrap();
    assert_eq!(verdicts(&endings), [Verdict::Pending]);
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
    let run = claimed(&world, &head_end, &walls).await;
    let endings = endings(&head_end, run).await;
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
    let mut head_end = world.head_end(&desk);
    let source = source(&world.releases[0], LOOPBACK);
    let release = head_end.verified(loaded).unwrap();
    let ready = head_end.ready(release, &source).await.unwrap();
    head_end.party = "somebody".parse().unwrap();
    let run = RunId::random(&SystemRandom);
    let refused = head_end.claim(&ready, run).await.unwrap_err();
    assert_eq!(refused.exit, Exit::Refused);
    let all = desk.journal.list(&Query::default()).await.unwrap();
    assert!(all.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_every_step_and_no_key() {
    let world = World::with_released(1).await;
    let source = source(&world.releases[0], LOOPBACK);
    let steps = plan::steps(&source, &world.keys(), &Rotation::default(), None).unwrap();
    let once = Rotation {
        once: true,
        ..Rotation::default()
    };
    let fewer = plan::steps(&source, &world.keys(), &once, None).unwrap();
    assert!(steps.len() > fewer.len());
    let text = serde_json::to_string(&steps).unwrap().to_lowercase();
    assert!(text.contains("guek, gak (redacted)"), "{text}");
    let ready = world.load(&world.releases[0]);
    let ready = ready.ready(&source, &Profiles::built_in()).unwrap();
    let candidates = &ready.meter.ways[0].candidates;
    for set in candidates.iter().filter_map(Secrets::keys) {
        for key in [set.guek(), set.gak(), set.kek()] {
            let hex: String = key.expose().iter().map(|b| format!("{b:02x}")).collect();
            assert!(!text.contains(&hex));
        }
    }
}
