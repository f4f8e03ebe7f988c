//! Chance, for drills that have to happen at any instant.

use std::time::Duration;

use cos_escrow::types::{Random as _, SystemRandom};

/// A number below this one.
pub(super) fn below(most: usize) -> usize {
    let mut random = [0; 8];
    SystemRandom.fill(&mut random);
    let most = most as u64;
    usize::try_from(u64::from_be_bytes(random) % most).expect("it is below a `usize`")
}

/// A time up to this one.
pub(super) fn time(most: Duration) -> Duration {
    most.mul_f64(below(10_001) as f64 / 10_000.0)
}
