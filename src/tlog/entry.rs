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

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::types::{Digest, Random, Timestamp};

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

fn check_kind(kind: &str) -> Result<(), EntryError> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let fits = (1..=MAX_KIND_BYTES).contains(&kind.len()) && kind.bytes().all(fits);
    fits.then_some(()).ok_or(EntryError::Kind)
}

fn check_field(name: &str, value: &Value) -> Result<(), EntryError> {
    if OF_EVERY_ENTRY.contains(&name) {
        return Err(EntryError::ReservedName);
    }
    check_name(name)?;
    check_value(value)
}

fn check_name(name: &str) -> Result<(), EntryError> {
    if OF_DISCLOSURES.contains(&name) {
        return Err(EntryError::ReservedName);
    }
    name.is_ascii().then_some(()).ok_or(EntryError::Value)
}

/// Numbers are integers that every JSON reader holds exactly.
fn check_value(value: &Value) -> Result<(), EntryError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) => {
            let is_exact = number
                .as_i64()
                .is_some_and(|n| n.unsigned_abs() <= MAX_INTEGER);
            is_exact.then_some(()).ok_or(EntryError::Value)
        }
        Value::Array(values) => values.iter().try_for_each(check_value),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            check_name(name)?;
            check_value(value)
        }),
    }
}

/// base64url of `[salt, name, value]`.
//= RFC 9901 section 4.2.1
fn disclose(name: String, value: Value, random: &dyn Random) -> Result<String, EntryError> {
    let json = canonical(&Value::from(vec![
        random_text(random).into(),
        name.into(),
        value,
    ]))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
}

fn read_disclosure(disclosure: &str) -> Result<(String, Value), EntryError> {
    let json = BASE64_URL_SAFE_NO_PAD
        .decode(disclosure)
        .map_err(|_| EntryError::Form)?;
    let (_salt, name, value): (String, String, Value) =
        serde_json::from_slice(&json).map_err(|_| EntryError::Form)?;
    Ok((name, value))
}

/// base64url of the SHA-256 of the disclosure's characters.
//= RFC 9901 section 4.2.3
fn digest_of(disclosure: &str) -> String {
    Digest::of(disclosure.as_bytes()).to_string()
}

fn random_text(random: &dyn Random) -> String {
    let mut bytes = [0; SALT_BYTES];
    random.fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// RFC 8785. Not what `serde_json` writes: the order of its keys depends on what other crates ask of it.
fn canonical(value: &Value) -> Result<Vec<u8>, EntryError> {
    serde_json_canonicalizer::to_vec(value).map_err(|_| EntryError::Value)
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
    /// A name outside ASCII, a fraction, or an integer of 2^53 or more.
    #[error("a field has a name or number that entries do not have")]
    Value,
    /// The disclosure was made for another entry, or changed.
    #[error("a disclosure does not belong to the entry")]
    ForeignDisclosure,
}

const VERSION: &str = "cos-escrow/log/1";
const SD_ALGORITHM: &str = "sha-256";
const OF_EVERY_ENTRY: [&str; 5] = ["_sd_alg", "at", "nonce", "type", "v"];
const OF_DISCLOSURES: [&str; 2] = ["_sd", "..."];
const SALT_BYTES: usize = 16;
const MAX_INTEGER: u64 = (1 << 53) - 1;
const MAX_KIND_BYTES: usize = 64;
/// A tile of entries has 16 bits for the length of each.
const MAX_LEAF_BYTES: usize = 65_535;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Fills with 1, then with 2, and so on.
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        }
    }

    fn draft() -> Draft {
        Draft::new("release.granted", Timestamp::from_millis(1_790_000_000_123))
            .show("release", "digest")
            .hide("supply_point", "2499999999991")
            .hide("actor", json!({"party": "gainer", "seq": 93}))
    }

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
    fn a_disclosure_is_the_one_of_rfc_9901() {
        // Section 4.2.3 gives the digest of this disclosure of section 4.2.1.
        let disclosure = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0";
        assert_eq!(
            digest_of(disclosure),
            "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"
        );
        let (name, value) = read_disclosure(disclosure).unwrap();
        assert_eq!((&name[..], value), ("family_name", json!("Möbius")));
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
    fn what_is_hidden_is_not_in_the_leaf() {
        let leaf = String::from_utf8(entry().leaf).unwrap();
        for hidden in ["2499999999991", "supply_point", "gainer", "actor"] {
            assert!(!leaf.contains(hidden), "{hidden}");
        }
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
