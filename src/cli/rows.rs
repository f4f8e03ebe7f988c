//! Rows of a CSV file as the records that they stand for: RFC 4180, a row a line, a header row first.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// A column that a kind of record may have.
pub(super) type Column = (&'static str, Kind);

/// What the fields of a column are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// `yes` or `no`, or else `true` or `false`.
    YesNo,
}

/// The columns that a header names, in its order.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Header(Vec<Column>);

impl Header {
    /// The header that a line is: nothing but columns from among `known`. Any other line is a record itself.
    pub(super) fn of(line: &[u8], known: &[Column]) -> Option<Self> {
        let column = |name: &String| known.iter().find(|(known, _)| known == name).copied();
        let columns: Option<Vec<_>> = fields(line)?.iter().map(column).collect();
        columns.map(Self)
    }

    /// A row as a record in JSON, without its empty fields; none if it does not fit under the header.
    pub(super) fn record(&self, row: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let fields = fields(row)?;
        if fields.len() != self.0.len() {
            return None;
        }
        let filled = self
            .0
            .iter()
            .zip(fields)
            .filter(|(_, field)| !field.is_empty());
        let record: Map<String, Value> = filled
            .map(|((name, kind), field)| ((*name).to_owned(), kind.value(&field)))
            .collect();
        Some(Zeroizing::new(
            Value::Object(record).to_string().into_bytes(),
        ))
    }
}

impl Kind {
    /// What is neither yes nor no stays text, for the service to refuse.
    fn value(self, field: &str) -> Value {
        match (self, field) {
            (Self::YesNo, "yes" | "true") => json!(true),
            (Self::YesNo, "no" | "false") => json!(false),
            _ => json!(field),
        }
    }
}

fn fields(line: &[u8]) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(line);
    let row = reader.records().next()?.ok()?;
    Some(row.iter().map(|field| field.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Column; 3] = [
        ("supply_point", Kind::Text),
        ("smart", Kind::YesNo),
        ("serial", Kind::Text),
    ];

    #[test]
    fn a_header_is_what_names_known_columns_alone() {
        let header = Header::of(b"smart, supply_point", &KNOWN).unwrap();
        assert_eq!(header.0, [KNOWN[1], KNOWN[0]]);
        for line in [
            "9693016118873",
            "{\"supply_point\":1}",
            "supply_point,colour",
            "",
        ] {
            assert_eq!(Header::of(line.as_bytes(), &KNOWN), None, "{line}");
        }
    }

    #[test]
    fn a_row_is_the_record_that_its_header_makes_of_it() {
        let header = Header::of(b"supply_point,smart,serial", &KNOWN).unwrap();
        for (row, record) in [
            (
                "1,yes,\"A,1\"",
                Some(r#"{"serial":"A,1","smart":true,"supply_point":"1"}"#),
            ),
            ("1,false,", Some(r#"{"smart":false,"supply_point":"1"}"#)),
            (
                "1,perhaps,",
                Some(r#"{"smart":"perhaps","supply_point":"1"}"#),
            ),
            ("1,yes", None),
            ("1,yes,A,B", None),
        ] {
            let made = header.record(row.as_bytes());
            let made = made.map(|json| String::from_utf8(json.to_vec()).unwrap());
            let sorted = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(made.as_deref().map(sorted), record.map(sorted), "{row}");
        }
    }
}
