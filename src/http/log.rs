//! `/v1/log` for every party and for auditors, `/log` as tlog-tiles for auditors and witnesses.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Doors;
use super::caller::Authenticated;
use super::document::{Asked, Named, parse_id};
use super::problem::Refusal;
use crate::service::{Failure, LogQuery};
use crate::tlog::TilePath;
use crate::types::Code;

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/v1/log/checkpoint", get(checkpoint))
        .route("/v1/log/consistency", get(consistency))
        .route("/v1/log/entries", get(search))
        .route("/v1/log/entries/{index}", get(show))
        .route("/log/checkpoint", get(cosigned_checkpoint))
        .route("/log/tile/{*path}", get(tile))
}

async fn checkpoint(State(doors): State<Doors>, caller: Authenticated) -> Result<String, Refusal> {
    let checkpoint = doors.escrow.checkpoint();
    checkpoint.map_err(|failure| caller.refuse(failure))
}

/// The checkpoint that tiles are read by: the newest that the quorum of witnesses has cosigned, where there is one.
async fn cosigned_checkpoint(
    State(doors): State<Doors>,
    caller: Authenticated,
) -> Result<String, Refusal> {
    let checkpoint = doors.escrow.cosigned_checkpoint();
    checkpoint.map_err(|failure| caller.refuse(failure))
}

/// Between which two sizes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    /// The smaller log.
    from: u64,
    /// The larger log.
    to: u64,
}

async fn consistency(
    State(doors): State<Doors>,
    caller: Authenticated,
    Asked(sizes): Asked<Sizes>,
) -> Result<Json<Value>, Refusal> {
    let hashes = doors
        .escrow
        .consistency(sizes.from, sizes.to)
        .await
        .map_err(|failure| caller.refuse(failure))?;
    Ok(Json(
        json!({ "from": sizes.from, "to": sizes.to, "hashes": hashes }),
    ))
}

async fn search(
    State(doors): State<Doors>,
    caller: Authenticated,
    Asked(query): Asked<LogQuery>,
) -> Result<Json<Value>, Refusal> {
    let (entries, next) = doors
        .escrow
        .search_log(caller.0.clone(), query)
        .await
        .map_err(|failure| caller.refuse(failure))?;
    Ok(Json(json!({ "entries": entries, "next": next })))
}

async fn show(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(index): Named,
) -> Result<Json<Value>, Refusal> {
    let done = async {
        let index = parse_id(&index)?;
        doors.escrow.show_entry(caller.0.clone(), index).await
    };
    let entry = done.await.map_err(|failure| caller.refuse(failure))?;
    Ok(Json(json!(entry)))
}

async fn tile(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(path): Named,
) -> Result<Response, Refusal> {
    let done = async {
        let path: TilePath = format!("tile/{path}")
            .parse()
            .map_err(|_| Failure::because(Code::MalformedRequest, "not the path of a tile"))?;
        doors.escrow.tile(&caller.0, &path).await
    };
    let bytes = done.await.map_err(|failure| caller.refuse(failure))?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, max-age=31536000, immutable"),
        ),
    ];
    Ok((headers, bytes).into_response())
}
