//! One operation of the API, put together piece by piece and written as OpenAPI.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use crate::http::problem;
use crate::identity::Kind;
use crate::types::Code;

/// One operation.
pub(super) struct Operation {
    method: &'static str,
    path: &'static str,
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    callers: Callers,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
    codes: Vec<Code>,
}

/// Whose requests an operation answers.
#[derive(Clone, Copy)]
enum Callers {
    /// Every identity with a certificate.
    Everybody,
    /// Identities of these kinds.
    Kinds(&'static [Kind]),
    /// Whoever is on the machine: the loopback listener asks for no certificate.
    Machine,
}

impl Operation {
    /// An operation that every identity may call; its path's parameters follow from the path.
    pub(super) fn new(
        (method, path): (&'static str, &'static str),
        tag: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            tag,
            id,
            summary,
            callers: Callers::Everybody,
            parameters: path_parameters(path),
            body: None,
            answers: Map::new(),
            codes: CERTIFICATE.to_vec(),
        }
    }

    /// Only these kinds of identities may call it.
    pub(super) fn for_kinds(mut self, kinds: &'static [Kind]) -> Self {
        self.callers = Callers::Kinds(kinds);
        self.refuses(&[Code::WrongRole])
    }

    /// It is on the loopback listener.
    pub(super) fn on_loopback(mut self) -> Self {
        self.callers = Callers::Machine;
        self.codes.clear();
        self
    }

    /// Its query string.
    pub(super) fn query<P: IntoParams>(mut self) -> Self {
        let parameters = P::into_params(|| Some(ParameterIn::Query));
        self.parameters
            .extend(parameters.iter().map(|p| query_parameter(json!(p))));
        self.refuses(&[Code::MalformedRequest])
    }

    /// It needs an idempotency key.
    pub(super) fn idempotent(mut self) -> Self {
        self.parameters.push(idempotency_key(true));
        self.refuses(&[Code::IdempotencyKeyMissing, Code::IdempotencyKeyReused])
    }

    /// It takes an idempotency key.
    pub(super) fn maybe_idempotent(mut self) -> Self {
        self.parameters.push(idempotency_key(false));
        self.refuses(&[Code::IdempotencyKeyReused])
    }

    /// It takes a JSON document.
    pub(super) fn takes(self, schema: &str) -> Self {
        let content = json!({ "application/json": { "schema": reference(schema) } });
        self.takes_content(&content)
            .refuses(&[Code::MalformedRequest])
    }

    /// It takes a stream of JSON documents, one a line.
    pub(super) fn takes_lines(self, schema: &str) -> Self {
        self.takes_content(&lines(schema))
    }

    /// It takes a body of these content types.
    pub(super) fn takes_content(mut self, content: &Value) -> Self {
        self.body = Some(json!({ "required": true, "content": content }));
        self
    }

    /// It answers with a JSON document.
    pub(super) fn answers(self, status: u16, schema: &str, description: &str) -> Self {
        let content = json!({ "application/json": { "schema": reference(schema) } });
        self.answers_content(status, &content, description)
    }

    /// It answers each line with a line: a JSON document, or one of these codes.
    pub(super) fn answers_lines(self, schema: &str, codes: &[&[Code]]) -> Self {
        let description = "One answer a line, in order; a refused line has a `code`.";
        let mut operation = self.answers_content(200, &lines(schema), description);
        operation.answers["200"]["x-line-codes"] = json!(codes.concat());
        operation
    }

    /// It answers with a body of these content types.
    pub(super) fn answers_content(
        mut self,
        status: u16,
        content: &Value,
        description: &str,
    ) -> Self {
        let answer = json!({ "description": description, "headers": {}, "content": content });
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// Its answers carry this header.
    pub(super) fn with_header(mut self, name: &str, component: &str) -> Self {
        for (_, answer) in &mut self.answers {
            answer["headers"][name] = header(component);
        }
        self
    }

    /// It may be refused with these codes.
    pub(super) fn refuses(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// The path, as OpenAPI writes it: a parameter for the rest of a path is like any other.
    pub(super) fn path(&self) -> String {
        self.path.replace("{*", "{")
    }

    /// The method, in lower case.
    pub(super) fn method(&self) -> &'static str {
        self.method
    }

    /// The operation in OpenAPI.
    pub(super) fn into_value(mut self) -> Value {
        let (security, description) = match self.callers {
            Callers::Everybody => (None, "For every identity.".to_owned()),
            Callers::Machine => (Some(json!([])), "On the loopback listener.".to_owned()),
            Callers::Kinds(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
                (
                    None,
                    format!("For identities of kind {}.", kinds.join(", ")),
                )
            }
        };
        let on_loopback = security.is_some();
        if !on_loopback {
            for (_, answer) in &mut self.answers {
                answer["headers"]["x-request-id"] = header("RequestId");
            }
        }
        let mut value = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": description,
        });
        if !self.parameters.is_empty() {
            value["parameters"] = json!(self.parameters);
        }
        if let Some(body) = self.body {
            value["requestBody"] = body;
        }
        if on_loopback {
            value["security"] = json!([]);
            value["servers"] = json!([{ "url": "http://127.0.0.1:{port}", "variables": { "port": { "default": "8444" } } }]);
        }
        self.answers.extend(refusals(&self.codes));
        value["responses"] = Value::Object(self.answers);
        value
    }
}

/// The refusals with these codes, by HTTP status.
fn refusals(codes: &[Code]) -> impl Iterator<Item = (String, Value)> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        let same = by_status.entry(problem::status(*code).as_u16());
        let same = same.or_default();
        if !same.contains(code) {
            same.push(*code);
        }
    }
    by_status.into_iter().map(|(status, mut codes)| {
        codes.sort_unstable();
        let words: Vec<_> = codes
            .iter()
            .map(|code| format!("`{code}`: {}", code.title()))
            .collect();
        let mut headers = json!({ "x-request-id": header("RequestId") });
        if matches!(status, 429 | 503) {
            headers["retry-after"] = header("RetryAfter");
        }
        let refusal = json!({
            "description": words.join("; "),
            "headers": headers,
            "content": { "application/problem+json": { "schema": reference("Problem") } },
            "x-codes": codes,
        });
        (status.to_string(), refusal)
    })
}

fn path_parameters(path: &str) -> Vec<Value> {
    let pieces = path.split('/').filter_map(|piece| {
        let name = piece.strip_prefix('{')?.strip_suffix('}')?;
        let (name, schema, description) = match name {
            "mpxn" => (name, reference("SupplyPoint"), "MPAN core or MPRN."),
            "index" => (name, json!({ "type": "integer", "minimum": 0 }), "Index of the entry."),
            "*path" => (
                "path",
                json!({ "type": "string", "examples": ["0/000", "entries/x001/234.p/17"] }),
                "Path of the tile as tlog-tiles has it; its slashes stay as they are.",
            ),
            _ if path.starts_with("/v1/parties") => (name, reference("PartyId"), "Id of the party."),
            _ => (name, reference("HandoverId"), "Id of the handover."),
        };
        Some(json!({
            "name": name, "in": "path", "required": true, "description": description, "schema": schema,
        }))
    });
    pieces.collect()
}

/// A query parameter with the schema of what it is: it may be absent, but never null.
fn query_parameter(mut parameter: Value) -> Value {
    let kinds = parameter["schema"]["type"].take();
    let kind = match kinds.as_array() {
        Some(kinds) => kinds.first().cloned().unwrap_or_default(),
        None => kinds,
    };
    let name = parameter["name"].as_str().unwrap_or_default();
    let known = QUERIED.iter().find(|(known, _)| *known == name);
    match known {
        Some((_, schema)) if kind == "string" => parameter["schema"] = reference(schema),
        _ => parameter["schema"]["type"] = kind,
    }
    parameter
}

fn idempotency_key(required: bool) -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": required,
        "description": "Chosen by the client, one for each request that it means, the same for each repetition.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" },
    })
}

fn lines(schema: &str) -> Value {
    let description = "JSON documents, one a line; `x-line` describes each.";
    json!({
        "application/x-ndjson": {
            "schema": { "type": "string", "description": description, "x-line": reference(schema) },
        },
    })
}

fn header(component: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{component}") })
}

pub(super) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Query parameters that are text of a known form.
const QUERIED: [(&str, &str); 6] = [
    ("role", "Side"),
    ("state", "HandoverState"),
    ("supply_point", "SupplyPoint"),
    ("code", "Code"),
    ("from", "Timestamp"),
    ("until", "Timestamp"),
];
/// How every request with a certificate may be refused.
const CERTIFICATE: [Code; 6] = [
    Code::CertificateInvalid,
    Code::CertificateExpired,
    Code::CertificateRevoked,
    Code::RevocationUnknown,
    Code::TooManyAtOnce,
    Code::Unavailable,
];
