//! One HTTP/2 connection that many calls share, made anew when it is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ClientError;

/// Where the service is, and how it is spoken to.
#[derive(Clone)]
pub struct Endpoint {
    /// Host name or address, as in the service's certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Our certificate and trust.
    pub tls: Arc<ClientConfig>,
}

impl Endpoint {
    /// An endpoint from a URL such as `https://escrow.example:8443`.
    pub fn from_url(url: &str, tls: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Local(format!("`{url}` is not of the form https://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || uri.path().len() > 1 || uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let port = match (authority.as_str().strip_prefix(host), authority.port_u16()) {
            (Some(""), None) => 443,
            (Some(_), Some(port)) => port,
            _ => return Err(wrong()),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls,
        })
    }
}

/// A request, built up.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Request {
    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// `POST path` with a JSON body.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path, body.into()).header("content-type", "application/json")
    }

    /// `PUT path` with a JSON body.
    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(Method::PUT, path, body.into()).header("content-type", "application/json")
    }

    /// Makes repetitions safe: the service answers the same request under the same key once.
    #[must_use]
    pub fn idempotent(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds or replaces a header. A value that is not one line of text is left out.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let name = HeaderName::from_static(name);
        self.headers.retain(|(other, _)| *other != name);
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    fn new(method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body,
        }
    }
}

/// A whole answer with a status of success.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as a JSON document of one type.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ClientError::Unexpected(error.to_string()))
    }
}

pub(super) struct Transport {
    endpoint: Endpoint,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            connection: Mutex::new(None),
        }
    }

    pub(super) async fn send(&self, request: Request) -> Result<Answer, ClientError> {
        let mut sender = self.sender().await?;
        let response = timeout(ANSWER, sender.send_request(self.hyper(request)?)).await;
        let lost = |error: &dyn std::fmt::Display| ClientError::Indeterminate(error.to_string());
        let response = response
            .map_err(|_| lost(&"no answer in time"))?
            .map_err(|error| lost(&error))?;
        let status = response.status();
        let body = timeout(
            ANSWER,
            Limited::new(response.into_body(), MAX_ANSWER).collect(),
        )
        .await
        .map_err(|_| lost(&"the answer stood still"))?
        .map_err(|error| lost(&error))?
        .to_bytes();
        if status.is_success() {
            return Ok(Answer {
                status: status.as_u16(),
                body,
            });
        }
        let problem = ClientError::from_problem(status.as_u16(), &body);
        Err(match (status, problem) {
            (StatusCode::REQUEST_TIMEOUT, _) => lost(&"the service gave up"),
            (_, problem) => problem,
        })
    }

    /// The living connection, or a new one.
    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref()
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let connecting = timeout(CONNECT, self.connect()).await;
        let sender = connecting
            .map_err(|_| ClientError::Unreachable("no connection in time".to_owned()))??;
        *connection = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let Endpoint { host, port, tls } = &self.endpoint;
        let gone = |error: &dyn std::fmt::Display| ClientError::Unreachable(error.to_string());
        let name = ServerName::try_from(host.clone())
            .map_err(|_| ClientError::Local(format!("`{host}` is not a name of a server")))?;
        let tcp = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(|error| gone(&error))?;
        tcp.set_nodelay(true).map_err(|error| gone(&error))?;
        let mut config = ClientConfig::clone(tls);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(|error| ClientError::from_connecting(&error))?;
        let mut stream = BufReader::new(stream);
        // ORDER: in TLS 1.3 a client is connected before its certificate is judged, and in HTTP/2 the service speaks
        // first. So who waits for that knows that it is let in before it asks, and no refusal looks like a lost answer.
        let greeting = stream.fill_buf().await;
        let greeting = greeting.map_err(|error| ClientError::from_connecting(&error))?;
        if greeting.is_empty() {
            return Err(gone(&"the service closed the connection"));
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| gone(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn hyper(&self, request: Request) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        let mut built = hyper::Request::builder()
            .method(request.method)
            .uri(format!("https://{host}:{port}{}", request.path));
        for (name, value) in request.headers {
            built = built.header(name, value);
        }
        built
            .body(Full::new(request.body))
            .map_err(|error| ClientError::Local(error.to_string()))
    }
}

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
