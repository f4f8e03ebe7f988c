//! SIGHUP and SIGTERM under load: nobody who may speak is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cos_escrow::client::{Client, ClientError, Request};
use cos_escrow::envelope::Kem;
use cos_escrow::tls::{PostQuantum, client_config};
use cos_escrow::types::SystemClock;
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::live::{Live, Service, deposit_body, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_under_load_cuts_the_revoked_and_nobody_else() {
    let (live, service) = Live::open().await;
    let readers = Readers::start(&live, &service);
    let revoked = live.issue(
        &format!("urn:cos-escrow:party:{}", live.gainer.party),
        now(),
    );
    let client = live.client(&revoked, &service);
    client.verified_checkpoint().await.unwrap();

    live.revoke(&revoked.certificate.serial);
    service.signal(Signal::HUP);
    let cut = timeout(PATIENCE, async {
        loop {
            if let Err(error) = client.verified_checkpoint().await {
                return error;
            }
            sleep(PAUSE).await;
        }
    });
    let cut = cut.await.expect("a revoked certificate is refused");
    assert!(!matches!(cut, ClientError::Verification(_)), "{cut}");
    // A new connection does not help, and neither does time.
    let before = readers.answered();
    for _ in 0..3 {
        service.signal(Signal::HUP);
        assert!(
            live.client(&revoked, &service)
                .verified_checkpoint()
                .await
                .is_err()
        );
    }
    while readers.answered() < before + 50 {
        sleep(PAUSE).await;
    }
    let answered = readers.finish().await;
    assert!(answered >= 50, "{answered}");
    assert!(service.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_requests_finish() {
    let (live, service) = Live::open().await;
    let event = live.event(0);
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, std::slice::from_ref(&event))
        .await
        .unwrap();
    let body = deposit_request(&live, &service).await;
    let mut stream = connect(&live, &service).await;
    let (head, content) = body.split_at(body.find("\r\n\r\n").unwrap() + 4);
    let (first, rest) = content.split_at(content.len() / 2);
    stream.write_all(head.as_bytes()).await.unwrap();
    // It is asked for once the request runs.
    let mut asked = [0; CONTINUE.len()];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(asked, CONTINUE);
    stream.write_all(first.as_bytes()).await.unwrap();

    service.signal(Signal::TERM);
    let refused = timeout(PATIENCE, async {
        while TcpStream::connect(service.address).await.is_ok() {
            sleep(PAUSE).await;
        }
    });
    refused
        .await
        .expect("a stopping service accepts nothing more");
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that ends without a TLS alert is an error only after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(timeout(PATIENCE, service.ended()).await.unwrap().success());

    let service = live.start().await;
    let list = Request::get("/v1/handovers?role=losing");
    let loser = live.client(&live.loser.tls, &service);
    let list: Value = loser.send(list).await.unwrap().json().unwrap();
    assert_eq!(list["handovers"][0]["state"], "deposited");
}

/// A whole HTTP/1.1 request that deposits for the first handover.
async fn deposit_request(live: &Live, service: &Service) -> String {
    let loser = live.client(&live.loser.tls, service);
    let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
    let event = live.event(0);
    let body = deposit_body(&event, &live.loser, &escrow);
    let handover = cos_escrow::cli::demo::play::handover(&event);
    format!(
        "POST /v1/handovers/{handover}/deposit HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         idempotency-key: slow\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn connect(live: &Live, service: &Service) -> TlsStream<TcpStream> {
    let material = live.material(&live.loser.tls);
    let tls = client_config(&material, PostQuantum::Preferred, Arc::new(SystemClock));
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(service.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(tls))
        .connect(name, tcp)
        .await
        .unwrap()
}

/// Clients that ask without a pause, and to which every refusal is a failure.
struct Readers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Readers {
    fn start(live: &Live, service: &Service) -> Self {
        let mut readers = Self {
            tasks: JoinSet::new(),
            stop: Arc::default(),
            answered: Arc::default(),
        };
        for issued in [&live.loser.tls, &live.gainer.tls] {
            for _ in 0..4 {
                let client = live.client(issued, service);
                let (stop, answered) = (Arc::clone(&readers.stop), Arc::clone(&readers.answered));
                readers.tasks.spawn(read_until(client, stop, answered));
            }
        }
        readers
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.answered.load(Ordering::Relaxed)
    }
}

async fn read_until(client: Client, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        client
            .verified_checkpoint()
            .await
            .expect("who is not revoked is answered");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

const CONTINUE: [u8; 25] = *b"HTTP/1.1 100 Continue\r\n\r\n";
/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
