//! Who is calling: taken from the connection, checked on every request.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, header, request::Parts};
use axum::middleware::Next;
use axum::response::Response;

use super::Doors;
use super::listen::Crowded;
use super::ndjson::Desk;
use super::problem::{Refusal, Refused, RequestId, crowded, identified, request_id};
use crate::service::{Caller, Failure};
use crate::tls::Peer;
use crate::types::Code;

/// A caller whose certificate is still good, with the id of its request.
pub(super) struct Authenticated(pub(super) Caller);

impl Authenticated {
    /// The caller of a stream.
    pub(super) fn at(self, doors: &Doors) -> Desk {
        Desk {
            escrow: doors.escrow.clone(),
            caller: self.0,
        }
    }

    /// Does what the caller asks; a failure becomes a refusal of this request.
    pub(super) async fn does<T, F>(self, act: impl FnOnce(Caller) -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let done = act(self.0.clone()).await;
        done.map_err(|failure| self.refuse(failure))
    }

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
    /// Then check 2, which the transaction repeats.
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
        // A page of another site in a browser that holds the certificate is not its holder.
        let site = parts.headers.get("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(Refusal {
                failure: Failure::because(Code::MalformedRequest, "sent by another site's page"),
                request_id,
            });
        }
        let caller = Caller {
            identity: peer.identity.clone(),
            certificate: peer.fingerprint,
            request_id,
        };
        match doors.escrow.admit(&caller).await {
            Ok(()) => Ok(Self(caller)),
            Err(failure) => Err(Self(caller).refuse(failure)),
        }
    }
}

/// Gives each request an id, writes its one line when it is answered, and counts it if it was refused.
pub(super) async fn trace(
    State(doors): State<Doors>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = uuid::Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    // The route, not the path: a path may name a supply point.
    let route = request
        .extensions()
        .get::<axum::extract::MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let peer = request.extensions().get::<Arc<Peer>>().cloned();
    let began = std::time::Instant::now();
    let answer = match request.extensions().get() {
        Some(Crowded) => crowded(&id),
        None => next.run(request).await,
    };
    let mut response = identified(answer, &id);
    if let (Some(peer), Some(Refused(code))) = (&peer, response.extensions().get()) {
        doors.escrow.count_refusal(&peer.identity, *code);
    }
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    metrics::histogram!("cos_escrow_request_seconds", "route" => route.clone()).record(seconds);
    tracing::info!(
        request.id = id,
        http.method = %method,
        http.route = route,
        http.status = status,
        seconds,
        peer = peer.map(|peer| peer.identity.to_string()),
        "request"
    );
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    // What is answered to one identity is for no cache, unless the route says otherwise.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
