//! Generations of what a meter may hold: *prepared → current → retired → erased*.
//!
//! As long as it is not certain which keys a meter holds, every set that it may hold is kept and released, newest
//! first; so no sequence of switches, early or late deposits and lost answers loses a meter.

use serde::{Deserialize, Serialize};

/// Where a generation stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationStatus {
    /// Written ahead by a supplier that is about to change the meter, or said by one that supplies no more.
    Prepared,
    /// Believed to be in the meter.
    Current,
    /// Known not to be in the meter any more.
    Retired,
    /// Its secrets are destroyed.
    Erased,
}

impl GenerationStatus {
    /// The word in documents, columns and entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Current => "current",
            Self::Retired => "retired",
            Self::Erased => "erased",
        }
    }

    /// Whether its secrets still exist.
    pub fn keeps_secrets(self) -> bool {
        self != Self::Erased
    }

    /// Whether a meter may hold it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Prepared | Self::Current)
    }
}

/// A generation as far as its fate depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Its number, from one.
    pub number: u32,
    /// Where it stands.
    pub status: GenerationStatus,
    /// Why it came in.
    pub why: Why,
}

/// Why a generation comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The registered supplier says that the meter holds it.
    InMeter,
    /// The supplier that loses the meter says what it left in it.
    LeftInMeter,
    /// The depositor is about to bring it into the meter.
    WriteAhead,
    /// A supplier that had the keys once, and neither supplies the point nor takes it over, says so.
    Former,
}

/// What becomes of a generation that comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Admission {
    /// The number that it gets.
    pub number: u32,
    /// Where it stands at first.
    pub status: GenerationStatus,
}

/// Admits a generation. It retires nothing: only a confirmation proves what a meter no longer holds.
///
/// `newest` is the number of the generation before it, which may be erased by now. What the losing supplier says it left
/// in a meter that has since been taken over is retired at once.
pub fn admit(kept: &[Kept], newest: u32, why: Why) -> Admission {
    let taken_over = kept
        .iter()
        .any(|k| k.why == Why::WriteAhead && k.status == GenerationStatus::Current);
    Admission {
        number: newest + 1,
        status: match why {
            Why::LeftInMeter if taken_over => GenerationStatus::Retired,
            Why::InMeter | Why::LeftInMeter => GenerationStatus::Current,
            Why::WriteAhead | Why::Former => GenerationStatus::Prepared,
        },
    }
}

/// The first generation of a meter that its gaining supplier wrote ahead, which decides about `precedence`.
pub fn first_ahead(all: impl Iterator<Item = Kept>) -> Option<u32> {
    all.filter(|k| k.why == Why::WriteAhead)
        .map(|k| k.number)
        .min()
}

/// In which order a taker should try generations: greater first, which is the newest. Only a late word of the losing
/// supplier comes behind what the gaining one was by then about to bring into the meter, and that of a former one
/// behind everything.
pub fn precedence(first_ahead: Option<u32>, kept: Kept) -> (u32, bool, u32) {
    match (kept.why, first_ahead) {
        (Why::Former, _) => (0, false, kept.number),
        (Why::LeftInMeter, Some(ahead)) if ahead < kept.number => (ahead, false, kept.number),
        _ => (kept.number, true, kept.number),
    }
}

/// The statuses after it is proven that the meter holds `confirmed` and refuses the others: that one is current, all
/// others are retired, but for later write-aheads, which may be the next change, under way.
///
/// None if there is no live generation of that number.
pub fn confirm(kept: &[Kept], confirmed: u32) -> Option<Vec<Kept>> {
    kept.iter()
        .find(|k| k.number == confirmed && k.status.is_live())?;
    let changed = kept.iter().filter_map(|k| {
        let next_change = k.number > confirmed && k.why == Why::WriteAhead;
        let status = match k.number == confirmed {
            true => GenerationStatus::Current,
            false if k.status.is_live() && !next_change => GenerationStatus::Retired,
            false => k.status,
        };
        (status != k.status).then_some(Kept { status, ..*k })
    });
    Some(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::GenerationStatus::*;
    use super::*;

    fn kept(generations: &[(GenerationStatus, Why)]) -> Vec<Kept> {
        (1..)
            .zip(generations)
            .map(|(number, (status, why))| Kept {
                number,
                status: *status,
                why: *why,
            })
            .collect()
    }

    const LEFT: Why = Why::LeftInMeter;
    const AHEAD: Why = Why::WriteAhead;

    #[test]
    fn a_write_ahead_enters_as_prepared() {
        let admission = admit(&kept(&[(Current, LEFT)]), 1, AHEAD);
        assert_eq!((admission.number, admission.status), (2, Prepared));
        let after_erased_ones = admit(&kept(&[(Current, LEFT)]), 7, AHEAD);
        assert_eq!(after_erased_ones.number, 8);
    }

    #[test]
    fn a_late_word_of_the_loser_is_retired_once_the_meter_was_taken_over() {
        let before = kept(&[(Current, LEFT), (Prepared, AHEAD)]);
        assert_eq!(admit(&before, 2, LEFT).status, Current);
        let after = kept(&[(Retired, LEFT), (Current, AHEAD)]);
        assert_eq!(admit(&after, 2, LEFT).status, Retired);
        assert_eq!(admit(&after, 2, Why::InMeter).status, Current);
    }

    #[test]
    fn a_late_word_of_the_loser_never_comes_before_the_gainers_keys() {
        let order = |all: &[Kept]| {
            let mut sorted = all.to_vec();
            let ahead = first_ahead(all.iter().copied());
            sorted.sort_by_key(|k| std::cmp::Reverse(precedence(ahead, *k)));
            sorted.iter().map(|k| k.number).collect::<Vec<_>>()
        };
        let late = kept(&[(Current, LEFT), (Prepared, AHEAD), (Current, LEFT)]);
        assert_eq!(order(&late), [2, 3, 1]);
        let standing = kept(&[(Current, Why::InMeter), (Current, LEFT)]);
        assert_eq!(order(&standing), [2, 1]);
        let later = kept(&[(Current, AHEAD), (Current, Why::InMeter)]);
        assert_eq!(order(&later), [2, 1]);
        let former = kept(&[(Current, LEFT), (Prepared, Why::Former), (Prepared, AHEAD)]);
        assert_eq!(order(&former), [3, 1, 2]);
    }

    #[test]
    fn confirming_retires_all_but_a_later_write_ahead() {
        let all = kept(&[
            (Current, LEFT),
            (Prepared, AHEAD),
            (Current, LEFT),
            (Prepared, AHEAD),
        ]);
        let changed = confirm(&all, 2).unwrap();
        let changed: Vec<_> = changed.iter().map(|k| (k.number, k.status)).collect();
        assert_eq!(changed, [(1, Retired), (2, Current), (3, Retired)]);
    }

    #[test]
    fn confirming_again_changes_nothing() {
        let all = kept(&[(Retired, LEFT), (Current, AHEAD)]);
        assert_eq!(confirm(&all, 2), Some(vec![]));
    }

    #[test]
    fn what_is_retired_or_unknown_cannot_be_confirmed() {
        let all = kept(&[(Retired, LEFT), (Current, AHEAD)]);
        assert_eq!(confirm(&all, 1), None);
        assert_eq!(confirm(&all, 7), None);
    }
}
