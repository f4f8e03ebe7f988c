//! A witness's doors (C2SP tlog-witness): `add-checkpoint` for logs, and what was cosigned last for everybody.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use super::listen::{Arrival, Ended, Limits, serve_each};
use crate::tlog::WitnessRefusal;
use crate::types::Clock;
use crate::witness::{Refused, Witness};

#[derive(Clone)]
struct Doors {
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
}

/// A witness and how it is spoken to: HTTP/1.1, by anybody.
pub struct WitnessServer {
    /// Who cosigns.
    pub witness: Arc<Witness>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where there is none, the listener is on loopback, or behind a proxy that has TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// What connections may take up; those of one identity are not counted, as nobody says who they are.
    pub limits: Limits,
}

impl WitnessServer {
    /// Serves until `stop`; then lets running requests finish.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let line = Line {
            routes: routes(self.witness, self.clock),
            tls: self.tls.map(TlsAcceptor::from),
            limits: Arc::new(self.limits),
            stop,
        };
        let connection = |arrival| line.clone().connection(arrival);
        let most = line.limits.max_connections;
        serve_each(listener, &line.limits, most, &line.stop, connection).await;
    }
}

/// What all connections share.
#[derive(Clone)]
struct Line {
    routes: Router,
    tls: Option<TlsAcceptor>,
    limits: Arc<Limits>,
    stop: CancellationToken,
}

impl Line {
    async fn connection(self, arrival: Arrival) -> Result<(), Ended> {
        let Arrival {
            tcp, place: _place, ..
        } = arrival;
        self.limits.prepare(&tcp)?;
        match &self.tls {
            None => self.speak(tcp).await,
            Some(tls) => {
                let accepted = timeout(self.limits.handshake, tls.accept(tcp)).await;
                self.speak(accepted.map_err(|_| Ended::SlowHandshake)??)
                    .await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Ended> {
        let answer = self.routes.clone();
        let answer = answer.map_request(|request: Request<Incoming>| request.map(Body::new));
        let io = TokioIo::new(stream);
        let http = self.limits.http1();
        let connection = http.serve_connection(io, TowerToHyperService::new(answer));
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = self.stop.cancelled() => {}
            () = sleep(self.limits.max_age) => {}
        }
        connection.as_mut().graceful_shutdown();
        let ended = timeout(self.limits.grace, connection).await;
        Ok(ended.map_err(|_| Ended::GraceOver)??)
    }
}

fn routes(witness: Arc<Witness>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(latest))
        .layer(DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(RequestBodyTimeoutLayer::new(BODY_STALL))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        .with_state(Doors { witness, clock })
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
