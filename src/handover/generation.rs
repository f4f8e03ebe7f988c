//! Generations of what a meter may hold: *prepared → current → retired → erased*.
//!
//! As long as it is not certain which keys a meter holds, every set that it may hold is kept and released, newest
//! first; so no sequence of switches, early or late deposits and lost answers loses a meter.

use serde::{Deserialize, Serialize};

/// Where a generation stands.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerationStatus {
    /// Written ahead by a supplier that is about to change the meter.
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
}

/// Why a generation comes in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// The depositor says that the meter holds it.
    InMeter,
    /// The depositor is about to bring it into the meter.
    WriteAhead,
}

/// What becomes of a generation that comes in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    /// The number that it gets.
    pub number: u32,
    /// Where it stands at first.
    pub status: GenerationStatus,
}

/// Admits a generation. It retires nothing: only a confirmation proves what a meter no longer holds.
pub fn admit(kept: &[Kept], why: Why) -> Admission {
    let newest = kept.iter().map(|k| k.number).max().unwrap_or_default();
    Admission {
        number: newest + 1,
        status: match why {
            Why::InMeter => GenerationStatus::Current,
            Why::WriteAhead => GenerationStatus::Prepared,
        },
    }
}

/// The statuses after it is proven that the meter holds `confirmed` and refuses the others: that one is current, all
/// that were deposited before it are retired. Later ones are left alone: they may be the next change, under way.
///
/// None if there is no live generation of that number.
pub fn confirm(kept: &[Kept], confirmed: u32) -> Option<Vec<Kept>> {
    kept.iter()
        .find(|k| k.number == confirmed && k.status.is_live())?;
    let changed = kept.iter().filter_map(|k| {
        let status = match k.number.cmp(&confirmed) {
            std::cmp::Ordering::Equal => GenerationStatus::Current,
            std::cmp::Ordering::Less if k.status.is_live() => GenerationStatus::Retired,
            _ => k.status,
        };
        (status != k.status).then_some(Kept { status, ..*k })
    });
    Some(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::GenerationStatus::*;
    use super::*;

    fn kept(statuses: &[GenerationStatus]) -> Vec<Kept> {
        (1..)
            .zip(statuses)
            .map(|(number, status)| Kept {
                number,
                status: *status,
            })
            .collect()
    }

    #[test]
    fn a_write_ahead_enters_as_prepared() {
        let admission = admit(&kept(&[Current]), Why::WriteAhead);
        assert_eq!((admission.number, admission.status), (2, Prepared));
    }

    #[test]
    fn confirming_retires_only_what_came_before() {
        let changed = confirm(&kept(&[Current, Prepared, Prepared]), 2).unwrap();
        let expected = [(1, Retired), (2, Current)];
        let changed: Vec<_> = changed.iter().map(|k| (k.number, k.status)).collect();
        assert_eq!(changed, expected);
    }

    #[test]
    fn confirming_again_changes_nothing() {
        assert_eq!(confirm(&kept(&[Retired, Current]), 2), Some(vec![]));
    }

    #[test]
    fn what_is_retired_or_unknown_cannot_be_confirmed() {
        assert_eq!(confirm(&kept(&[Retired, Current]), 1), None);
        assert_eq!(confirm(&kept(&[Current]), 7), None);
    }
}
