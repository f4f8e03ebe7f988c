//! The API's description, served at `/openapi.json`.

use axum::Router;
use axum::response::Json;
use axum::routing::get;
use serde_json::{Value, json};

use super::Doors;

pub(super) fn router() -> Router<Doors> {
    Router::new().route("/openapi.json", get(|| async { Json(document()) }))
}

/// The document: OpenAPI 3.1.
pub fn document() -> Value {
    json!({ "openapi": "3.1.0", "info": { "title": "cos-escrow", "version": env!("CARGO_PKG_VERSION") }, "paths": {} })
}
