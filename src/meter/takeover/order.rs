//! In which order keys are tried on a meter. Wrong guesses are few, so the order is the whole art.

use crate::meter::journal::Pair;

/// On a meter just released: whole sets from the newest to the oldest, then mixed ones, which a transfer of an earlier
/// gainer may have left behind.
pub(super) fn of_released(sets: impl DoubleEndedIterator<Item = u32>) -> Vec<Pair> {
    let sets: Vec<u32> = sets.rev().collect();
    let mixed = sets.iter().flat_map(|guek| {
        let other = sets.iter().filter(move |gak| *gak != guek);
        other.map(|gak| Pair {
            guek: *guek,
            gak: *gak,
        })
    });
    sets.iter().map(|set| Pair::of(*set)).chain(mixed).collect()
}

/// What is known about a transfer that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transferred {
    /// What the meter had.
    pub(super) before: Pair,
    /// What it should have.
    pub(super) expected: Pair,
    /// The set that was sent from.
    pub(super) target: u32,
    /// Whether it said, under the old keys, that it would not.
    pub(super) denied: bool,
    /// Whether its counter fell: it does when the encryption key changes.
    pub(super) counter_fell: bool,
}

/// After a transfer: what is expected, what was before, then the mixed pairs.
pub(super) fn after_transfer(sent: Transferred) -> Vec<Pair> {
    let Transferred {
        before,
        expected,
        target,
        ..
    } = sent;
    let mut order = vec![
        expected,
        before,
        Pair {
            guek: target,
            gak: before.gak,
        },
        Pair {
            guek: before.guek,
            gak: target,
        },
        Pair::of(target),
    ];
    if sent.denied {
        order.swap(0, 1);
    }
    if sent.counter_fell {
        order.sort_by_key(|pair| pair.guek != target);
    }
    let mut unique: Vec<Pair> = Vec::new();
    for pair in order {
        if !unique.contains(&pair) {
            unique.push(pair);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn pair(guek: u32, gak: u32) -> Pair {
        Pair { guek, gak }
    }

    fn sent() -> Transferred {
        Transferred {
            before: Pair::of(1),
            expected: Pair::of(2),
            target: 2,
            denied: false,
            counter_fell: false,
        }
    }

    #[test]
    fn whole_sets_come_before_mixed_ones_and_new_before_old() {
        let order = of_released([1, 2].into_iter());
        assert_eq!(order, [pair(2, 2), pair(1, 1), pair(2, 1), pair(1, 2)]);
        assert_eq!(of_released([7].into_iter()), [pair(7, 7)]);
    }

    #[test]
    fn what_is_expected_comes_first_and_every_pair_once() {
        assert_eq!(
            after_transfer(sent()),
            [pair(2, 2), pair(1, 1), pair(2, 1), pair(1, 2)]
        );
        let one_key = Transferred {
            expected: pair(1, 2),
            ..sent()
        };
        assert_eq!(
            after_transfer(one_key),
            [pair(1, 2), pair(1, 1), pair(2, 1), pair(2, 2)]
        );
    }

    #[test]
    fn a_denial_speaks_for_the_old_keys() {
        let denied = Transferred {
            denied: true,
            ..sent()
        };
        assert_eq!(after_transfer(denied)[..2], [pair(1, 1), pair(2, 2)]);
    }

    #[test]
    fn a_counter_that_fell_speaks_for_the_new_encryption_key() {
        let fell = Transferred {
            counter_fell: true,
            ..sent()
        };
        assert_eq!(
            after_transfer(fell),
            [pair(2, 2), pair(2, 1), pair(1, 1), pair(1, 2)]
        );
    }
}
