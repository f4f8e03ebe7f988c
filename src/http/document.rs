//! What a request brings, read so that whatever does not fit is a problem document that repeats nothing of it.

use std::error::Error;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower_http::timeout::TimeoutError;

use super::Doors;
use super::problem::{Refusal, request_id};
use crate::envelope::parse_json;
use crate::service::{Failure, Idempotency, Repeat};
use crate::types::{Code, Digest, InvalidSupplyPoint, SupplyPoint};

/// A whole body.
pub(super) struct Document(pub(super) Bytes);

impl FromRequest<Doors> for Document {
    type Rejection = Refusal;

    async fn from_request(request: Request, doors: &Doors) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let request_id = request_id(&parts);
        let request = Request::from_parts(parts, body);
        Bytes::from_request(request, doors)
            .await
            .map(Self)
            .map_err(|rejection| Refusal {
                failure: unread(rejection),
                request_id,
            })
    }
}

fn unread(rejection: BytesRejection) -> Failure {
    if stood_still(&rejection) {
        return Failure::because(Code::MalformedRequest, "the body stood still");
    }
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::refused(Code::TooLarge),
        _ => Failure::because(Code::MalformedRequest, "the body broke off"),
    }
}

fn stood_still(rejection: &BytesRejection) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(rejection);
    while let Some(error) = cause {
        if error.is::<TimeoutError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The piece of a path that names something. What is not even text names nothing.
pub(super) struct Named(pub(super) String);

impl FromRequestParts<Doors> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, doors).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Refusal {
                failure: Failure::refused(Code::NotFound),
                request_id: request_id(parts),
            }),
        }
    }
}

/// A query string as a document.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Doors> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Doors) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            // The reason would quote the query.
            Err(_) => Err(Refusal {
                failure: Failure::because(
                    Code::MalformedRequest,
                    "a parameter of the query is missing, unknown, repeated or has a wrong value",
                ),
                request_id: request_id(parts),
            }),
        }
    }
}

/// A document of one type. The error says where it is wrong, and never with what.
pub(super) fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Failure> {
    parse_json(body, super::MAX_BODY)
        .map_err(|error| Failure::because(Code::MalformedRequest, error.to_string()))
}

/// A path's piece as an id; what is no id names nothing.
pub(super) fn parse_id<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::refused(Code::NotFound))
}

/// A supply point; check 4 tells a wrong digit from another form.
pub(super) fn parse_supply_point(text: &str) -> Result<SupplyPoint, Failure> {
    text.parse().map_err(|error| {
        Failure::refused(match error {
            InvalidSupplyPoint::Form => Code::MalformedSupplyPoint,
            InvalidSupplyPoint::CheckDigit => Code::CheckDigit,
        })
    })
}

/// The `Idempotency-Key` header, where the client sent one, for a request of this kind and content.
pub(super) fn idempotency(
    headers: &HeaderMap,
    kind: &str,
    content: &[&[u8]],
    repeat: Repeat,
) -> Result<Option<Idempotency>, Failure> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default();
    let fits = (1..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        return Err(Failure::because(
            Code::MalformedRequest,
            "an idempotency key is 1 to 128 printable characters",
        ));
    }
    // The kind is part of it: the same key with the same body elsewhere is another request.
    let pieces = [&[kind.as_bytes()], content].concat();
    Ok(Some(Idempotency {
        key: key.to_owned(),
        request: Digest::of_pieces(&pieces),
        repeat,
    }))
}

/// The same, where the client must send one.
pub(super) fn required_idempotency(
    headers: &HeaderMap,
    kind: &str,
    content: &[&[u8]],
    repeat: Repeat,
) -> Result<Idempotency, Failure> {
    idempotency(headers, kind, content, repeat)?
        .ok_or_else(|| Failure::refused(Code::IdempotencyKeyMissing))
}
