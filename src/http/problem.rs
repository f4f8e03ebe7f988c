//! Failures as RFC 9457 problem documents. The document is a presentation detail: nothing decides by it.

use std::time::Duration;

use axum::Json;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::service::Failure;
use crate::types::Code;

/// A problem document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// `urn:cos-escrow:problem:` and the code with hyphens.
    #[serde(rename = "type")]
    kind: String,
    /// The same for every occurrence of the type.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// What exactly, where that helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The request's id, as in the service's log lines and entries.
    #[serde(skip_serializing_if = "String::is_empty")]
    instance: String,
}

/// The request's id, made by the service.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

pub(super) fn request_id(parts: &Parts) -> String {
    parts
        .extensions
        .get::<RequestId>()
        .map(|id| id.0.clone())
        .unwrap_or_default()
}

/// With which code an answer refuses without an entry that says so: for whoever counts such refusals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) Code);

/// A failure on its way out, with the id of the request that met it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) failure: Failure,
    pub(super) request_id: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.answer(None)
    }
}

impl Refusal {
    /// The document, with another status than the code's where HTTP has one for the occasion.
    fn answer(self, instead: Option<StatusCode>) -> Response {
        let unrecorded = self.failure.unrecorded();
        let mut retry_after = None;
        let (status, code, detail) = match self.failure {
            Failure::Refused {
                code,
                detail,
                retry_after: wait,
                ..
            } => {
                retry_after = wait;
                (status(code), code, detail)
            }
            // Neither says why: the reason is in the log line with this request id.
            Failure::Unavailable(error) => {
                tracing::error!(request.id = self.request_id, error, "unavailable");
                (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, None)
            }
            Failure::Broken(error) => {
                tracing::error!(request.id = self.request_id, error, "broken");
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Unavailable, None)
            }
        };
        let status = instead.unwrap_or(status);
        let retry_after = retry_after.or(match status {
            // The quota is counted by the minute.
            StatusCode::TOO_MANY_REQUESTS => Some(Duration::from_secs(60)),
            StatusCode::SERVICE_UNAVAILABLE => Some(Duration::from_secs(5)),
            _ => None,
        });
        metrics::counter!("cos_escrow_refusals_total", "code" => code.as_str()).increment(1);
        let problem = Problem {
            kind: format!("urn:cos-escrow:problem:{}", code.as_str().replace('_', "-")),
            title: code.title(),
            status: status.as_u16(),
            code: code.as_str(),
            detail,
            instance: self.request_id,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = retry_after {
            // Whole seconds, and never too few.
            let seconds = wait.as_millis().div_ceil(1_000);
            let value = HeaderValue::from_str(&seconds.to_string());
            headers.insert(
                header::RETRY_AFTER,
                value.expect("a number is a header value"),
            );
        }
        if let Some(code) = unrecorded {
            response.extensions_mut().insert(Refused(code));
        }
        response
    }
}

/// The HTTP status of each code.
pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::CertificateInvalid
        | Code::CertificateExpired
        | Code::CertificateRevoked
        | Code::RevocationUnknown => StatusCode::UNAUTHORIZED,
        Code::WrongRole
        | Code::PartyUnknown
        | Code::PartySuspended
        | Code::DepositorNotAllowed
        | Code::NotRegisteredSupplier
        | Code::NotGainingSupplier
        | Code::RegistrationNotSecured
        | Code::RegistrationWithdrawn
        | Code::RegistrationAnnulled
        | Code::BeforeWindow
        | Code::AfterWindow
        | Code::MeterMismatch
        | Code::RecipientKeyInactive
        | Code::SealedToOthers
        | Code::Quarantined
        | Code::ReadMismatch
        | Code::OnHold
        | Code::Forbidden
        | Code::SealServerForbidden => StatusCode::FORBIDDEN,
        Code::MalformedRequest | Code::IdempotencyKeyMissing => StatusCode::BAD_REQUEST,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::NoPackage
        | Code::WrongState
        | Code::EnvelopeReused
        | Code::RegistrationConflict
        | Code::StatementSequence => StatusCode::CONFLICT,
        Code::MalformedSupplyPoint
        | Code::CheckDigit
        | Code::IdempotencyKeyReused
        | Code::StaleRequest
        | Code::EnvelopeMalformed
        | Code::EnvelopeDoesNotOpen
        | Code::EnvelopeMismatch
        | Code::SignatureInvalid
        | Code::EscrowLeftOut
        | Code::StanzaForeign
        | Code::PackageInvalid
        | Code::ReadInvalid
        | Code::StatementInvalid
        | Code::PossessionFailed
        | Code::RegistrationInvalid => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimited | Code::AllowanceSpent | Code::TooManyAtOnce => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Code::RegistrationStale | Code::Fenced | Code::ClockBack | Code::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Answers for paths that lead nowhere.
pub(super) async fn no_such_route(request_id: axum::Extension<RequestId>) -> Refusal {
    Refusal {
        failure: Failure::refused(Code::NotFound),
        request_id: request_id.0.0,
    }
}

/// Answers for methods that a path does not have.
pub(super) async fn no_such_method(request_id: axum::Extension<RequestId>) -> Response {
    let refusal = Refusal {
        failure: Failure::because(Code::MalformedRequest, "no such method here"),
        request_id: request_id.0.0,
    };
    refusal.answer(Some(StatusCode::METHOD_NOT_ALLOWED))
}

/// Answers a request whose identity has as many under way as it may.
pub(super) fn crowded(request_id: &str) -> Response {
    let refusal = Refusal {
        failure: Failure::for_now(Code::TooManyAtOnce, Duration::from_secs(1)),
        request_id: request_id.to_owned(),
    };
    refusal.into_response()
}

/// Puts the document in where a layer answered that knows nothing of the request.
pub(super) fn identified(mut response: Response, request_id: &str) -> Response {
    let request_id = request_id.to_owned();
    if let Some(Panicked(message)) = response.extensions_mut().remove() {
        let failure = Failure::Broken(format!("panicked: {message}"));
        return Refusal {
            failure,
            request_id,
        }
        .into_response();
    }
    if response.status() == StatusCode::REQUEST_TIMEOUT {
        // It may or may not have been done.
        let failure = Failure::refused(Code::Unavailable);
        return Refusal {
            failure,
            request_id,
        }
        .answer(Some(StatusCode::REQUEST_TIMEOUT));
    }
    response
}

/// What a handler panicked with.
#[derive(Clone)]
struct Panicked(String);

/// Stands in for a handler that panicked: one request ends, the service does not. `identified` writes the document.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the layer hands the panic over"
)]
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    response.extensions_mut().insert(Panicked(message));
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::Request;
    use axum::middleware::{Next, from_fn};
    use axum::routing::{MethodRouter, get};
    use serde_json::Value;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;
    use tower_http::timeout::TimeoutLayer;

    use super::*;

    async fn defect() {
        panic!("the test wants a panic")
    }

    /// What a handler's answer becomes, and its problem document.
    async fn answered(handler: MethodRouter) -> (StatusCode, Value) {
        let app: Router = Router::new()
            .route("/", handler)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                Duration::from_millis(10),
            ))
            .layer(from_fn(|request: Request, next: Next| async move {
                identified(next.run(request).await, "request-7")
            }));
        let answer = app.oneshot(Request::new(Body::empty())).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1_000).await.unwrap();
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["instance"], "request-7");
        (status, problem)
    }

    #[test]
    fn what_passes_by_itself_is_answered_429_or_503() {
        for code in Code::ALL {
            let passes = matches!(status(*code).as_u16(), 429 | 503);
            assert_eq!(code.is_passing(), passes, "{code}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_the_id_of_its_request_and_without_its_message() {
        let (status, problem) = answered(get(defect)).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(problem["code"], "unavailable");
        assert!(problem.get("detail").is_none());
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered_408_with_its_id() {
        let (status, problem) = answered(get(std::future::pending::<()>)).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(problem["status"], 408);
        assert_eq!(problem["code"], "unavailable");
    }
}
