//! A witness's doors (C2SP tlog-witness): `add-checkpoint` for logs, and what was cosigned last for everybody.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use crate::tlog::WitnessRefusal;
use crate::types::Clock;
use crate::witness::{Refused, Witness};

#[derive(Clone)]
struct Doors {
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
}

/// Serves a witness until told to stop. No TLS: the listener is on loopback, or behind a proxy that has it.
pub async fn serve_witness(
    listener: TcpListener,
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(latest))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(RequestBodyTimeoutLayer::new(BODY_STALL))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .with_state(Doors { witness, clock });
    axum::serve(listener, routes)
        .with_graceful_shutdown(stopped)
        .await
}

async fn add_checkpoint(State(doors): State<Doors>, body: Bytes) -> Response {
    let now = doors.clock.now();
    let answer = blocking(move || {
        let body = str::from_utf8(&body).map_err(|_| Refused::Form)?;
        doors.witness.add_checkpoint(body, now)
    });
    match answer.await {
        Some(Ok(cosignatures)) => plain(StatusCode::OK, cosignatures),
        Some(Err(refused)) => refusal(&refused),
        None => broken(&"a request panicked"),
    }
}

async fn latest(State(doors): State<Doors>, Path(hash): Path<String>) -> Response {
    match blocking(move || doors.witness.latest(&hash)).await {
        Some(Ok(Some(checkpoint))) => plain(StatusCode::OK, checkpoint),
        Some(Ok(None)) => plain(
            StatusCode::NOT_FOUND,
            "nothing is cosigned here\n".to_owned(),
        ),
        Some(Err(error)) => broken(&error),
        None => broken(&"a request panicked"),
    }
}

/// Runs what waits for a disk; nothing if it panicked.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

fn refusal(refused: &Refused) -> Response {
    let status = match refused {
        Refused::Form | Refused::Rule(WitnessRefusal::OldSize) => StatusCode::BAD_REQUEST,
        Refused::UnknownLog => StatusCode::NOT_FOUND,
        Refused::Rule(WitnessRefusal::Signature) => StatusCode::FORBIDDEN,
        Refused::Rule(WitnessRefusal::Proof) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Rule(WitnessRefusal::Conflict(size)) => {
            let kind = HeaderValue::from_static("text/x.tlog.size");
            let headers = [(header::CONTENT_TYPE, kind)];
            return (StatusCode::CONFLICT, headers, format!("{size}\n")).into_response();
        }
        Refused::State(error) => return broken(error),
    };
    plain(status, format!("{refused}\n"))
}

/// Nothing of the disk is told to strangers.
fn broken(error: &dyn std::fmt::Display) -> Response {
    tracing::error!(%error, "the witness cannot answer");
    let text = "the witness cannot answer\n".to_owned();
    plain(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn plain(status: StatusCode, text: String) -> Response {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, text).into_response()
}

/// Bytes of a request: a proof, and a checkpoint with as many cosignatures as a note may have.
const MAX_BODY: usize = 512 * 1024;
/// How long a body may stand still.
const BODY_STALL: Duration = Duration::from_secs(10);
/// How long a request may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
