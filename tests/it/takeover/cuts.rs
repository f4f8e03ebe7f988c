//! A line that breaks once, after any byte of a takeover, in either direction.
//!
//! `COS_ESCROW_TEST_CUT_STRIDE=1` cuts after every byte with our simulator and after every 37th with the foreign one.

use cos_escrow::dlms::keys::Suite;
use futures_util::{StreamExt as _, stream};

use super::dice::amount;
use super::once;
use super::proxy::{Direction, Flaw, Proxy};
use super::subject::{Ending, Kind, Subject, assert_taken_over, drive};
use super::world::{World, released_keys};

#[tokio::test]
async fn a_line_cut_after_any_byte_costs_no_meter() {
    cut_everywhere(Kind::Ours, amount(STRIDE, 29)).await;
}

#[tokio::test]
async fn a_line_cut_after_any_byte_costs_no_foreign_meter() {
    cut_everywhere(Kind::Foreign, 37 * amount(STRIDE, 29)).await;
}

#[expect(clippy::print_stdout, reason = "a test may show what it found")]
async fn cut_everywhere(kind: Kind, stride: u64) {
    let (proxy, _) = take_over_with(kind, Flaw::None).await;
    for direction in [Direction::ToMeter, Direction::ToClient] {
        let bytes = proxy.bytes(direction);
        assert!(bytes > 1000, "{bytes} bytes {direction:?} are no takeover");
        let strides = u64::MAX / stride;
        let offsets = (0..strides)
            .map(|at| at * stride)
            .take_while(|at| *at < bytes);
        let cuts = offsets.map(|at| async move {
            let (proxy, ending) = take_over_with(kind, Flaw::Cut(direction, at)).await;
            assert!(proxy.was_cut(), "nothing was cut at {at} {direction:?}");
            ending
        });
        let endings: Vec<Ending> = stream::iter(cuts).buffer_unordered(AT_ONCE).collect().await;
        let worst = endings.iter().map(|ending| ending.most_in_a_row).max();
        println!(
            "{kind:?} {direction:?}: {bytes} bytes, {} cuts, at most {worst:?} failed associations in a row",
            endings.len()
        );
    }
}

async fn take_over_with(kind: Kind, flaw: Flaw) -> (Proxy, Ending) {
    let world = World::new().await;
    let subject = Subject::start(kind, &world, Suite::Zero, &[]).await;
    let proxy = Proxy::start(subject.address(), flaw).await;
    let released = world.released_at(proxy.address(), vec![released_keys(Suite::Zero)]);
    world.claim(&released).await;
    let ending = drive(&world, &subject, released.handover, once()).await;
    let case = format!("{kind:?}, {flaw:?}");
    assert_taken_over(&world, &subject, &released, &ending, &case).await;
    (proxy, ending)
}

const STRIDE: &str = "COS_ESCROW_TEST_CUT_STRIDE";
/// Most of a takeover is waiting for the disk.
const AT_ONCE: usize = 6;
