//! The documents that go in and out.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::operation::reference;
use crate::handover::State;
use crate::http::handovers::{DepositBody, RejectBody};
use crate::http::parties::KeyOfferBody;
use crate::http::problem::{self, Problem};
use crate::service::{LookupRequest, MeterStatement, MpidChange, NewParty, ReleaseRequest};
use crate::types::Code;

/// Every schema by its name.
pub(super) fn all() -> Map<String, Value> {
    let mut schemas: Map<String, Value> =
        serde_json::from_str(ANSWERS).expect("the text is compiled in and tests read it");
    for (name, schema) in derived() {
        schemas.insert(name, schema);
    }
    schemas.insert("Code".to_owned(), codes());
    schemas.insert("HandoverState".to_owned(), states());
    for (schema, field, refers) in REFERENCES {
        refer(&mut schemas[*schema]["properties"][*field], refers);
    }
    let line = meter_line(&schemas["MeterStatement"]);
    schemas.insert("MeterLine".to_owned(), line);
    schemas
}

/// Schemas of the types that requests are read into, and of what they refer to.
fn derived() -> impl Iterator<Item = (String, Value)> {
    let mut schemas = Vec::new();
    add::<DepositBody<'_>>(&mut schemas);
    add::<RejectBody>(&mut schemas);
    add::<ReleaseRequest>(&mut schemas);
    add::<LookupRequest>(&mut schemas);
    add::<MeterStatement>(&mut schemas);
    add::<NewParty>(&mut schemas);
    add::<MpidChange>(&mut schemas);
    add::<KeyOfferBody>(&mut schemas);
    add::<Problem>(&mut schemas);
    schemas
        .into_iter()
        .map(|(name, schema)| (name, json!(schema)))
}

type Named = (String, utoipa::openapi::RefOr<utoipa::openapi::Schema>);

fn add<T: ToSchema>(schemas: &mut Vec<Named>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// Lets a property that is described as text or anything at all refer to the schema of what it is.
fn refer(property: &mut Value, schema: &str) {
    let description = property["description"].take();
    let may_be_null = property["type"]
        .as_array()
        .is_some_and(|types| types.contains(&json!("null")));
    *property = match may_be_null {
        true => json!({ "oneOf": [reference(schema), { "type": "null" }] }),
        false => reference(schema),
    };
    property["description"] = description;
}

/// Every code, with its status and its sentence.
fn codes() -> Value {
    let lines: Vec<_> = Code::ALL
        .iter()
        .map(|code| {
            let status = problem::status(*code).as_u16();
            format!("- `{code}` ({status}): {}", code.title())
        })
        .collect();
    json!({
        "type": "string",
        "description": format!("Why something was refused: stable, one cause each.\n\n{}", lines.join("\n")),
        "enum": Code::ALL,
    })
}

fn states() -> Value {
    json!({ "type": "string", "description": "Where a handover stands.", "enum": State::ALL })
}

/// A statement about a meter with the supply point beside it.
fn meter_line(statement: &Value) -> Value {
    let mut line = statement.clone();
    line["description"] =
        json!("A statement about a meter, and the supply point that it is about.");
    line["properties"]["supply_point"] = reference("SupplyPoint");
    if let Some(required) = line["required"].as_array_mut() {
        required.push(json!("supply_point"));
    }
    line
}

const ANSWERS: &str = include_str!("schemas.json");
/// Schema and field, and what the field is: derived schemas say no more than that it is text, or JSON.
const REFERENCES: &[(&str, &str, &str)] = &[
    ("DepositBody", "package", "Package"),
    ("DepositBody", "read", "ClosingRead"),
    ("DepositBody", "attestation", "SignedDocument"),
    ("KeyOfferBody", "statement", "SignedDocument"),
    ("LookupRequest", "supply_point", "SupplyPoint"),
    ("MeterStatement", "serial", "MeterSerial"),
    ("MeterStatement", "installed", "Date"),
    ("MeterStatement", "effective_from", "Date"),
    ("MpidChange", "mpid", "Mpid"),
    ("MpidChange", "role", "Role"),
    ("MpidChange", "at", "Timestamp"),
    ("NewParty", "id", "PartyId"),
    ("Problem", "code", "Code"),
    ("ReleaseRequest", "meter_serial", "MeterSerial"),
    ("ReleaseRequest", "key_id", "KeyId"),
    ("ReleaseRequest", "component", "Component"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;

    use super::*;
    use crate::handover::GenerationStatus;
    use crate::service::{EntryView, HandoverView, KeyView, Receipt};
    use crate::store::{Handover, ReadState};
    use crate::types::{Digest, HandoverId, KeyId, Timestamp};

    /// What is written has exactly the fields that are described.
    fn describes(name: &str, written: &impl Serialize) {
        let written = json!(written);
        let schemas = all();
        let keys = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&schemas[name]["properties"]), keys(&written), "{name}");
    }

    fn receipt() -> Receipt {
        Receipt {
            index: 0,
            leaf: Vec::new(),
            disclosures: Vec::new(),
            proof: String::new(),
        }
    }

    #[test]
    fn answers_have_the_fields_that_are_described() {
        describes("Receipt", &receipt());
        let handover = Handover {
            id: HandoverId([0; 16]),
            supply_point: "2499999999991".parse().unwrap(),
            registration_id: "R1".parse().unwrap(),
            supply_start_date: "2025-03-30".parse().unwrap(),
            effective_at: Timestamp::default(),
            losing_party: None,
            losing_mpid: None,
            losing_registration: None,
            gaining_party: None,
            gaining_mpid: "GAIN".parse().unwrap(),
            state: State::Expected,
            version: 1,
            opened_at: Timestamp::default(),
            deposited_at: None,
            released_at: None,
            confirmed_at: None,
            outcome: None,
            confirmed_generation: None,
            confirmed_entry: None,
            rejected_entry: None,
            erased_after: None,
            read: ReadState::Open,
            read_entry: None,
            erroneous_return: false,
        };
        let handover = HandoverView::from(handover);
        describes("Counterparty", &handover.losing);
        describes("Handover", &handover);
        let key = KeyView {
            key_id: KeyId(Digest([0; 32])),
            kem: 0x647a,
            public_key: String::new(),
            active: true,
            active_at: Timestamp::default(),
            not_after: Timestamp::default(),
            retired_at: None,
            statement: None,
            receipt: receipt(),
        };
        describes("SealingKey", &key);
        let entry = EntryView {
            index: 0,
            leaf_hash: String::new(),
            kind: String::new(),
            at: String::new(),
            leaf: Value::Null,
            disclosed: Some(Value::Null),
            disclosures: Some(Vec::new()),
        };
        describes("Entry", &entry);
    }

    #[test]
    fn only_fields_that_are_there_are_referred_to() {
        let derived: Map<String, Value> = derived().collect();
        for (schema, field, _) in REFERENCES {
            let field = &derived[*schema]["properties"][*field];
            assert!(field.is_object(), "{schema} {field}");
        }
    }

    #[test]
    fn enumerations_list_the_words_that_are_used() {
        let generations = [
            GenerationStatus::Prepared,
            GenerationStatus::Current,
            GenerationStatus::Retired,
            GenerationStatus::Erased,
        ];
        assert_eq!(all()["GenerationStatus"]["enum"], json!(generations));
        for (state, described) in [
            (ReadState::Open, 0),
            (
                ReadState::Accepted {
                    commitment: Digest([0; 32]),
                },
                1,
            ),
            (
                ReadState::Disputed {
                    commitment: Digest([0; 32]),
                },
                2,
            ),
        ] {
            let described = &all()["ReadState"]["oneOf"][described]["properties"]["state"];
            assert_eq!(described["const"], json!(state)["state"]);
        }
    }
}
