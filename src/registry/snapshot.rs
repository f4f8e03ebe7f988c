//! A CSV copy of the registration data: RFC 4180, UTF-8, a header row, columns in any order.
//!
//! | column | content |
//! |---|---|
//! | `registration_id` | the source's name for the registration |
//! | `mpxn` | MPAN core or MPRN |
//! | `supplier_mpid` | who supplies |
//! | `supply_start_date` | from which date, `YYYY-MM-DD` |
//! | `supply_end_date` | until which date, exclusive; may be empty or absent |
//! | `status` | `SecuredActive`; may be absent |
//! | `meter_serial` | may be empty or absent |
//! | `recorded_at` | when the source recorded it; may be absent where supply has started, and is its start then |

use super::RecordError;
use super::css::{registration_id, supply_point};
use crate::handover::{Change, RegistrationEvent};
use crate::types::{Digest, SupplyStartDate, Timestamp};

/// Where each column is.
pub(super) struct Columns(Vec<String>);

impl Columns {
    pub(super) fn read(line: &[u8]) -> Result<Self, RecordError> {
        let columns = Self(fields(line)?);
        for name in [
            "registration_id",
            "mpxn",
            "supplier_mpid",
            "supply_start_date",
        ] {
            if !columns.0.iter().any(|column| column == name) {
                return Err(RecordError::invalid(format!("column `{name}` is missing")));
            }
        }
        Ok(columns)
    }

    fn of<'r>(&self, row: &'r [String], name: &str) -> Option<&'r str> {
        let at = self.0.iter().position(|column| column == name)?;
        row.get(at)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }
}

pub(super) fn read(line: &[u8], columns: &Columns) -> Result<RegistrationEvent, RecordError> {
    let row = fields(line)?;
    if row.len() != columns.0.len() {
        return Err(RecordError::invalid(
            "the row has another number of fields than the header",
        ));
    }
    let invalid = |name: &str| RecordError::invalid(format!("`{name}` is missing or not valid"));
    let required = |name: &str| columns.of(&row, name).ok_or_else(|| invalid(name));
    if !matches!(columns.of(&row, "status"), None | Some("SecuredActive")) {
        return Err(invalid("status"));
    }
    let date = |name: &str| -> Result<Option<SupplyStartDate>, RecordError> {
        let text = columns.of(&row, name);
        text.map(|text| text.parse().map_err(|_| invalid(name)))
            .transpose()
    };
    let start = date("supply_start_date")?.ok_or_else(|| invalid("supply_start_date"))?;
    let occurred_at: Timestamp = match columns.of(&row, "recorded_at") {
        Some(text) => text.parse().map_err(|_| invalid("recorded_at"))?,
        None => start.effective_at(),
    };
    Ok(RegistrationEvent {
        source: "snapshot".to_owned(),
        // A row has no name of its own: the same row again is the same event.
        event_id: Digest::of(line).to_string(),
        occurred_at,
        registration_id: registration_id(required("registration_id")?)?,
        supply_point: supply_point(required("mpxn")?)?,
        change: Change::Snapshot {
            supplier: required("supplier_mpid")?
                .parse()
                .map_err(|_| invalid("supplier_mpid"))?,
            supply_start_date: start,
            supply_end_date: date("supply_end_date")?,
            meter: columns
                .of(&row, "meter_serial")
                .map(|text| text.parse().map_err(|_| invalid("meter_serial")))
                .transpose()?,
        },
    })
}

fn fields(line: &[u8]) -> Result<Vec<String>, RecordError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(line);
    let record = reader
        .records()
        .next()
        .and_then(Result::ok)
        .ok_or_else(|| RecordError::invalid("not a row of CSV in UTF-8"))?;
    Ok(record.iter().map(|field| field.trim().to_owned()).collect())
}
