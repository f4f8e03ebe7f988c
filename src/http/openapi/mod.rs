//! The API's description in OpenAPI 3.1, served at `/openapi.json`.
//!
//! What is asked is described by the types that read it; what is answered, by `schemas.json`; the refusals of each
//! operation, by their codes. `tests/it/openapi.rs` compares the document with the routes and with a snapshot.

mod operation;
mod operations;
mod schemas;

use axum::Router;
use axum::response::Json;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::Doors;

pub(super) fn router() -> Router<Doors> {
    Router::new().route("/openapi.json", get(|| async { Json(document()) }))
}

/// The document: OpenAPI 3.1.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cos-escrow",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Key and credential escrow for smart meters on Change of Supplier",
            "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{
            "url": "https://{host}:{port}",
            "description": "The service, over mutual TLS 1.3.",
            "variables": { "host": { "default": "localhost" }, "port": { "default": "8443" } },
        }],
        "security": [{ "client_certificate": [] }],
        "tags": tags(),
        "paths": paths(),
        "components": {
            "schemas": schemas::all(),
            "headers": headers(),
            "securitySchemes": {
                "client_certificate": {
                    "type": "mutualTLS",
                    "description": "A client leaf with one URI name, `urn:cos-escrow:<kind>:<id>`. The kind decides \
                                    which operations are open; each names it.",
                },
            },
        },
    })
}

/// Operations by path, then by method, in the order of `operations::all`.
fn paths() -> Map<String, Value> {
    let mut paths = Map::new();
    for operation in operations::all() {
        let path = paths.entry(operation.path()).or_insert_with(|| json!({}));
        let method = operation.method();
        path[method] = operation.into_value();
    }
    paths
}

fn tags() -> Value {
    json!([
        { "name": "handovers", "description": "Deposit, release, confirm: one change of supplier at a time." },
        { "name": "supply points", "description": "Look-ups, statements about meters, and one's own keys." },
        { "name": "registrations", "description": "The registration feed." },
        { "name": "parties", "description": "Who takes part, with which identifiers and sealing keys." },
        { "name": "log", "description": "The tamper-evident log." },
        { "name": "service", "description": "This document; health and metrics, on a loopback listener." },
    ])
}

fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "The request's id, as in the service's log line, the problem document and the entry.",
            "schema": { "type": "string", "format": "uuid" },
        },
        "ETag": {
            "description": "The version of the handover, in quotes; it grows with every change.",
            "schema": { "type": "string" },
            "example": "\"3\"",
        },
        "RetryAfter": {
            "description": "Seconds after which asking again makes sense.",
            "schema": { "type": "integer" },
        },
        "CacheControl": {
            "description": "`no-store` for releases and checkpoints; tiles never change and may be kept for ever.",
            "schema": { "type": "string" },
        },
    })
}

const DESCRIPTION: &str = "The losing supplier deposits a sealed package; the registered gaining supplier, and \
nobody else, gets it; every release is an entry of a tamper-evident log before a byte leaves the service.\n\n\
JSON, `snake_case`, instants in RFC 3339 with `Z`, ids with a prefix. Listings go on at `next`, which is passed back as \
`after` or `before`. Refusals are problem documents (RFC 9457) with a stable `code`. A repeated `Idempotency-Key` with \
the same request gets the answer given before; a release is decided again, and then has the same bytes. Who has no part \
in a handover gets `not_found`, whatever the reason. Streams of records (`application/x-ndjson`) are answered line by \
line, in order; one bad record never sinks the others. A body is at most 1 MiB, a record of a stream 512 KiB.";
