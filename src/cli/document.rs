//! Documents of the API as rows: JSON shows them as they came, tables and CSV show the columns that a shape picks.

use std::marker::PhantomData;

use serde_json::Value;

use super::output::Row;

/// Which columns a kind of document has, and where in it each is.
pub(super) trait Shape {
    /// The names of the columns.
    const COLUMNS: &'static [&'static str];
    /// Where each is: JSON pointers.
    const POINTERS: &'static [&'static str];
}

/// A document of the API.
pub(super) struct Document<S> {
    value: Value,
    shape: PhantomData<S>,
}

impl<S> Document<S> {
    pub(super) fn of(value: Value) -> Self {
        Self {
            value,
            shape: PhantomData,
        }
    }

    /// The documents of a list.
    pub(super) fn list(value: &Value) -> Vec<Self> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().cloned().map(Self::of).collect()
    }
}

impl<S> serde::Serialize for Document<S> {
    fn serialize<T: serde::Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.value.serialize(serializer)
    }
}

impl<S: Shape> Row for Document<S> {
    const COLUMNS: &'static [&'static str] = S::COLUMNS;

    fn cells(&self) -> Vec<String> {
        let cell = |pointer: &&str| self.value.pointer(pointer).map(cell).unwrap_or_default();
        S::POINTERS.iter().map(cell).collect()
    }
}

/// A value in one cell.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(cell).collect();
            items.join(" ")
        }
        other => other.to_string(),
    }
}

/// A path with the parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded(value.as_ref()?))));
    let query: Vec<_> = given.collect();
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", query.join("&")),
    }
}

//= RFC 3986 section 2.3
fn percent_encoded(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let encode = |b: u8| match unreserved(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Party;

    impl Shape for Party {
        const COLUMNS: &'static [&'static str] = &["id", "mpid", "live", "gaps"];
        const POINTERS: &'static [&'static str] = &["/id", "/held/mpid", "/live", "/gaps"];
    }

    #[test]
    fn a_document_shows_its_columns_and_keeps_the_rest() {
        let value = json!({
            "id": "north", "held": { "mpid": "ZHTL", "from": 1 }, "live": true, "gaps": ["a", "b"],
        });
        let document = Document::<Party>::of(value.clone());
        assert_eq!(document.cells(), ["north", "ZHTL", "yes", "a b"]);
        assert_eq!(serde_json::to_value(&document).unwrap(), value);
        assert_eq!(Document::<Party>::of(json!({})).cells(), [""; 4]);
    }

    #[test]
    fn a_query_has_what_is_given_and_breaks_on_nothing() {
        let parameters = [
            ("a", Some("x y&z=ä".to_owned())),
            ("b", None),
            ("c", Some("2025-01-01T00:00:00.000Z".to_owned())),
        ];
        assert_eq!(
            with_query("/v1/x", &parameters),
            "/v1/x?a=x%20y%26z%3D%C3%A4&c=2025-01-01T00%3A00%3A00.000Z"
        );
        assert_eq!(with_query("/v1/x", &[("b", None)]), "/v1/x");
    }
}
