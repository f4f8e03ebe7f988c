//! The service as it looks from outside: `curl` and `openssl`, which share no code with it.

use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::cli::demo::events::Event;
use cos_escrow::cli::demo::play::handover;
use cos_escrow::client::Request;
use cos_escrow::envelope::{Kem, Release};
use cos_escrow::identity::{Authority, Subject};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::child::command;
use crate::live::{DAY, Live, Service, deposit_of, now, release_request};

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_a_release_only_as_the_gaining_supplier() {
    let (live, service) = Live::open().await;
    let event = deposited(&live, &service).await;

    live.write_issued("gainer", &live.gainer.tls);
    let answer = curl(&live, &service, &event, "gainer").await;
    assert_eq!(answer.status, "200", "{}", answer.said);
    let release = answer.body["release"].as_str().unwrap();
    let release = Release::decode(&BASE64_STANDARD.decode(release).unwrap()).unwrap();
    let package = event.package().unwrap().to_json();
    let mut opened = release.open(&live.gainer.sealing);
    assert!(opened.any(|(_, content)| content.unwrap().expose() == package.expose()));

    // Who may connect and is not the gainer sees a handover that does not exist, or is not its own to have.
    live.write_issued("loser", &live.loser.tls);
    let stranger = live.issue("urn:cos-escrow:party:stranger", now());
    live.write_issued("stranger", &stranger);
    for name in ["loser", "stranger"] {
        let answer = curl(&live, &service, &event, name).await;
        assert!(
            ["403", "404"].contains(&answer.status.as_str()),
            "{name}: {}",
            answer.status
        );
        assert_eq!(answer.body["release"], Value::Null, "{name}");
        assert!(answer.body["code"].is_string(), "{name}: {}", answer.body);
    }

    // Who may not connect gets no answer at all, whosever name is on the certificate.
    let gainer = format!("urn:cos-escrow:party:{}", live.gainer.party);
    let expired = live.issue(&gainer, now().before(100 * DAY));
    live.write_issued("expired", &expired);
    let foreign = Authority::create("foreign", now()).unwrap();
    let foreign = foreign.issue(&Subject::Client(gainer.parse().unwrap()), 30, now());
    live.write_issued("foreign", &foreign.unwrap());
    live.write_issued("revoked", &live.gainer.tls);
    live.revoke(&live.gainer.tls.certificate.serial);
    service.signal(Signal::HUP);
    until_refused(&live, &service, "revoked").await;
    for (name, alert) in [
        ("expired", "certificate expired"),
        ("revoked", "certificate revoked"),
        ("foreign", "unknown ca"),
    ] {
        let answer = curl(&live, &service, &event, name).await;
        assert_eq!(
            (answer.status.as_str(), &answer.body),
            ("000", &Value::Null),
            "{name}"
        );
        assert!(answer.said.contains(alert), "{name}: {}", answer.said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_sees_tls_1_3_without_tickets_and_nothing_older() {
    let (live, service) = Live::open().await;
    live.write_issued("party", &live.loser.tls);
    let request = "GET /v1/log/checkpoint HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    let seen = openssl(&live, &service, "party", "-tls1_3", request).await;
    assert!(seen.contains("New, TLSv1.3, Cipher is TLS_"), "{seen}");
    assert!(seen.contains("Verify return code: 0 (ok)"), "{seen}");
    assert!(seen.contains("HTTP/1.1 200"), "{seen}");
    assert!(seen.contains("live.cos-escrow.example/log/1"), "{seen}");
    assert!(!seen.contains(TICKET), "{seen}");
    assert!(
        !live.path(SESSION).exists(),
        "a session that could be resumed"
    );

    let older = openssl(&live, &service, "party", "-tls1_2", request).await;
    assert!(older.contains("alert protocol version"), "{older}");
    assert!(!older.contains("HTTP/1.1"), "{older}");
    assert!(service.stop().await.success());
}

#[tokio::test]
async fn openssl_would_have_shown_a_ticket() {
    let live = Live::new();
    live.write_issued("party", &live.loser.tls);
    let mut server = command("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-tls1_3"])
        .arg("-cert")
        .arg(live.pki("server.pem"))
        .arg("-key")
        .arg(live.pki("server.key"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed by tests/run");
    let port = announced_port(&mut server).await;
    let seen = s_client(&live, port, "party", "-tls1_3", "GET / HTTP/1.0\r\n\r\n").await;
    assert!(seen.contains(TICKET), "{seen}");
    assert!(live.path(SESSION).exists());
}

/// A handover whose package has been deposited.
async fn deposited(live: &Live, service: &Service) -> Event {
    let event = live.event(0);
    let registrar = live.staff("registrar", service);
    live.register(&registrar, std::slice::from_ref(&event))
        .await
        .unwrap();
    let operator = live.staff("operator", service);
    let stranger = json!({ "id": "stranger", "name": "Stranger" }).to_string();
    operator
        .send(Request::post("/v1/parties", stranger))
        .await
        .unwrap();
    let loser = live.client(&live.loser.tls, service);
    let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
    loser
        .acknowledged(deposit_of(&event, &live.loser, &escrow))
        .await
        .unwrap();
    event
}

/// What `curl` got.
struct Answer {
    /// The HTTP status; `000` if there was none.
    status: String,
    body: Value,
    said: String,
}

/// Asks for the release with the certificate of this name.
async fn curl(live: &Live, service: &Service, event: &Event, name: &str) -> Answer {
    let port = service.address.port();
    let url = format!(
        "https://localhost:{port}/v1/handovers/{}/release",
        handover(event)
    );
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--tlsv1.3"])
        .args(["--write-out", "\n%{http_code}"])
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1")])
        .arg("--cacert")
        .arg(live.pki("root.pem"))
        .arg("--cert")
        .arg(live.pki(&format!("{name}.pem")))
        .arg("--key")
        .arg(live.pki(&format!("{name}.key")))
        .args(["--header", "content-type: application/json"])
        .args(["--header", &format!("idempotency-key: curl-{name}")])
        .args(["--data", &release_request(event).to_string()])
        .arg(url)
        .output()
        .await
        .expect("curl is installed by tests/run");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    Answer {
        status: status.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits until the service has read its lists again.
async fn until_refused(live: &Live, service: &Service, name: &str) {
    let event = live.event(0);
    for _ in 0..100 {
        if curl(live, service, &event, name).await.status == "000" {
            return;
        }
    }
    panic!("`{name}` is still served");
}

async fn openssl(
    live: &Live,
    service: &Service,
    name: &str,
    version: &str,
    request: &str,
) -> String {
    s_client(live, service.address.port(), name, version, request).await
}

/// All that `openssl s_client` says of a connection with the certificate of this name, and of one request on it.
async fn s_client(live: &Live, port: u16, name: &str, version: &str, request: &str) -> String {
    let mut client = command("openssl")
        .args([
            "s_client",
            "-ign_eof",
            "-connect",
            &format!("127.0.0.1:{port}"),
        ])
        .args(["-servername", "localhost", "-verify_hostname", "localhost"])
        .arg(version)
        .arg("-sess_out")
        .arg(live.path(SESSION))
        .arg("-CAfile")
        .arg(live.pki("root.pem"))
        .arg("-cert")
        .arg(live.pki(&format!("{name}.pem")))
        .arg("-cert_chain")
        .arg(live.pki("issuing.pem"))
        .arg("-key")
        .arg(live.pki(&format!("{name}.key")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed by tests/run");
    let mut stdin = client.stdin.take().unwrap();
    // A refused client is gone before it reads.
    let _ = stdin.write_all(request.as_bytes()).await;
    drop(stdin);
    let Output { stdout, stderr, .. } = client.wait_with_output().await.unwrap();
    String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()
}

/// The port in `ACCEPT 127.0.0.1:PORT`.
async fn announced_port(server: &mut tokio::process::Child) -> u16 {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            return address.rsplit(':').next().unwrap().parse().unwrap();
        }
    }
    panic!("openssl s_server does not say where it listens");
}

/// What `openssl s_client` says of a ticket.
const TICKET: &str = "New Session Ticket arrived";
/// Where it keeps a session that could be resumed.
const SESSION: &str = "session.pem";
