//! Entries as they are written: shown fields, salted digests of the hidden ones, a nonce.

use std::collections::BTreeSet;

use serde_json::Value;

use super::entry::EntryError;
use super::field::{
    MAX_LEAF_BYTES, SD_ALGORITHM, VERSION, canonical, check_field, check_kind, digest_of, disclose,
    random_text,
};
use crate::types::{Random, Timestamp};

/// What an entry is to say.
#[derive(Clone)]
pub struct Draft {
    kind: String,
    at: Timestamp,
    shown: Vec<(String, Value)>,
    hidden: Vec<(String, Value)>,
}

impl Draft {
    /// An entry of this kind, such as `release.granted`.
    pub fn new(kind: &str, at: Timestamp) -> Self {
        Self {
            kind: kind.to_owned(),
            at,
            shown: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Adds a field that everyone who reads the log may see.
    #[must_use]
    pub fn show(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.shown.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a field that only those see who are given its disclosure.
    #[must_use]
    pub fn hide(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.hidden.push((name.to_owned(), value.into()));
        self
    }

    /// Draws salts and nonce and writes the entry.
    pub fn finish(self, random: &dyn Random) -> Result<Entry, EntryError> {
        check_kind(&self.kind)?;
        let mut names = BTreeSet::new();
        for (name, value) in self.shown.iter().chain(&self.hidden) {
            check_field(name, value)?;
            names
                .insert(name)
                .then_some(())
                .ok_or(EntryError::DuplicateField)?;
        }
        let disclosures = self
            .hidden
            .into_iter()
            .map(|(name, value)| disclose(name, value, random))
            .collect::<Result<Vec<_>, _>>()?;
        let mut digests: Vec<_> = disclosures.iter().map(|text| digest_of(text)).collect();
        // Sorted, so that their order says nothing of the fields.
        digests.sort_unstable();
        let of_every_entry = [
            ("_sd", Value::from(digests)),
            ("_sd_alg", SD_ALGORITHM.into()),
            ("at", self.at.to_string().into()),
            ("nonce", random_text(random).into()),
            ("type", self.kind.into()),
            ("v", VERSION.into()),
        ];
        let of_every_entry = of_every_entry.map(|(name, value)| (name.to_owned(), value));
        let leaf = canonical(&self.shown.into_iter().chain(of_every_entry).collect())?;
        if leaf.len() > MAX_LEAF_BYTES {
            return Err(EntryError::TooLarge);
        }
        Ok(Entry { leaf, disclosures })
    }
}

/// An entry, ready to be appended.
pub struct Entry {
    /// The bytes of the leaf.
    pub leaf: Vec<u8>,
    /// One for each hidden field, in the order in which they were hidden. To be stored encrypted, outside the log.
    pub disclosures: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::OpenEntry;
    use super::super::fixture::{Counting, draft};
    use super::*;

    fn entry() -> Entry {
        draft().finish(&Counting::default()).unwrap()
    }

    #[test]
    fn an_entry_has_exactly_these_bytes() {
        let entry = entry();
        assert_eq!(
            String::from_utf8(entry.leaf).unwrap(),
            concat!(
                r#"{"_sd":["2sjykGTWKgZW3_G2u12KTMulSZKa2OUtZi1LyKC2Gis","#,
                r#""V6s_qNkpLSeE-klW96jg5efEO61JNdG8_-ZKYPKGy3Y"],"#,
                r#""_sd_alg":"sha-256","at":"2026-09-21T14:13:20.123Z","nonce":"AwMDAwMDAwMDAwMDAwMDAw","#,
                r#""release":"digest","type":"release.granted","v":"cos-escrow/log/1"}"#
            )
        );
    }

    #[test]
    fn a_draft_with_a_wrong_field_is_refused() {
        let draft = || Draft::new("kind", Timestamp::default());
        let finish = |draft: Draft| draft.finish(&Counting::default()).err();
        for name in ["_sd", "_sd_alg", "...", "at", "nonce", "type", "v"] {
            assert_eq!(
                finish(draft().show(name, 1)),
                Some(EntryError::ReservedName)
            );
            assert_eq!(
                finish(draft().hide(name, 1)),
                Some(EntryError::ReservedName)
            );
        }
        let nested = json!([{"_sd": []}]);
        assert_eq!(
            finish(draft().show("a", nested)),
            Some(EntryError::ReservedName)
        );
        for value in [
            json!(0.5),
            json!(1_u64 << 53),
            json!([{"ä": 1}]),
            json!(-(1_i64 << 53)),
        ] {
            assert_eq!(finish(draft().hide("a", value)), Some(EntryError::Value));
        }
        let nested = |levels| (0..levels).fold(json!(1), |value, _| json!([value]));
        assert_eq!(finish(draft().show("a", nested(16))), None);
        assert_eq!(
            finish(draft().show("a", nested(17))),
            Some(EntryError::Value)
        );
        let twice = draft().show("a", 1).hide("a", 1);
        assert_eq!(finish(twice), Some(EntryError::DuplicateField));
        for kind in ["", "Kind", "a b", &"k".repeat(65)] {
            let draft = Draft::new(kind, Timestamp::default());
            assert_eq!(finish(draft), Some(EntryError::Kind), "{kind}");
        }
    }

    #[test]
    fn an_entry_has_room_for_65535_bytes() {
        let of = |length| {
            let draft = Draft::new("kind", Timestamp::default());
            draft
                .show("a", "x".repeat(length))
                .finish(&Counting::default())
        };
        let overhead = of(0).ok().unwrap().leaf.len();
        let largest = of(65_535 - overhead).ok().unwrap();
        assert_eq!(largest.leaf.len(), 65_535);
        assert!(OpenEntry::read(&largest.leaf).is_ok());
        assert_eq!(of(65_536 - overhead).err(), Some(EntryError::TooLarge));
        let longer = [&largest.leaf[..], b" "].concat();
        assert_eq!(OpenEntry::read(&longer), Err(EntryError::TooLarge));
    }

    #[test]
    fn what_is_hidden_is_not_in_the_leaf() {
        let leaf = String::from_utf8(entry().leaf).unwrap();
        for hidden in ["2499999999991", "supply_point", "gainer", "actor"] {
            assert!(!leaf.contains(hidden), "{hidden}");
        }
    }
}
