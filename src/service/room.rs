//! How much may be kept of one party at one supply point.

use std::time::Duration;

use crate::types::Timestamp;

/// Whether there is room for `added` more beside what somebody has at a supply point since these times. What is kept is
/// read with every decision about the point, and a generation of keys goes only when the meter is proven to hold
/// another: so the number of them is bounded, at a rate that no meter is changed at.
pub(super) fn has_room(
    since: impl Iterator<Item = Timestamp>,
    added: usize,
    now: Timestamp,
) -> bool {
    let (mut all, mut lately) = (added, added);
    for at in since {
        all += 1;
        lately += usize::from(now.since(at) < A_DAY);
    }
    all <= MAX_KEPT && lately <= MAX_A_DAY
}

/// Within which time `MAX_A_DAY` holds.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Envelopes of one component that a depositor adds at one supply point within a day.
const MAX_A_DAY: usize = 32;
/// Envelopes of one component that are kept of a depositor at one supply point: one a month for twenty years.
const MAX_KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_a_day_and_for_so_many_in_all() {
        let now = Timestamp::from_seconds(2_000_000_000);
        let room = |each: Duration, count: u32| {
            let times = (0..count).map(|n| now.before(each * n));
            has_room(times, 1, now)
        };
        let minute = Duration::from_secs(60);
        assert!(room(minute, 31) && !room(minute, 32));
        assert!(room(A_DAY, 255) && !room(A_DAY, 256));
    }
}
