//! `/v1/supply-points`: look-ups, what a supplier says of its meter, and getting one's own keys back.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{Json, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::Value;

use super::Doors;
use super::caller::Authenticated;
use super::document::{Asked, Document, Named, parse, parse_supply_point, required_idempotency};
use super::handovers::{answered, released};
use super::ndjson::{self, Desk};
use super::problem::Refusal;
use crate::identity::Kind;
use crate::service::{LookupRequest, MeterStatement, ReleaseRequest, Repeat};

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/v1/supply-points/{mpxn}", get(look_up))
        .route("/v1/supply-points:lookup", post(look_up_many))
        .route("/v1/supply-points/{mpxn}/meter", put(put_meter))
        .route("/v1/supply-points/{mpxn}/release", post(recover))
        .route("/v1/meters", post(put_meters))
}

/// Why the caller asks.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Purpose {
    /// Needed where the caller neither supplies the point nor is about to.
    purpose: Option<String>,
}

async fn look_up(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(mpxn): Named,
    Asked(asked): Asked<Purpose>,
) -> Result<Json<Value>, Refusal> {
    let looked_up = caller.does(|caller| async move {
        let request = LookupRequest {
            supply_point: parse_supply_point(&mpxn)?,
            purpose: asked.purpose,
        };
        doors.escrow.look_up(caller, request).await
    });
    looked_up.await.map(answered)
}

/// A question as a line has it: its supply point may have a wrong digit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LookupLine {
    supply_point: String,
    purpose: Option<String>,
}

/// One question a line, one answer a line, in order.
async fn look_up_many(
    State(doors): State<Doors>,
    caller: Authenticated,
    body: Body,
) -> Result<Response, Refusal> {
    let party = caller.0.require(Kind::Party);
    party.map_err(|failure| caller.refuse(failure))?;
    let desk = caller.at(&doors);
    Ok(ndjson::answer(body, desk, |desk: Desk, line| async move {
        let line: LookupLine = parse(&line)?;
        let request = LookupRequest {
            supply_point: parse_supply_point(&line.supply_point)?,
            purpose: line.purpose,
        };
        let answer = desk.escrow.look_up(desk.caller, request).await?;
        Ok(answered(answer).0)
    }))
}

async fn put_meter(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(mpxn): Named,
    Document(body): Document,
) -> Result<Json<Value>, Refusal> {
    let stated = caller.does(|caller| async move {
        let supply_point = parse_supply_point(&mpxn)?;
        let statement: MeterStatement = parse(&body)?;
        doors
            .escrow
            .put_meter(caller, supply_point, statement)
            .await
    });
    stated.await.map(answered)
}

/// A meter statement with the supply point that it is about.
#[derive(Deserialize)]
struct MeterLine {
    /// About which supply point.
    supply_point: String,
    #[serde(flatten)]
    statement: serde_json::Map<String, Value>,
}

/// One statement a line, one answer a line, in order.
async fn put_meters(
    State(doors): State<Doors>,
    caller: Authenticated,
    body: Body,
) -> Result<Response, Refusal> {
    let party = caller.0.require(Kind::Party);
    party.map_err(|failure| caller.refuse(failure))?;
    let desk = caller.at(&doors);
    Ok(ndjson::answer(body, desk, |desk: Desk, line| async move {
        let line: MeterLine = parse(&line)?;
        let supply_point = parse_supply_point(&line.supply_point)?;
        let statement = Value::Object(line.statement).to_string();
        let answer = desk
            .escrow
            .put_meter(desk.caller, supply_point, parse(statement.as_bytes())?)
            .await?;
        Ok(answered(answer).0)
    }))
}

async fn recover(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(mpxn): Named,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Json<Value>, Refusal> {
    let handed_out = caller.does(|caller| async move {
        let supply_point = parse_supply_point(&mpxn)?;
        let content: [&[u8]; 2] = [mpxn.as_bytes(), &body];
        let key = required_idempotency(&headers, "recover", &content, Repeat::Decide)?;
        let request: ReleaseRequest = parse(&body)?;
        doors
            .escrow
            .recover(caller, key, supply_point, request)
            .await
    });
    handed_out.await.map(released)
}
