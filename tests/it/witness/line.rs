//! The line to a witness: slow clients and too many of them, TLS and whom it convinces.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cos_escrow::http::WitnessServer;
use cos_escrow::http::listen::Limits;
use cos_escrow::identity::{Authority, pem};
use cos_escrow::tlog::LogKey;
use cos_escrow::tls::outside_config;
use cos_escrow::types::{Secret, SystemClock};
use cos_escrow::witness::{Unreachable, Witness, WitnessClient};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::{CHAIN, KEY, Kind};
use crate::live::{Live, now};

/// Serves a new witness on a free port, for as long as the guard lives.
async fn serve(folder: &Path, limits: Limits) -> (String, DropGuard) {
    Witness::create(folder, "witness.example/w1".parse().unwrap()).unwrap();
    let server = WitnessServer {
        witness: Arc::new(Witness::open(folder).unwrap()),
        clock: Arc::new(SystemClock),
        tls: None,
        limits,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(listener, stop.clone()));
    (address, stop.drop_guard())
}

#[tokio::test]
async fn a_client_that_never_finishes_its_header_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        header: SHORT,
        ..Limits::default()
    };
    let (address, _serving) = serve(folder.path(), limits).await;
    for said in [
        "",
        "GET /x/checkpoint HTTP/1.1\r\nhost: witness\r\nx-slow: ",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "{said:?}");
        let heard = String::from_utf8_lossy(&heard);
        assert!(!heard.contains(" 200 "), "{heard}");
    }
}

#[tokio::test]
async fn one_client_too_many_waits_until_a_silent_one_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        header: SHORT,
        max_connections: 2,
        ..Limits::default()
    };
    let (address, _serving) = serve(folder.path(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut third = TcpStream::connect(&address).await.unwrap();
    let request = "GET /x/checkpoint HTTP/1.1\r\nhost: witness\r\nconnection: close\r\n\r\n";
    third.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let answered = timeout(PATIENCE, third.read_to_string(&mut answer)).await;
    answered.expect("a place becomes free").unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_with_tls_is_believed_under_its_name_by_its_roots_alone() {
    let live = Live::new();
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("server.pem", CHAIN), ("server.key", KEY)] {
        std::fs::copy(live.pki(from), folder.path().join(to)).unwrap();
    }
    let log = LogKey::from_seed("log".parse().unwrap(), &Secret::new(vec![7; 32])).unwrap();
    let vkey = log.verifier().to_string();
    let prepared = Kind::OursWithTls.prepare(folder.path(), &vkey).await;
    let witness = prepared.serve("127.0.0.1:0").await;
    let root = pem::certificates(&std::fs::read(live.pki("root.pem")).unwrap());
    let other = Authority::create("other", now()).unwrap().root().clone();
    let by = |roots: &[_]| Arc::new(outside_config(roots, Arc::new(SystemClock)).unwrap());
    let (right, wrong) = (by(&root.unwrap()), by(&[other]));
    let elsewhere = witness.url.replace("localhost", "127.0.0.1");
    let plain = witness.url.replace("https", "http");
    for (url, tls, is_believed) in [
        (&witness.url, &right, true),
        (&witness.url, &wrong, false),
        (&elsewhere, &right, false),
        (&plain, &right, false),
    ] {
        let client = WitnessClient::new(url, Some(Arc::clone(tls)), PATIENCE).unwrap();
        match client.latest("nothing.example/log").await {
            Ok(latest) => assert!(is_believed && latest.is_none(), "{url}"),
            Err(error) => {
                assert!(!is_believed, "{url}: {error}");
                assert!(matches!(error, Unreachable::Lost(_)), "{url}: {error}");
            }
        }
    }
}

/// Short enough not to hold a test up, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(60);
