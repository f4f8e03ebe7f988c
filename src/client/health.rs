//! Asking a service on this machine whether it is ready, on its plain listener.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ClientError;

/// What a service says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// Whether it serves requests.
    pub ready: bool,
    /// Check by check, for people.
    pub report: String,
}

/// Asks `/readyz` of an admin listener.
pub async fn health(admin: SocketAddr) -> Result<Health, ClientError> {
    let unreachable = |error: &dyn std::fmt::Display| ClientError::Unreachable(error.to_string());
    let asked = timeout(PATIENCE, ask(admin)).await;
    asked.map_err(|_| unreachable(&"no answer in time"))?
}

async fn ask(admin: SocketAddr) -> Result<Health, ClientError> {
    let gone = |error: &dyn std::fmt::Display| ClientError::Unreachable(error.to_string());
    let tcp = TcpStream::connect(admin).await.map_err(|e| gone(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(|error| gone(&error))?;
    tokio::spawn(connection);
    let request = Request::get("/readyz?verbose")
        .header("host", admin.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| ClientError::Local(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|e| gone(&e))?;
    let ready = match answer.status() {
        StatusCode::OK => true,
        StatusCode::SERVICE_UNAVAILABLE => false,
        status => return Err(ClientError::Unexpected(format!("status {status}"))),
    };
    let body = Limited::new(answer.into_body(), MAX_REPORT).collect().await;
    let body = body.map_err(|error| gone(&error))?.to_bytes();
    let report = String::from_utf8_lossy(&body).into_owned();
    Ok(Health { ready, report })
}

/// How long the listener may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a report.
const MAX_REPORT: usize = 64 * 1024;
