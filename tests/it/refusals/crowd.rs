//! Too many requests of one identity at a time: told so by the running service, and only as long as it is so.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cos_escrow::client::{Client, ClientError, Request};
use cos_escrow::tls::{PostQuantum, client_config};
use cos_escrow::types::SystemClock;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::live::{Live, now};

#[tokio::test]
async fn who_has_as_many_requests_under_way_as_it_may_is_told_so() {
    let live = Live::new();
    let file = live.path("escrow.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let limited = format!("{settings}\n[limits]\nmax_requests_per_party = 1\n");
    fs::write(&file, limited).unwrap();
    let service = live.start().await;
    let issued = live.issue("urn:cos-escrow:registrar:live", now());
    let registrar = live.client(&issued, &service);
    let auditor = live.staff("auditor", &service);

    // A feed whose first line does not come to its end.
    let mut tls = client_config(
        &live.material(&issued),
        PostQuantum::Preferred,
        Arc::new(SystemClock),
    )
    .unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(service.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let mut feed = connector.connect(name, tcp).await.unwrap();
    let head = "POST /v1/registrations HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\
                content-type: application/x-ndjson\r\n\r\n{";
    feed.write_all(head.as_bytes()).await.unwrap();

    // It is answered line by line: the answer has begun.
    let mut answer = [0; 12];
    in_time(async { assert!(feed.read_exact(&mut answer).await.is_ok()) }).await;
    assert_eq!(&answer, b"HTTP/1.1 200");
    let code = refused(&registrar).await;
    assert_eq!(code.as_deref(), Some("too_many_at_once"));
    assert_eq!(refused(&auditor).await, None, "others are not held up");
    drop(feed);
    in_time(async { while refused(&registrar).await.is_some() {} }).await;
}

/// The code with which a small request is refused.
async fn refused(client: &Client) -> Option<String> {
    match client.send(Request::get("/v1/log/checkpoint")).await {
        Ok(_) => None,
        Err(ClientError::Refused { status, code, .. }) => {
            assert_eq!(status, 429, "{code}");
            Some(code)
        }
        Err(error) => panic!("{error}"),
    }
}

async fn in_time(work: impl Future<Output = ()>) {
    let done = tokio::time::timeout(Duration::from_secs(8), work).await;
    done.expect("in time");
}
