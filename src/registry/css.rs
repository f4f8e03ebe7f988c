//! Events of the Central Switching Service, one JSON document a line.
//!
//! ```json
//! {"eventId":"…","eventType":"RegistrationSecuredActiveNotification","eventDate":"2025-10-18T16:00:00Z",
//!  "data":{"registrationId":"…","registrationStatus":"SecuredActive","registrationActiveDate":"…","mpxn":"…"}}
//! ```
//! Fields that are not listed here are tolerated: the feed grows. A secured event carries no supplier; it is joined
//! with its pending event by `registrationId`.

use serde::Deserialize;

use super::RecordError;
use crate::handover::{Change, RegistrationEvent};
use crate::types::{
    Code, InvalidSupplyPoint, Mpid, RegistrationId, SupplyPoint, SupplyStartDate, Timestamp,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    event_id: String,
    event_type: String,
    event_date: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    registration_id: String,
    mpxn: String,
    registration_status: Option<String>,
    supplier_mpid: Option<String>,
    supply_start_date: Option<String>,
    registration_active_date: Option<String>,
    erroneous_switch_resolution_ind: Option<bool>,
}

pub(super) fn read(line: &[u8]) -> Result<RegistrationEvent, RecordError> {
    let document: Document = serde_json::from_slice(line)
        .map_err(|error| RecordError::invalid(format!("not an event: {}", shape(&error))))?;
    let change = change(&document)?;
    if document.event_id.is_empty() || document.event_id.len() > MAX_EVENT_ID {
        return Err(field("eventId"));
    }
    Ok(RegistrationEvent {
        source: "css".to_owned(),
        occurred_at: timestamp("eventDate", &document.event_date)?,
        registration_id: registration_id(&document.data.registration_id)?,
        supply_point: supply_point(&document.data.mpxn)?,
        event_id: document.event_id,
        change,
    })
}

fn change(document: &Document) -> Result<Change, RecordError> {
    let data = &document.data;
    match document.event_type.as_str() {
        "RegistrationPendingNotification" => Ok(Change::Pending {
            supplier: supplier(data)?.ok_or_else(|| field("data.supplierMpid"))?,
            supply_start_date: start(data)?.ok_or_else(|| field("data.supplyStartDate"))?,
            erroneous_return: data.erroneous_switch_resolution_ind.unwrap_or_default(),
        }),
        "RegistrationValidationNotification" | "RegistrationConfirmedNotification" => {
            Ok(Change::Progressed)
        }
        "RegistrationSecuredActiveNotification" => Ok(Change::Secured {
            supplier: supplier(data)?,
            supply_start_date: start(data)?,
        }),
        "RegistrationCancelledNotification" => match data.registration_status.as_deref() {
            Some("Rejected") => Ok(Change::Rejected),
            Some("Annulled") => Ok(Change::Annulled),
            Some("Cancelled") | None => Ok(Change::Cancelled),
            Some(_) => Err(field("data.registrationStatus")),
        },
        _ => Err(field("eventType")),
    }
}

fn supplier(data: &Data) -> Result<Option<Mpid>, RecordError> {
    let text = data.supplier_mpid.as_deref();
    text.map(|text| text.parse().map_err(|_| field("data.supplierMpid")))
        .transpose()
}

/// The start of supply: a date, or the instant at which that date begins in London.
fn start(data: &Data) -> Result<Option<SupplyStartDate>, RecordError> {
    if let Some(date) = &data.supply_start_date {
        // Tools write the date with a time of day that means nothing.
        let date = date.get(..10).unwrap_or(date);
        let date = date.parse().map_err(|_| field("data.supplyStartDate"))?;
        return Ok(Some(date));
    }
    let Some(instant) = &data.registration_active_date else {
        return Ok(None);
    };
    let instant = timestamp("data.registrationActiveDate", instant)?;
    SupplyStartDate::containing(instant)
        .map(Some)
        .map_err(|_| field("data.registrationActiveDate"))
}

fn timestamp(name: &str, text: &str) -> Result<Timestamp, RecordError> {
    text.parse().map_err(|_| field(name))
}

pub(super) fn registration_id(text: &str) -> Result<RegistrationId, RecordError> {
    text.parse().map_err(|_| field("registrationId"))
}

pub(super) fn supply_point(text: &str) -> Result<SupplyPoint, RecordError> {
    text.parse().map_err(|error| RecordError {
        code: match error {
            InvalidSupplyPoint::Form => Code::MalformedSupplyPoint,
            InvalidSupplyPoint::CheckDigit => Code::CheckDigit,
        },
        message: error.to_string(),
    })
}

fn field(name: &str) -> RecordError {
    RecordError::invalid(format!("`{name}` is missing or not valid"))
}

/// What kind of error, and where; never the content.
fn shape(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or of another type",
        serde_json::error::Category::Eof => "the document ends early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
    };
    format!("{kind}, at column {}", error.column())
}

const MAX_EVENT_ID: usize = 128;
