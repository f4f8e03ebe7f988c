//! `/v1/parties`: operators keep the directory, parties publish their sealing keys.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Doors;
use super::caller::Authenticated;
use super::document::{Asked, Document, Named, idempotency, parse, parse_id};
use super::handovers::{answered, created};
use super::problem::Refusal;
use crate::envelope::SignedDocument;
use crate::service::{Failure, KeyOffer, MpidChange, Offered, Repeat};
use crate::store::PartyStatus;
use crate::types::{Code, PartyId};

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/v1/parties", get(list).post(add))
        .route("/v1/parties/{id}/suspend", post(suspend))
        .route("/v1/parties/{id}/resume", post(resume))
        .route("/v1/parties/{id}/mpids", post(add_mpid))
        .route("/v1/parties/{id}/mpids/end", post(end_mpid))
        .route("/v1/parties/me/sealing-keys", put(offer_key))
        .route("/v1/parties/me/sealing-keys/retire", post(retire_key))
        .route("/v1/parties/{id}/sealing-keys", get(sealing_keys))
}

/// Which stretch of a listing.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PartyPage {
    /// The `next` of the page before.
    after: Option<String>,
    /// At most this many, up to 1,000; 100 if not given.
    limit: Option<usize>,
}

async fn list(
    State(doors): State<Doors>,
    caller: Authenticated,
    Asked(page): Asked<PartyPage>,
) -> Result<Json<Value>, Refusal> {
    let page = caller.does(|caller| async move {
        let after: Option<PartyId> = page.after.as_deref().map(parse_id).transpose()?;
        let limit = page.limit.unwrap_or(100).clamp(1, 1_000);
        let parties = doors.escrow.parties(&caller, after.as_ref(), limit).await?;
        let next = (parties.len() == limit)
            .then(|| parties.last().map(|party| party["id"].clone()))
            .flatten();
        Ok(json!({ "parties": parties, "next": next }))
    });
    page.await.map(Json)
}

async fn add(
    State(doors): State<Doors>,
    caller: Authenticated,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Response, Refusal> {
    let added = caller.does(|caller| async move {
        let key = idempotency(&headers, "party", &[&body], Repeat::Answer)?;
        doors.escrow.add_party(caller, key, parse(&body)?).await
    });
    added.await.map(created)
}

async fn suspend(
    state: State<Doors>,
    caller: Authenticated,
    name: Named,
) -> Result<Json<Value>, Refusal> {
    set_status(state, caller, name, PartyStatus::Suspended).await
}

async fn resume(
    state: State<Doors>,
    caller: Authenticated,
    name: Named,
) -> Result<Json<Value>, Refusal> {
    set_status(state, caller, name, PartyStatus::Live).await
}

async fn set_status(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
    status: PartyStatus,
) -> Result<Json<Value>, Refusal> {
    let set = caller.does(|caller| async move {
        let party = parse_id(&id)?;
        doors.escrow.set_party_status(caller, party, status).await
    });
    set.await.map(answered)
}

async fn add_mpid(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
    Document(body): Document,
) -> Result<Json<Value>, Refusal> {
    let changed = caller.does(|caller| async move {
        let change: MpidChange = parse(&body)?;
        doors.escrow.add_mpid(caller, parse_id(&id)?, change).await
    });
    changed.await.map(answered)
}

async fn end_mpid(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
    Document(body): Document,
) -> Result<Json<Value>, Refusal> {
    let changed = caller.does(|caller| async move {
        let change: MpidChange = parse(&body)?;
        doors.escrow.end_mpid(caller, parse_id(&id)?, change).await
    });
    changed.await.map(answered)
}

/// A key with proof of possession, or without it to be challenged.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyOfferBody {
    /// The signed key statement.
    #[schema(value_type = Object)]
    statement: Value,
    /// The token that came with the challenge.
    token: Option<String>,
    /// What the challenge sealed, in base64url.
    possession: Option<String>,
}

async fn offer_key(
    State(doors): State<Doors>,
    caller: Authenticated,
    Document(body): Document,
) -> Result<Response, Refusal> {
    let offered = caller.does(|caller| async move {
        let body: KeyOfferBody = parse(&body)?;
        let offer = KeyOffer {
            statement: document(&body.statement)?,
            token: body.token,
            possession: body.possession,
        };
        doors.escrow.offer_key(caller, offer).await
    });
    Ok(match offered.await? {
        Offered::Challenged { challenge, token } => {
            let challenge = Json(json!({ "challenge": challenge, "token": token }));
            (StatusCode::ACCEPTED, challenge).into_response()
        }
        Offered::Published(answer) => answered(answer).into_response(),
    })
}

async fn retire_key(
    State(doors): State<Doors>,
    caller: Authenticated,
    Document(body): Document,
) -> Result<Json<Value>, Refusal> {
    let retired = caller.does(|caller| async move {
        let document = document(&parse(&body)?)?;
        doors.escrow.retire_key(caller, document).await
    });
    retired.await.map(answered)
}

fn document(value: &Value) -> Result<SignedDocument, Failure> {
    SignedDocument::from_json(value.to_string().as_bytes())
        .map_err(|error| Failure::because(Code::StatementInvalid, error.to_string()))
}

async fn sealing_keys(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
) -> Result<Json<Value>, Refusal> {
    let keys = caller.does(|_| async move { doors.escrow.sealing_keys(&id).await });
    keys.await.map(|keys| Json(json!({ "keys": keys })))
}
