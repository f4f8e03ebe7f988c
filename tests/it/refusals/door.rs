//! A connection that sends whatever a test wants, and shows the whole answer.

use std::sync::Arc;

use cos_escrow::client::Endpoint;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One living connection in the name of one certificate.
#[derive(Clone)]
pub(super) struct Door {
    sender: SendRequest<Full<Bytes>>,
    port: u16,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Door {
    pub(super) async fn open(endpoint: Endpoint) -> Self {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .unwrap();
        let mut config = ClientConfig::clone(&endpoint.tls);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(endpoint.host).unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self {
            sender,
            port: endpoint.port,
        }
    }

    /// Sends a request with these headers and waits for the whole answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://localhost:{}{path}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = self.sender.clone().send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub(super) async fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::PUT, path, &[], body).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::POST, path, &[], body).await
    }

    /// A POST under an idempotency key.
    pub(super) async fn post_as(&self, key: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let headers = [("idempotency-key", key)];
        self.send(Method::POST, path, &headers, body).await
    }
}

impl Reply {
    /// The code of a refusal, which must be a problem document that agrees with its answer.
    pub(super) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(
            problem["instance"].as_str(),
            self.header("x-request-id"),
            "{problem}"
        );
        let code = problem["code"].as_str().unwrap();
        let kind = format!("urn:cos-escrow:problem:{}", code.replace('_', "-"));
        assert_eq!(problem["type"], kind);
        code.to_owned()
    }

    /// Status and code of a refusal.
    pub(super) fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The answers of a stream, one a line.
    pub(super) fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}
