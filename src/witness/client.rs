//! A witness, asked over HTTP/1.1: one connection, kept, made anew when it is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tlog::{AddCheckpoint, Note, Signature, parse_cosignatures, parse_latest_size};
use crate::types::Digest;

/// A witness at a URL: the prefix of its `add-checkpoint`, which is that of its monitoring, too.
pub struct WitnessClient {
    host: String,
    port: u16,
    prefix: String,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What a witness answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It has cosigned; nothing is verified yet.
    Cosigned(Vec<Signature>),
    /// It has cosigned this size last, and wants to be shown how the log continues from there.
    Latest(u64),
    /// It does not cosign.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of what it says.
        reason: String,
    },
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unreachable {
    /// The URL cannot be used.
    #[error("`{0}` is not of the form http://HOST[:PORT]/PATH or https://…")]
    Url(String),
    /// No roots are configured that a server could be verified against.
    #[error("`{0}` needs roots to verify the server against")]
    NoRoots(String),
    /// The witness cannot be reached, or broke off.
    #[error("{0}")]
    Lost(String),
    /// The answer is none of the protocol's.
    #[error("the answer is not in the form of C2SP tlog-witness")]
    Answer,
}

impl WitnessClient {
    /// A witness at this URL that is given `patience` for each answer; `tls` is for `https`.
    pub fn new(
        url: &str,
        tls: Option<Arc<ClientConfig>>,
        patience: Duration,
    ) -> Result<Self, Unreachable> {
        let wrong = || Unreachable::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => match tls {
                Some(tls) => (Some(tls), 443),
                None => return Err(Unreachable::NoRoots(url.to_owned())),
            },
            _ => return Err(wrong()),
        };
        if uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self {
            host: uri.host().ok_or_else(wrong)?.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls,
            patience,
            connection: Mutex::new(None),
        })
    }

    /// Asks for a cosignature.
    pub async fn add_checkpoint(&self, request: &AddCheckpoint) -> Result<Answer, Unreachable> {
        let body = Bytes::from(request.to_string());
        let (status, body) = self.send(Method::POST, "/add-checkpoint", body).await?;
        let text = str::from_utf8(&body).map_err(|_| Unreachable::Answer);
        Ok(match status {
            StatusCode::OK => {
                let signatures = parse_cosignatures(text?);
                Answer::Cosigned(signatures.map_err(|_| Unreachable::Answer)?)
            }
            StatusCode::CONFLICT => {
                // Another conflict than that of sizes has a body of its own.
                match text.ok().and_then(|text| parse_latest_size(text).ok()) {
                    Some(size) => Answer::Latest(size),
                    None => refused(status, &body),
                }
            }
            status => refused(status, &body),
        })
    }

    /// The newest checkpoint of a log that the witness has cosigned, if it has and shows it.
    pub async fn latest(&self, origin: &str) -> Result<Option<Note>, Unreachable> {
        let path = format!("/{}/checkpoint", origin_hash(origin));
        match self.send(Method::GET, &path, Bytes::new()).await? {
            (StatusCode::OK, body) => {
                let text = str::from_utf8(&body).map_err(|_| Unreachable::Answer)?;
                text.parse().map(Some).map_err(|_| Unreachable::Answer)
            }
            _ => Ok(None),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Unreachable> {
        let sent = timeout(self.patience, self.try_send(method, path, body)).await;
        sent.unwrap_or_else(|_| Err(Unreachable::Lost("no answer in time".to_owned())))
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Unreachable> {
        // Taken out, so that a connection is kept only when its answer was read to the end.
        let kept = self.connection.lock().await.take();
        let mut sender = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(HOST, format!("{}:{}", self.host, self.port))
            .body(Full::new(body))
            .map_err(|error| lost(&error))?;
        sender.ready().await.map_err(|error| lost(&error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| lost(&error))?.to_bytes();
        *self.connection.lock().await = Some(sender);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
        let host = self.host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, self.port)).await;
        let tcp = tcp.map_err(|error| lost(&error))?;
        tcp.set_nodelay(true).map_err(|error| lost(&error))?;
        let Some(tls) = &self.tls else {
            return speak_http(tcp).await;
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| lost(&error))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        speak_http(stream.map_err(|error| lost(&error))?).await
    }
}

/// How the monitoring interface names a log: SHA-256 of its origin, in hexadecimal.
pub(super) fn origin_hash(origin: &str) -> String {
    let digest = Digest::of(origin.as_bytes());
    let bytes = digest.as_bytes().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

async fn speak_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    tokio::spawn(connection);
    Ok(sender)
}

fn refused(status: StatusCode, body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    Answer::Refused {
        status: status.as_u16(),
        // It goes into our log lines, and is somebody else's text.
        reason: line.chars().filter(|c| !c.is_control()).take(200).collect(),
    }
}

fn lost(error: &dyn std::fmt::Display) -> Unreachable {
    Unreachable::Lost(error.to_string())
}

/// Bytes of an answer: room for a checkpoint with as many cosignatures as a note may have.
const MAX_ANSWER: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_prefix() {
        let of = |url| WitnessClient::new(url, None, Duration::from_secs(1));
        let client = of("http://127.0.0.1:7380/w1/").unwrap();
        assert_eq!(
            (client.host.as_str(), client.port, client.prefix.as_str()),
            ("127.0.0.1", 7380, "/w1")
        );
        assert_eq!(of("http://[::1]").unwrap().host, "[::1]");
        for wrong in [
            "",
            "witness.example",
            "ftp://a/",
            "http://a/?b",
            "http:///x",
        ] {
            assert!(matches!(of(wrong), Err(Unreachable::Url(_))), "{wrong}");
        }
        let no_roots = of("https://witness.example/");
        assert!(matches!(no_roots, Err(Unreachable::NoRoots(_))));
    }

    #[test]
    fn a_log_is_named_by_the_hash_of_its_origin() {
        assert_eq!(
            origin_hash(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
