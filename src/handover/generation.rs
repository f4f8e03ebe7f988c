//! Generations of what a meter may hold: *prepared → current → retired → erased*.
//!
//! As long as it is not certain which keys a meter holds, every set that it may hold is kept and released, newest
//! first; so no sequence of switches, early or late deposits and lost answers loses a meter.

use serde::{Deserialize, Serialize};

use crate::types::{MeterSerial, Timestamp};

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
///
/// Only a word about the same meter counts against another: a supply point may have several meters, and had others.
///
/// What a losing supplier says it left in a meter is of the time before its switch; what a gaining supplier writes ahead
/// is of the time after its own. So the losing supplier's word is outdated by an earlier write-ahead for the same switch,
/// or for a later one: it comes behind it in a release and, once a confirmation has proven that write-ahead to be in the
/// meter, is retired on arrival. A write-ahead for an earlier switch outdates nothing: the supplier that took the meter
/// over then, and loses it now, knows best what it leaves.
///
/// What the supplier after that switch says the meter holds is of a later time, too: a losing supplier that speaks after
/// it comes behind it. That proves nothing of the meter, and retires nothing.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Its number, from one.
    pub number: u32,
    /// Where it stands.
    pub status: GenerationStatus,
    /// What it says.
    pub word: Word<'a>,
}

/// What a generation says, by whom and of when.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// Why it came in.
    pub why: Why,
    /// Of which meter it is.
    pub meter: &'a MeterSerial,
    /// When the switch takes effect by which its depositor comes or goes, if by one.
    pub switch_at: Option<Timestamp>,
}

impl Word<'_> {
    /// Whether this is a word after which that of a supplier that lost the meter before says nothing new.
    fn outdates(&self, later: &Word<'_>) -> bool {
        let switches = self.switch_at.zip(later.switch_at);
        matches!(self.why, Why::WriteAhead | Why::InMeter)
            && matches!(later.why, Why::LeftInMeter | Why::Former)
            && switches.is_some_and(|(ahead, left)| left <= ahead)
            && self.meter == later.meter
    }
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

/// Where a generation stands that comes in. It retires nothing: only a confirmation proves what a meter no longer holds.
pub fn admit(kept: &[Kept<'_>], word: Word<'_>) -> GenerationStatus {
    let outdates = |k: &Kept<'_>| {
        let proven = k.word.why == Why::WriteAhead && k.status == GenerationStatus::Current;
        proven && k.word.outdates(&word)
    };
    match word.why {
        Why::LeftInMeter | Why::Former if kept.iter().any(outdates) => GenerationStatus::Retired,
        Why::InMeter | Why::LeftInMeter => GenerationStatus::Current,
        Why::WriteAhead | Why::Former => GenerationStatus::Prepared,
    }
}

/// In which order a taker should try generations: greater first, which is the newest; but an outdated word of a losing
/// supplier comes behind the word that outdates it, and that of a former supplier behind everything.
pub fn precedence(all: &[Kept<'_>], kept: &Kept<'_>) -> (u32, bool, u32) {
    let outdating = all
        .iter()
        .filter(|k| k.number < kept.number && k.word.outdates(&kept.word));
    match (kept.word.why, outdating.map(|k| k.number).min()) {
        (Why::Former, _) => (0, false, kept.number),
        (_, Some(ahead)) => (ahead, false, kept.number),
        (_, None) => (kept.number, true, kept.number),
    }
}

/// The numbers whose status changes, and to what, after it is proven that a meter holds `confirmed` and refuses the
/// others: that one is current, all others of this meter are retired, but for later write-aheads, which may be the next
/// change, under way.
///
/// None if there is no live generation of that number.
pub fn confirm(kept: &[Kept<'_>], confirmed: u32) -> Option<Vec<(u32, GenerationStatus)>> {
    let proven = kept
        .iter()
        .find(|k| k.number == confirmed && k.status.is_live())?;
    let changed = kept.iter().filter_map(|k| {
        let next_change = k.number > confirmed && k.word.why == Why::WriteAhead;
        let of_the_meter = k.word.meter == proven.word.meter;
        let status = match k.number == confirmed {
            true => GenerationStatus::Current,
            false if of_the_meter && k.status.is_live() && !next_change => {
                GenerationStatus::Retired
            }
            false => k.status,
        };
        (status != k.status).then_some((k.number, status))
    });
    Some(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::GenerationStatus::*;
    use super::*;

    /// Generations of two meters, numbered from one: status, why, which meter, for which switch.
    struct History(Vec<(GenerationStatus, Why, MeterSerial, Option<Timestamp>)>);

    impl History {
        fn new(generations: &[(GenerationStatus, Why, &str, u64)]) -> Self {
            let generations = generations.iter().map(|(status, why, meter, switch)| {
                let switch_at = (*switch > 0).then(|| Timestamp::from_seconds(*switch));
                (*status, *why, meter.parse().unwrap(), switch_at)
            });
            Self(generations.collect())
        }

        fn kept(&self) -> Vec<Kept<'_>> {
            let numbered = (1..).zip(&self.0);
            let kept = numbered.map(|(number, (status, why, meter, switch_at))| Kept {
                number,
                status: *status,
                word: Word {
                    why: *why,
                    meter,
                    switch_at: *switch_at,
                },
            });
            kept.collect()
        }

        /// Admits one more; where it stands.
        fn admit(&self, why: Why, meter: &str, switch: u64) -> GenerationStatus {
            let later = Self::new(&[(Current, why, meter, switch)]);
            admit(&self.kept(), later.kept()[0].word)
        }

        fn order(&self) -> Vec<u32> {
            let all = self.kept();
            let mut sorted = all.clone();
            sorted.sort_by_key(|k| std::cmp::Reverse(precedence(&all, k)));
            sorted.iter().map(|k| k.number).collect()
        }
    }

    const LEFT: Why = Why::LeftInMeter;
    const AHEAD: Why = Why::WriteAhead;
    const IN: Why = Why::InMeter;

    #[test]
    fn a_write_ahead_enters_as_prepared() {
        let before = History::new(&[(Current, LEFT, "M", 1)]);
        assert_eq!(before.admit(AHEAD, "M", 1), Prepared);
    }

    #[test]
    fn a_late_word_of_the_loser_is_retired_once_the_meter_was_taken_over() {
        let before = History::new(&[(Current, LEFT, "M", 1), (Prepared, AHEAD, "M", 1)]);
        assert_eq!(before.admit(LEFT, "M", 1), Current);
        let after = History::new(&[(Retired, LEFT, "M", 1), (Current, AHEAD, "M", 1)]);
        assert_eq!(after.admit(LEFT, "M", 1), Retired);
        assert_eq!(after.admit(IN, "M", 0), Current);
        let much_later = History::new(&[(Retired, AHEAD, "M", 1), (Current, AHEAD, "M", 2)]);
        assert_eq!(much_later.admit(LEFT, "M", 1), Retired);
    }

    #[test]
    fn who_took_a_meter_over_and_loses_it_is_heard() {
        let taken = History::new(&[(Retired, LEFT, "M", 1), (Current, AHEAD, "M", 1)]);
        assert_eq!(taken.admit(LEFT, "M", 2), Current);
        let next = History::new(&[
            (Retired, LEFT, "M", 1),
            (Current, AHEAD, "M", 1),
            (Current, LEFT, "M", 2),
        ]);
        assert_eq!(next.order()[..2], [3, 2]);
        // A supplier between that left the keys as they were does not make an older write-ahead newer.
        assert_eq!(next.admit(LEFT, "M", 3), Current);
    }

    #[test]
    fn what_the_next_supplier_says_of_the_meter_outdates_a_late_word_and_retires_nothing() {
        let said = History::new(&[
            (Current, LEFT, "M", 1),
            (Current, IN, "M", 1),
            (Current, LEFT, "M", 1),
        ]);
        assert_eq!(said.admit(LEFT, "M", 1), Current);
        assert_eq!(said.order(), [2, 3, 1]);
        // What the losing supplier itself said as long as it supplied is older than what it leaves.
        let before = History::new(&[(Current, IN, "M", 1), (Current, LEFT, "M", 2)]);
        assert_eq!(before.order(), [2, 1]);
    }

    #[test]
    fn a_word_about_another_meter_is_outdated_by_nothing() {
        let taken = History::new(&[(Current, AHEAD, "M", 1)]);
        assert_eq!(taken.admit(LEFT, "N", 1), Current);
        let ahead = History::new(&[(Prepared, AHEAD, "M", 1), (Current, LEFT, "N", 1)]);
        assert_eq!(ahead.order(), [2, 1]);
    }

    #[test]
    fn a_late_word_of_the_loser_never_comes_before_the_gainers_keys() {
        let late = History::new(&[
            (Current, LEFT, "M", 1),
            (Prepared, AHEAD, "M", 1),
            (Current, LEFT, "M", 1),
        ]);
        assert_eq!(late.order(), [2, 3, 1]);
        let standing = History::new(&[(Current, IN, "M", 0), (Current, LEFT, "M", 1)]);
        assert_eq!(standing.order(), [2, 1]);
        let later = History::new(&[(Current, AHEAD, "M", 1), (Current, IN, "M", 0)]);
        assert_eq!(later.order(), [2, 1]);
        let former = History::new(&[
            (Current, LEFT, "M", 1),
            (Prepared, Why::Former, "M", 0),
            (Prepared, AHEAD, "M", 1),
        ]);
        assert_eq!(former.order(), [3, 1, 2]);
    }

    #[test]
    fn confirming_retires_all_of_the_meter_but_a_later_write_ahead() {
        let all = History::new(&[
            (Current, LEFT, "M", 1),
            (Prepared, AHEAD, "M", 1),
            (Current, LEFT, "M", 1),
            (Prepared, AHEAD, "M", 1),
            (Current, LEFT, "N", 1),
        ]);
        let changed = confirm(&all.kept(), 2).unwrap();
        assert_eq!(changed, [(1, Retired), (2, Current), (3, Retired)]);
    }

    #[test]
    fn confirming_again_changes_nothing() {
        let all = History::new(&[(Retired, LEFT, "M", 1), (Current, AHEAD, "M", 1)]);
        assert_eq!(confirm(&all.kept(), 2), Some(vec![]));
    }

    #[test]
    fn what_is_retired_or_unknown_cannot_be_confirmed() {
        let all = History::new(&[(Retired, LEFT, "M", 1), (Current, AHEAD, "M", 1)]);
        assert_eq!(confirm(&all.kept(), 1), None);
        assert_eq!(confirm(&all.kept(), 7), None);
    }
}
