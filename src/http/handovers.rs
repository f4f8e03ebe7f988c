//! `/v1/handovers`, `/v1/deposits`: deposit, release, confirm, reject, dispute, accept, work lists.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Doors;
use super::caller::Authenticated;
use super::document::{Asked, Document, Named, idempotency, parse, parse_id, required_idempotency};
use super::problem::Refusal;
use crate::envelope::SignedDocument;
use crate::service::{
    Answer, Caller, DepositRequest, Escrow, Failure, HandoverQuery, Idempotency, ReleaseRequest,
    Released, Repeat, Seal,
};
use crate::types::{Code, HandoverId, Secret};

pub(super) fn router() -> Router<Doors> {
    Router::new()
        .route("/v1/handovers", get(list))
        .route("/v1/handovers/{id}", get(show))
        .route("/v1/handovers/{id}/deposit", post(deposit))
        .route("/v1/handovers/{id}/release", post(release))
        .route("/v1/handovers/{id}/confirm", post(confirm))
        .route("/v1/handovers/{id}/reject", post(reject))
        .route("/v1/handovers/{id}/accept-read", post(accept_read))
        .route("/v1/handovers/{id}/dispute", post(dispute))
        .route("/v1/deposits", post(standing_deposit))
}

/// What is deposited: sealed by the depositor, or in clear to be sealed by the service.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DepositBody<'a> {
    /// Who seals.
    seal: Sealer,
    /// With `client`: envelopes, one per component, in base64.
    #[serde(default)]
    envelopes: Vec<String>,
    /// With `server`: the package, as `cos-escrow/package/1`.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    package: Option<&'a RawValue>,
    /// With `server`: the closing read, as `cos-escrow/read/1`.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    read: Option<&'a RawValue>,
    /// With `server`: the depositor's signed attestation of package and read.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    attestation: Option<&'a RawValue>,
}

/// Who seals a package.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sealer {
    /// The depositor.
    Client,
    /// The service.
    Server,
}

/// The release with its receipt.
pub(super) fn released(released: Released) -> Json<Value> {
    let mut body = released.body;
    body["release"] = json!(BASE64_STANDARD.encode(&released.release));
    body["receipt"] = json!(released.receipt);
    Json(body)
}

/// A use case's answer with its receipt, where it made an entry.
pub(super) fn answered(answer: Answer) -> Json<Value> {
    let mut body = answer.body;
    if let (Some(receipt), Value::Object(fields)) = (answer.receipt, &mut body) {
        fields.insert("receipt".to_owned(), json!(receipt));
    }
    Json(body)
}

fn seal(body: &[u8]) -> Result<Seal, Failure> {
    let malformed = |what: &str| Failure::because(Code::MalformedRequest, what);
    let body: DepositBody<'_> = parse(body)?;
    match (body.seal, body.package) {
        (Sealer::Client, None) if body.read.is_none() && body.attestation.is_none() => body
            .envelopes
            .iter()
            .map(|text| BASE64_STANDARD.decode(text))
            .collect::<Result<_, _>>()
            .map(Seal::Client)
            .map_err(|_| malformed("an envelope is not base64")),
        (Sealer::Server, Some(package)) if body.envelopes.is_empty() => {
            let attestation = body
                .attestation
                .map(|document| SignedDocument::from_json(document.get().as_bytes()))
                .transpose()
                .map_err(|_| malformed("the attestation is not a signed document"))?;
            let secret = |json: &RawValue| Secret::new(json.get().as_bytes().to_vec());
            Ok(Seal::Server {
                package: secret(package),
                read: body.read.map(secret),
                attestation: attestation.map(Box::new),
            })
        }
        _ => Err(malformed(
            "`client` goes with `envelopes`; `server` with `package`, `read` and `attestation`",
        )),
    }
}

/// A request about one handover.
struct OfHandover {
    doors: Doors,
    caller: Authenticated,
    id: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The same with its key, which makes it one request however often it is sent.
struct Keyed {
    escrow: Escrow,
    caller: Caller,
    handover: HandoverId,
    key: Idempotency,
    body: Bytes,
}

impl FromRequest<Doors> for OfHandover {
    type Rejection = Refusal;

    async fn from_request(request: Request, doors: &Doors) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let caller = Authenticated::from_request_parts(&mut parts, doors).await?;
        let Named(id) = Named::from_request_parts(&mut parts, doors).await?;
        let headers = parts.headers.clone();
        let request = Request::from_parts(parts, body);
        let Document(body) = Document::from_request(request, doors).await?;
        Ok(Self {
            doors: doors.clone(),
            caller,
            id,
            headers,
            body,
        })
    }
}

impl OfHandover {
    /// Does what is asked, once id and key are read.
    async fn does<T, F>(
        self,
        kind: &str,
        repeat: Repeat,
        act: impl FnOnce(Keyed) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let Self {
            doors,
            caller,
            id,
            headers,
            body,
        } = self;
        caller
            .does(|caller| async move {
                let handover = parse_id(&id)?;
                let content: [&[u8]; 2] = [id.as_bytes(), &body];
                let key = required_idempotency(&headers, kind, &content, repeat)?;
                act(Keyed {
                    escrow: doors.escrow,
                    caller,
                    handover,
                    key,
                    body,
                })
                .await
            })
            .await
    }
}

/// The answer of a use case that made something.
pub(super) fn created(answer: Answer) -> Response {
    (StatusCode::CREATED, answered(answer)).into_response()
}

async fn deposit(request: OfHandover) -> Result<Response, Refusal> {
    let deposited = request.does("deposit", Repeat::Answer, |asked| async move {
        let request = DepositRequest {
            handover: Some(asked.handover),
            seal: seal(&asked.body)?,
        };
        asked.escrow.deposit(asked.caller, asked.key, request).await
    });
    deposited.await.map(created)
}

async fn standing_deposit(
    State(doors): State<Doors>,
    caller: Authenticated,
    headers: HeaderMap,
    Document(body): Document,
) -> Result<Response, Refusal> {
    let deposited = caller.does(|caller| async move {
        let key = required_idempotency(&headers, "deposit", &[&body], Repeat::Answer)?;
        let request = DepositRequest {
            handover: None,
            seal: seal(&body)?,
        };
        doors.escrow.deposit(caller, key, request).await
    });
    deposited.await.map(created)
}

async fn release(request: OfHandover) -> Result<Json<Value>, Refusal> {
    let handed_out = request.does("release", Repeat::Decide, |asked| async move {
        let request: ReleaseRequest = parse(&asked.body)?;
        let escrow = asked.escrow;
        escrow
            .release(asked.caller, asked.key, asked.handover, request)
            .await
    });
    handed_out.await.map(released)
}

async fn confirm(request: OfHandover) -> Result<Json<Value>, Refusal> {
    let confirmed = request.does("confirm", Repeat::Answer, |asked| async move {
        let document = SignedDocument::from_json(&asked.body)
            .map_err(|error| Failure::because(Code::MalformedRequest, error.to_string()))?;
        let escrow = asked.escrow;
        escrow
            .confirm(asked.caller, asked.key, asked.handover, document)
            .await
    });
    confirmed.await.map(answered)
}

/// Why the credentials are rejected.
#[derive(Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RejectBody {
    /// What the meter did with them; at most 200 characters, without secrets.
    reason: String,
}

async fn reject(request: OfHandover) -> Result<Json<Value>, Refusal> {
    let rejected = request.does("reject", Repeat::Answer, |asked| async move {
        let RejectBody { reason } = parse(&asked.body)?;
        let escrow = asked.escrow;
        escrow
            .reject(asked.caller, asked.key, asked.handover, reason)
            .await
    });
    rejected.await.map(answered)
}

async fn accept_read(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let accepted = caller.does(|caller| async move {
        let handover = parse_id(&id)?;
        let key = idempotency(&headers, "accept-read", &[id.as_bytes()], Repeat::Answer)?;
        doors.escrow.accept_read(caller, key, handover).await
    });
    accepted.await.map(answered)
}

async fn dispute(request: OfHandover) -> Result<Json<Value>, Refusal> {
    let disputed = request.does("dispute", Repeat::Answer, |asked| async move {
        let request = DepositRequest {
            handover: Some(asked.handover),
            seal: seal(&asked.body)?,
        };
        let escrow = asked.escrow;
        escrow
            .dispute(asked.caller, asked.key, asked.handover, request)
            .await
    });
    disputed.await.map(answered)
}

async fn list(
    State(doors): State<Doors>,
    caller: Authenticated,
    Asked(query): Asked<HandoverQuery>,
) -> Result<Json<Value>, Refusal> {
    let page = caller.does(|caller| async move { doors.escrow.handovers(&caller, &query).await });
    page.await.map(|page| Json(json!(page)))
}

async fn show(
    State(doors): State<Doors>,
    caller: Authenticated,
    Named(id): Named,
) -> Result<Response, Refusal> {
    let view = caller.does(|caller| async move {
        let handover = parse_id(&id)?;
        doors.escrow.handover(&caller, handover).await
    });
    let view = view.await?;
    let etag = HeaderValue::from_str(&format!("\"{}\"", view.version))
        .expect("a number in quotes is a header value");
    let mut response = Json(view).into_response();
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}
