//! Who is calling: taken from the connection, checked on every request.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, Request};
use axum::http::{HeaderValue, request::Parts};
use axum::middleware::Next;
use axum::response::Response;

use super::Doors;
use super::problem::Refusal;
use crate::service::{Caller, Failure, Idempotency, Repeat};
use crate::tls::Peer;
use crate::types::{Code, Digest};

/// The request's id, made by the service.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// A caller whose certificate is still good, with the id of its request.
pub(super) struct Authenticated(pub(super) Caller);

impl Authenticated {
    /// A failure of this request.
    pub(super) fn refuse(&self, failure: Failure) -> Refusal {
        Refusal {
            failure,
            request_id: self.0.request_id.clone(),
        }
    }
}

impl FromRequestParts<Doors> for Authenticated {
    type Rejection = Refusal;

    /// Check 1: certificate, profile, revocation and expiry, as they stand now and not as they stood at the handshake.
    async fn from_request_parts(parts: &mut Parts, doors: &Doors) -> Result<Self, Refusal> {
        let request_id = request_id(parts);
        let refuse = |code| Refusal {
            failure: Failure::refused(code),
            request_id: request_id.clone(),
        };
        let peer = parts
            .extensions
            .get::<Arc<Peer>>()
            .ok_or_else(|| refuse(Code::CertificateInvalid))?;
        doors
            .tls
            .still_valid(peer, doors.clock.now())
            .map_err(|error| refuse(error.code()))?;
        // The service's own name in the log is nobody else's.
        if peer.identity == Caller::service().identity {
            return Err(refuse(Code::CertificateInvalid));
        }
        Ok(Self(Caller {
            identity: peer.identity.clone(),
            certificate: peer.fingerprint,
            request_id,
        }))
    }
}

/// A query string as a document; what does not fit is a problem document too.
pub(super) struct Asked<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned> FromRequestParts<Doors> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Doors) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|error| Refusal {
                failure: Failure::because(Code::MalformedRequest, error.body_text()),
                request_id: request_id(parts),
            })
    }
}

/// The `Idempotency-Key` header, where the client sent one.
pub(super) fn idempotency(
    headers: &axum::http::HeaderMap,
    request: &[&[u8]],
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
    Ok(Some(Idempotency {
        key: key.to_owned(),
        request: Digest::of_pieces(request),
        repeat,
    }))
}

/// The same, where the client must send one.
pub(super) fn required_idempotency(
    headers: &axum::http::HeaderMap,
    request: &[&[u8]],
    repeat: Repeat,
) -> Result<Idempotency, Failure> {
    idempotency(headers, request, repeat)?
        .ok_or_else(|| Failure::refused(Code::IdempotencyKeyMissing))
}

/// Gives each request an id, and writes its one line when it is answered.
pub(super) async fn trace(mut request: Request, next: Next) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    // The route, not the path: a path may name a supply point.
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let peer = request
        .extensions()
        .get::<Arc<Peer>>()
        .map(|peer| peer.identity.to_string());
    let began = std::time::Instant::now();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    metrics::histogram!("cos_escrow_request_seconds", "route" => route.clone()).record(seconds);
    tracing::info!(
        request.id = id,
        http.method = %method,
        http.route = route,
        http.status = status,
        seconds,
        peer,
        "request"
    );
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

pub(super) fn request_id(parts: &Parts) -> String {
    parts
        .extensions
        .get::<RequestId>()
        .map(|id| id.0.clone())
        .unwrap_or_default()
}
