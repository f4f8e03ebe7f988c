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
