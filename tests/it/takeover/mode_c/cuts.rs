//! The line is cut at one byte after another, from the first word of the change of passwords to the last proof of it.

use cos_escrow::meter::journal::State;

use super::line::Line;
use super::meter::{Kind, Meter, PASSWORDS, passwords, released_at};
use super::{is_rotated, once, to_the_end};
use crate::drills::count;
use crate::takeover::world::World;

/// Takes a meter over whose line is cut so many bytes after the new passwords were made. Returns how many bytes there
/// were until the end.
async fn cut_after(world: &World, kind: Kind, bytes: Option<usize>) -> usize {
    let name = format!("meter-{bytes:?}");
    let meter = Meter::start(kind, world, &name, &["lock-out:3/3600"]).await;
    let line = Line::to(meter.address()).await;
    let released = released_at(line.address(), vec![passwords(PASSWORDS)]);
    let handover = released.handover;
    world.claim(&released).await;
    let dial = world.dial();
    let takeover = world.takeover(&dial, once());
    let on_step = |_, state| {
        if state == State::Prepared {
            line.cut_after(bytes);
        }
    };
    let mut outcome = takeover.run(handover, &on_step).await.unwrap();
    if !is_rotated(&outcome) {
        outcome = to_the_end(world, handover, once()).await;
    }
    assert!(line.was_cut(), "{kind:?}, {bytes:?} bytes: nothing was cut");
    assert!(
        is_rotated(&outcome),
        "{kind:?}, cut after {bytes:?} bytes: {outcome:?}"
    );
    let newest = world.journal.newest_secrets(handover).await.unwrap();
    let seen = meter.seen();
    assert!(
        seen.holds(&newest),
        "{kind:?}, cut after {bytes:?} bytes: {seen:?}"
    );
    assert_eq!(
        seen.passwords_seen,
        [2, 2, 2],
        "{kind:?}, cut after {bytes:?} bytes"
    );
    assert!(
        seen.locks == 0 && seen.most_failures <= 2,
        "{kind:?}, cut after {bytes:?} bytes: {seen:?}"
    );
    line.carried()
}

/// The last words, which nobody waits for.
const GOODBYE: usize = 5;

#[tokio::test]
async fn a_line_that_is_cut_at_any_byte_of_the_change_costs_no_meter() {
    let world = World::new().await;
    let whole = cut_after(&world, Kind::BuiltIn, None).await;
    assert!(whole > 1_000, "{whole} bytes");
    // 1 is every byte, which takes some minutes.
    let every = count("COS_ESCROW_CUT_EVERY", 7);
    for bytes in (0..whole - GOODBYE).step_by(every) {
        cut_after(&world, Kind::BuiltIn, Some(bytes)).await;
    }
}

#[tokio::test]
async fn nor_does_it_cost_a_meter_that_shares_no_code_with_us() {
    let world = World::new().await;
    let whole = cut_after(&world, Kind::Foreign, None).await;
    for bytes in (0..whole - GOODBYE).step_by(37) {
        cut_after(&world, Kind::Foreign, Some(bytes)).await;
    }
}
