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
    /// Check by check.
    pub checks: Vec<Check>,
}

/// One thing that a service looks at before it says that it is ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name, such as `store`.
    pub name: String,
    /// What is wrong, if anything is.
    pub failure: Option<String>,
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
    let report = String::from_utf8_lossy(&body);
    let checks = checks(&report);
    let checks = checks.ok_or_else(|| ClientError::Unexpected(format!("report `{report}`")))?;
    Ok(Health { ready, checks })
}

/// Reads a verbose report: `[+] NAME ok` or `[-] NAME failed: REASON` a line, and the verdict in the last one.
fn checks(report: &str) -> Option<Vec<Check>> {
    let lines = report.lines().filter(|line| line.starts_with('['));
    let check = |line: &str| {
        let (name, failure) = match line.strip_prefix("[+] ") {
            Some(line) => (line.strip_suffix(" ok")?, None),
            None => {
                let (name, reason) = line.strip_prefix("[-] ")?.split_once(" failed: ")?;
                (name, Some(reason.to_owned()))
            }
        };
        let name = name.to_owned();
        Some(Check { name, failure })
    };
    lines.map(check).collect()
}

/// How long the listener may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a report.
const MAX_REPORT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_check_by_check() {
        let report = "[+] store ok\n[-] log failed: the anchor failed: gone\nnot ready\n";
        let [store, log] = &checks(report).unwrap()[..] else {
            panic!("two checks");
        };
        assert_eq!((store.name.as_str(), &store.failure), ("store", &None));
        assert_eq!(log.name, "log");
        assert_eq!(log.failure.as_deref(), Some("the anchor failed: gone"));
        for other in ["[+] store", "[-] store ok", "[?] store ok"] {
            assert_eq!(checks(other), None, "{other}");
        }
    }
}
