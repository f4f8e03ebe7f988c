//! Look-ups, statements about meters, one's own keys, and the registration feed.

use serde_json::json;

use super::{OPERATING, PARTY, RELEASING, WRITING};
use crate::http::openapi::operation::{Operation, reference};
use crate::http::supply_points::Purpose;
use crate::identity::Kind;
use crate::types::Code;

pub(super) fn supply_points() -> Vec<Operation> {
    let new =
        |route, id, summary| Operation::new(route, "supply points", id, summary).for_kinds(PARTY);
    vec![
        new(
            ("get", "/v1/supply-points/{mpxn}"),
            "look_up",
            "Is this supply point smart, and which meter is it",
        )
        .query::<Purpose>()
        .answers(200, "LookedUp", "What this caller may know.")
        .refuses(WRITING)
        .refuses(NAMING)
        .refuses(LOOKING_UP),
        new(
            ("post", "/v1/supply-points:lookup"),
            "look_up_many",
            "Many look-ups, one a line",
        )
        .takes_lines("LookupRequest")
        .answers_lines("LookedUpLine", &[WRITING, NAMING, LINE, LOOKING_UP]),
        new(
            ("put", "/v1/supply-points/{mpxn}/meter"),
            "put_meter",
            "What the registered supplier says of its meter",
        )
        .takes("MeterStatement")
        .answers(200, "MeterStated", "A further version is recorded.")
        .refuses(WRITING)
        .refuses(NAMING)
        .refuses(&[Code::NotFound, Code::AllowanceSpent]),
        new(
            ("post", "/v1/supply-points/{mpxn}/release"),
            "recover",
            "Give a registered supplier the keys of its own meter back",
        )
        .idempotent()
        .takes("ReleaseRequest")
        .answers(
            200,
            "Released",
            "The release, recorded before it was handed out.",
        )
        .with_header("cache-control", "CacheControl")
        .refuses(WRITING)
        .refuses(NAMING)
        .refuses(RELEASING),
        new(
            ("post", "/v1/meters"),
            "put_meters",
            "Many statements about meters, one a line",
        )
        .takes_lines("MeterLine")
        .answers_lines(
            "MeterStatedLine",
            &[WRITING, NAMING, LINE, &[Code::NotFound]],
        ),
    ]
}

pub(super) fn registrations() -> Vec<Operation> {
    let mut content = json!({
        "text/csv": { "schema": { "type": "string", "description": SNAPSHOT } },
    });
    content["application/x-ndjson"] = json!({
        "schema": { "type": "string", "x-line": reference("RegistrationEvent") },
    });
    vec![
        Operation::new(
            ("post", "/v1/registrations"),
            "registrations",
            "record_registrations",
            "Events or a snapshot of the registration source",
        )
        .for_kinds(&[Kind::Registrar])
        .takes_content(&content)
        .answers_lines("RecordedLine", &[OPERATING, NAMING, RECORD]),
    ]
}

/// How a supply point in a path may be refused.
const NAMING: &[Code] = &[Code::MalformedSupplyPoint, Code::CheckDigit];
/// How a line that asks something may be refused whatever it asks.
const LINE: &[Code] = &[Code::MalformedRequest, Code::TooLarge, Code::Unavailable];
/// How a registration record may be refused.
const RECORD: &[Code] = &[
    Code::TooLarge,
    Code::RegistrationInvalid,
    Code::RegistrationConflict,
    Code::Unavailable,
];
/// How a look-up may be refused.
const LOOKING_UP: &[Code] = &[
    Code::NotFound,
    Code::RateLimited,
    Code::AllowanceSpent,
    Code::Forbidden,
];

const SNAPSHOT: &str = "RFC 4180 with a header row; columns in any order: `registration_id`, `mpxn`, `supplier_mpid`, \
`supply_start_date`, and where known `supply_end_date`, `status` (`SecuredActive`), `meter_serial`, `recorded_at`.";
