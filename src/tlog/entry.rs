//! Entries, version 1: canonical JSON in which what must not be seen stands as salted digests.
//!
//! ```json
//! {"_sd":["<SHA-256 of a disclosure>", …], "_sd_alg":"sha-256", "at":"2026-11-23T18:00:00.000Z",
//!  "nonce":"<16 random bytes>", "type":"release.granted", "v":"cos-escrow/log/1", …shown fields…}
//! ```
//!
//! A disclosure is base64url of `[salt, name, value]`, as in RFC 9901. It is kept outside the log, so that erasing it
//! leaves every proof intact. An inclusion proof shows the hash of the neighbouring entry: the nonce keeps that from
//! being guessed.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::field::{
    MAX_LEAF_BYTES, SALT_BYTES, SD_ALGORITHM, VERSION, canonical, check_field, check_kind,
    digest_of, read_disclosure,
};
use crate::types::{Digest, Timestamp};

/// An entry read back. Its form is checked; that it is in the log is for a receipt or an audit to say.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenEntry {
    kind: String,
    at: Timestamp,
    shown: Map<String, Value>,
    // INVARIANT: strictly ascending.
    digests: Vec<String>,
}

impl OpenEntry {
    /// Reads a leaf, which must be the canonical bytes of an entry of this version.
    pub fn read(leaf: &[u8]) -> Result<Self, EntryError> {
        if leaf.len() > MAX_LEAF_BYTES {
            return Err(EntryError::TooLarge);
        }
        let fields = serde_json::from_slice(leaf).map_err(|_| EntryError::Form)?;
        let value = Value::Object(fields);
        if canonical(&value)? != leaf {
            return Err(EntryError::NotCanonical);
        }
        let Value::Object(mut fields) = value else {
            return Err(EntryError::Form);
        };
        if take_text(&mut fields, "v")? != VERSION {
            return Err(EntryError::UnknownVersion);
        }
        let kind = take_text(&mut fields, "type")?;
        check_kind(&kind)?;
        let nonce = BASE64_URL_SAFE_NO_PAD.decode(take_text(&mut fields, "nonce")?);
        let has_nonce = nonce.is_ok_and(|nonce| nonce.len() == SALT_BYTES);
        if take_text(&mut fields, "_sd_alg")? != SD_ALGORITHM || !has_nonce {
            return Err(EntryError::Form);
        }
        let entry = Self {
            kind,
            at: take_time(&mut fields)?,
            digests: take_digests(&mut fields)?,
            shown: fields,
        };
        entry
            .shown
            .iter()
            .try_for_each(|(name, value)| check_field(name, value))?;
        Ok(entry)
    }

    /// What happened, such as `release.granted`. A kind that a reader does not know is no error.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The fields that everyone sees, without those that every entry has.
    pub fn shown(&self) -> &Map<String, Value> {
        &self.shown
    }

    /// How many fields are hidden.
    pub fn hidden_count(&self) -> usize {
        self.digests.len()
    }

    /// The hidden fields that these disclosures open. One that does not belong to the entry refuses them all.
    pub fn open(&self, disclosures: &[impl AsRef<str>]) -> Result<Map<String, Value>, EntryError> {
        let mut opened = Map::new();
        for disclosure in disclosures {
            let disclosure = disclosure.as_ref();
            if self.digests.binary_search(&digest_of(disclosure)).is_err() {
                return Err(EntryError::ForeignDisclosure);
            }
            let (name, value) = read_disclosure(disclosure)?;
            check_field(&name, &value)?;
            if opened.contains_key(&name) || self.shown.contains_key(&name) {
                return Err(EntryError::DuplicateField);
            }
            opened.insert(name, value);
        }
        Ok(opened)
    }
}

fn take_text(fields: &mut Map<String, Value>, name: &str) -> Result<String, EntryError> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EntryError::Form),
    }
}

/// The time, which has one way to be written.
fn take_time(fields: &mut Map<String, Value>) -> Result<Timestamp, EntryError> {
    let text = take_text(fields, "at")?;
    let at: Timestamp = text.parse().map_err(|_| EntryError::Form)?;
    (at.to_string() == text)
        .then_some(at)
        .ok_or(EntryError::Form)
}

fn take_digests(fields: &mut Map<String, Value>) -> Result<Vec<String>, EntryError> {
    let digests = fields.remove("_sd").ok_or(EntryError::Form)?;
    let digests: Vec<String> = serde_json::from_value(digests).map_err(|_| EntryError::Form)?;
    let holds = digests.is_sorted_by(|a, b| a < b)
        && digests
            .iter()
            .all(|digest| digest.parse::<Digest>().is_ok());
    holds.then_some(digests).ok_or(EntryError::Form)
}

/// Why an entry cannot be written or read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EntryError {
    /// The leaf is not an entry, or the disclosure is not `[salt, name, value]`.
    #[error("not an entry of the log")]
    Form,
    /// The leaf is JSON, but not the one way to write it.
    #[error("the entry is not canonical JSON")]
    NotCanonical,
    /// The entry is of a version that is not known here. Its place in the log can be verified all the same.
    #[error("the entry is not of version `{VERSION}`")]
    UnknownVersion,
    /// The entry has more bytes than a tile has room for.
    #[error("an entry has at most {MAX_LEAF_BYTES} bytes")]
    TooLarge,
    /// The kind is empty, too long, or has other characters.
    #[error("the kind of an entry is 1 to 64 lower-case letters, digits, `.`, `_` and `-`")]
    Kind,
    /// A field has a name that entries use themselves.
    #[error("a field has a name that entries use themselves")]
    ReservedName,
    /// Two fields, shown or hidden, have one name.
    #[error("two fields have the same name")]
    DuplicateField,
    /// A name outside ASCII, a fraction, an integer of 2^53 or more, or more than 16 levels.
    #[error("a field has a name or value that entries do not have")]
    Value,
    /// The disclosure was made for another entry, or changed.
    #[error("a disclosure does not belong to the entry")]
    ForeignDisclosure,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::fixture::{Counting, draft};
    use super::super::{Draft, Entry};
    use super::*;

    fn entry() -> Entry {
        draft().finish(&Counting::default()).unwrap()
    }

    /// The entry with its fields changed, canonical again.
    fn changed(change: impl Fn(&mut Map<String, Value>)) -> Result<OpenEntry, EntryError> {
        let mut fields: Map<_, _> = serde_json::from_slice(&entry().leaf).unwrap();
        change(&mut fields);
        OpenEntry::read(&canonical(&Value::Object(fields)).unwrap())
    }

    #[test]
    fn an_entry_opens_with_its_disclosures() {
        let entry = entry();
        let read = OpenEntry::read(&entry.leaf).unwrap();
        assert_eq!(
            (read.kind(), read.at().as_millis()),
            ("release.granted", 1_790_000_000_123)
        );
        assert_eq!(
            Value::from(read.shown().clone()),
            json!({"release": "digest"})
        );
        assert_eq!(read.hidden_count(), 2);
        let opened = read.open(&entry.disclosures).unwrap();
        assert_eq!(
            Value::from(opened),
            json!({"actor": {"party": "gainer", "seq": 93}, "supply_point": "2499999999991"})
        );
        let one = read.open(&entry.disclosures[..1]).unwrap();
        assert_eq!(Value::from(one), json!({"supply_point": "2499999999991"}));
        assert!(read.open(&[""; 0]).unwrap().is_empty());
    }

    #[test]
    fn the_same_facts_twice_share_no_digest() {
        let random = Counting::default();
        let [first, second] = [(); 2].map(|()| draft().finish(&random).unwrap());
        let read = OpenEntry::read(&first.leaf).unwrap();
        for disclosure in &second.disclosures {
            let opened = read.open(&[disclosure]);
            assert_eq!(opened, Err(EntryError::ForeignDisclosure));
        }
    }

    #[test]
    fn a_changed_disclosure_is_refused() {
        let entry = entry();
        let read = OpenEntry::read(&entry.leaf).unwrap();
        let good = &entry.disclosures[0];
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(read.open(&[changed]), Err(EntryError::ForeignDisclosure));
        }
        let twice = read.open(&[good, good]);
        assert_eq!(twice, Err(EntryError::DuplicateField));
    }

    #[test]
    fn a_disclosure_cannot_pretend_to_be_a_shown_field() {
        for (json, error) in [
            (r#"["salt","release","forged"]"#, EntryError::DuplicateField),
            (r#"["salt","type","forged"]"#, EntryError::ReservedName),
            (r#"["salt","_sd",[]]"#, EntryError::ReservedName),
            (r#"["salt","value"]"#, EntryError::Form),
            (r#"[1,"name","value"]"#, EntryError::Form),
            (r#"["salt","name",1.5]"#, EntryError::Value),
        ] {
            let disclosure = BASE64_URL_SAFE_NO_PAD.encode(json);
            let digest = digest_of(&disclosure);
            let read = changed(|fields| fields["_sd"] = json!([digest])).unwrap();
            assert_eq!(read.open(&[disclosure]), Err(error), "{json}");
        }
    }

    #[test]
    fn only_canonical_bytes_are_an_entry() {
        let leaf = String::from_utf8(entry().leaf).unwrap();
        for wrong in [
            leaf.replace(',', ", "),
            leaf.clone() + "\n",
            leaf.replace("release", "r\\u0065lease"),
            leaf.replacen('{', r#"{"v":"cos-escrow/log/1","#, 1),
            leaf.replacen('{', r#"{"z":1,"#, 1),
            leaf.replace("\"digest\"", "1e2"),
        ] {
            assert_eq!(
                OpenEntry::read(wrong.as_bytes()),
                Err(EntryError::NotCanonical),
                "{wrong}"
            );
        }
        for wrong in ["", "null", "[]", "{", "\u{feff}{}", "{}"] {
            assert_eq!(
                OpenEntry::read(wrong.as_bytes()),
                Err(EntryError::Form),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_entry_with_a_wrong_field_is_refused() {
        let digest = Digest::of(b"").to_string();
        for (name, value, error) in [
            ("v", json!("cos-escrow/log/2"), EntryError::UnknownVersion),
            ("v", json!(1), EntryError::Form),
            ("type", json!("Release"), EntryError::Kind),
            ("at", json!("2026-09-21T14:13:20Z"), EntryError::Form),
            (
                "at",
                json!("2026-09-21T15:13:20.123+01:00"),
                EntryError::Form,
            ),
            ("nonce", json!("AAAA"), EntryError::Form),
            ("_sd_alg", json!("sha-512"), EntryError::Form),
            ("_sd", json!({}), EntryError::Form),
            ("_sd", json!(["short"]), EntryError::Form),
            ("_sd", json!([digest, digest]), EntryError::Form),
            ("...", json!("x"), EntryError::ReservedName),
            ("release", json!(0.5), EntryError::Value),
        ] {
            let read = changed(|fields| {
                fields.insert(name.to_owned(), value.clone());
            });
            assert_eq!(read, Err(error), "{name} {value}");
        }
        for name in ["_sd", "_sd_alg", "at", "nonce", "type", "v"] {
            let read = changed(|fields| {
                fields.remove(name);
            });
            assert_eq!(read, Err(EntryError::Form), "{name}");
        }
        let unsorted = changed(|fields| fields["_sd"].as_array_mut().unwrap().reverse());
        assert_eq!(unsorted, Err(EntryError::Form));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "\\{(\"[a-z_]{1,4}\":[0-9\"\\[\\]{}]{0,4},?){0,6}\\}") {
            let _ = OpenEntry::read(&bytes);
            let _ = OpenEntry::read(text.as_bytes());
        }

        #[test]
        fn an_entry_reads_what_was_written(shown: String, hidden: String, count in 0..20_u8) {
            let mut draft = Draft::new("kind", Timestamp::default()).show("shown", &shown[..]);
            for field in 0..count {
                draft = draft.hide(&format!("hidden_{field}"), &hidden[..]);
            }
            let entry = draft.finish(&Counting::default()).ok().unwrap();
            let read = OpenEntry::read(&entry.leaf).unwrap();
            prop_assert_eq!(&read.shown()["shown"], &json!(shown));
            let opened = read.open(&entry.disclosures).unwrap();
            prop_assert_eq!(opened.len(), usize::from(count));
            prop_assert!(opened.values().all(|value| *value == hidden));
        }
    }
}
