//! What the fields of an entry may be, and how one is hidden (RFC 9901).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::entry::EntryError;
use crate::types::{Digest, Random};

pub(super) fn check_kind(kind: &str) -> Result<(), EntryError> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let fits = (1..=MAX_KIND_BYTES).contains(&kind.len()) && kind.bytes().all(fits);
    fits.then_some(()).ok_or(EntryError::Kind)
}

pub(super) fn check_field(name: &str, value: &Value) -> Result<(), EntryError> {
    if OF_EVERY_ENTRY.contains(&name) {
        return Err(EntryError::ReservedName);
    }
    check_name(name)?;
    check_value(value, MAX_LEVELS)
}

fn check_name(name: &str) -> Result<(), EntryError> {
    if OF_DISCLOSURES.contains(&name) {
        return Err(EntryError::ReservedName);
    }
    name.is_ascii().then_some(()).ok_or(EntryError::Value)
}

/// Numbers are integers that every JSON reader holds exactly; nothing is nested deeper than readers follow.
fn check_value(value: &Value, levels: usize) -> Result<(), EntryError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) => {
            let is_exact = number
                .as_i64()
                .is_some_and(|n| n.unsigned_abs() <= MAX_INTEGER);
            is_exact.then_some(()).ok_or(EntryError::Value)
        }
        Value::Array(_) | Value::Object(_) if levels == 0 => Err(EntryError::Value),
        Value::Array(values) => values
            .iter()
            .try_for_each(|value| check_value(value, levels - 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            check_name(name)?;
            check_value(value, levels - 1)
        }),
    }
}

/// base64url of `[salt, name, value]`.
//= RFC 9901 section 4.2.1
pub(super) fn disclose(
    name: String,
    value: Value,
    random: &dyn Random,
) -> Result<String, EntryError> {
    let json = canonical(&Value::from(vec![
        random_text(random).into(),
        name.into(),
        value,
    ]))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
}

pub(super) fn read_disclosure(disclosure: &str) -> Result<(String, Value), EntryError> {
    let json = BASE64_URL_SAFE_NO_PAD
        .decode(disclosure)
        .map_err(|_| EntryError::Form)?;
    let (_salt, name, value): (String, String, Value) =
        serde_json::from_slice(&json).map_err(|_| EntryError::Form)?;
    Ok((name, value))
}

/// base64url of the SHA-256 of the disclosure's characters.
//= RFC 9901 section 4.2.3
pub(super) fn digest_of(disclosure: &str) -> String {
    Digest::of(disclosure.as_bytes()).to_string()
}

pub(super) fn random_text(random: &dyn Random) -> String {
    let mut bytes = [0; SALT_BYTES];
    random.fill(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// RFC 8785. Not what `serde_json` writes: the order of its keys depends on what other crates ask of it.
pub(super) fn canonical(value: &Value) -> Result<Vec<u8>, EntryError> {
    serde_json_canonicalizer::to_vec(value).map_err(|_| EntryError::Value)
}

pub(super) const VERSION: &str = "cos-escrow/log/1";
pub(super) const SD_ALGORITHM: &str = "sha-256";
const OF_EVERY_ENTRY: [&str; 5] = ["_sd_alg", "at", "nonce", "type", "v"];
const OF_DISCLOSURES: [&str; 2] = ["_sd", "..."];
pub(super) const SALT_BYTES: usize = 16;
const MAX_INTEGER: u64 = (1 << 53) - 1;
const MAX_LEVELS: usize = 16;
const MAX_KIND_BYTES: usize = 64;
/// A tile of entries has 16 bits for the length of each.
pub(super) const MAX_LEAF_BYTES: usize = 65_535;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
}
