//! The log; health, metrics and this document.

use serde_json::{Value, json};

use super::OPERATING;
use crate::http::log::Sizes;
use crate::http::openapi::operation::Operation;
use crate::identity::Kind;
use crate::service::LogQuery;
use crate::types::Code;

pub(super) fn log() -> Vec<Operation> {
    let new = |route, id, summary| Operation::new(route, "log", id, summary);
    let auditors = |route, id, summary| new(route, id, summary).for_kinds(&[Kind::Auditor]);
    let note = "A signed note with a checkpoint (C2SP tlog-checkpoint).";
    vec![
        new(
            ("get", "/v1/log/checkpoint"),
            "checkpoint",
            "The newest signed checkpoint",
        )
        .answers_content(200, &text(), note)
        .with_header("cache-control", "CacheControl")
        .refuses(&[Code::Fenced]),
        new(
            ("get", "/v1/log/consistency"),
            "consistency",
            "Proof that a larger log continues a smaller one",
        )
        .query::<Sizes>()
        .answers(
            200,
            "Consistency",
            "A consistency proof (RFC 6962 section 2.1.2).",
        ),
        auditors(
            ("get", "/v1/log/entries"),
            "search_log",
            "Entries that match, newest first; the search is an entry itself",
        )
        .query::<LogQuery>()
        .answers(200, "EntryPage", "A page of entries, with what they hide.")
        .refuses(OPERATING),
        auditors(
            ("get", "/v1/log/entries/{index}"),
            "show_entry",
            "One entry with what it hides; opening it is an entry itself",
        )
        .answers(200, "Entry", "The entry.")
        .refuses(OPERATING)
        .refuses(&[Code::NotFound]),
        new(
            ("get", "/log/checkpoint"),
            "tlog_checkpoint",
            "The checkpoint, as tlog-tiles has it",
        )
        .answers_content(200, &text(), note)
        .with_header("cache-control", "CacheControl")
        .refuses(&[Code::Fenced]),
        new(
            ("get", "/log/tile/{*path}"),
            "tlog_tile",
            "A tile or entry bundle, as tlog-tiles has it",
        )
        .for_kinds(&[Kind::Auditor, Kind::Witness])
        .answers_content(200, &json!({ "application/octet-stream": {} }), "The tile.")
        .with_header("cache-control", "CacheControl")
        .refuses(&[Code::MalformedRequest, Code::NotFound]),
    ]
}

pub(super) fn service() -> Vec<Operation> {
    let new = |route, id, summary| Operation::new(route, "service", id, summary);
    let admin = |route, id, summary| new(route, id, summary).on_loopback();
    vec![
        new(("get", "/openapi.json"), "openapi", "This document").answers_content(
            200,
            &json!({ "application/json": { "schema": { "type": "object" } } }),
            "OpenAPI 3.1.",
        ),
        admin(("get", "/livez"), "livez", "Whether the process answers").answers_content(
            200,
            &text(),
            "It does.",
        ),
        admin(
            ("get", "/readyz"),
            "readyz",
            "Whether requests would be served; `?verbose` says why not",
        )
        .answers_content(200, &text(), "They would.")
        .answers_content(503, &text(), "They would not."),
        admin(("get", "/metrics"), "metrics", "Metrics, for Prometheus").answers_content(
            200,
            &text(),
            "Metrics in the text format.",
        ),
    ]
}

fn text() -> Value {
    json!({ "text/plain": { "schema": { "type": "string" } } })
}
