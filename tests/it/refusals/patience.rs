//! A client that begins a request and does not go on.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::world::World;

#[tokio::test]
async fn a_body_that_stands_still_is_answered_and_does_nothing() {
    let world = World::open().await;
    let identity = "urn:cos-escrow:party:lose".parse().unwrap();
    let endpoint = world.market.endpoint(identity).unwrap();
    let mut config = ClientConfig::clone(&endpoint.tls);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await;
    let name = ServerName::try_from(endpoint.host).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp.unwrap()).await.unwrap();

    let begun = b"POST /v1/deposits HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\n\
        content-length: 100\r\nconnection: close\r\n\r\n{\"seal\":";
    stream.write_all(begun).await.unwrap();
    let mut answer = Vec::new();
    // The service closes when it has answered; whether with a TLS alert first is no matter here.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("the body stood still"), "{answer}");
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}
