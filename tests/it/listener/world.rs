//! A listener on a free port, its throw-away PKI, a clock that the test moves, and clients of every kind.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use cos_escrow::http::listen::{Crowded, Limits, serve};
use cos_escrow::identity::{Authority, CertificateDer, Issued, Subject};
use cos_escrow::tls::{LiveTls, Material, Peer, PostQuantum, client_config, provider};
use cos_escrow::types::{Clock, ManualClock, Secret, Timestamp};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// Longer than any of these tests should take, and shorter than the limits that they do not set.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

pub(super) struct World {
    pub(super) authority: Authority,
    pub(super) clock: ManualClock,
    pub(super) tls: Arc<LiveTls>,
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<()>,
    /// `/slow` says when it was reached, and answers when told to.
    pub(super) slow: Arc<Slow>,
}

#[derive(Default)]
pub(super) struct Slow {
    pub(super) reached: Notify,
    pub(super) finish: Notify,
}

#[derive(Clone)]
struct App {
    tls: Arc<LiveTls>,
    slow: Arc<Slow>,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(super) async fn with(limits: Limits) -> Self {
        let authority = Authority::create("test", NOW).unwrap();
        let clock = ManualClock::at(NOW);
        let material = server_material(&authority, NOW);
        let tls = LiveTls::new(&material, PostQuantum::Preferred, Arc::new(clock.clone()));
        let tls = Arc::new(tls.unwrap());
        let slow = Arc::new(Slow::default());
        let app = Router::new()
            .route("/", get(who))
            .route("/slow", get(slowly))
            .with_state(App {
                tls: Arc::clone(&tls),
                slow: Arc::clone(&slow),
            });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Arc::clone(&tls), app, limits, stop.clone()));
        Self {
            authority,
            clock,
            tls,
            address,
            stop,
            serving,
            slow,
        }
    }

    /// Lists that are made now, and taken into use.
    pub(super) fn reload(&self) {
        let material = server_material(&self.authority, self.clock.now());
        self.tls.reload(&material).unwrap();
    }

    pub(super) fn party(&self, id: &str, days: u32) -> Issued {
        let subject = Subject::Client(format!("urn:cos-escrow:party:{id}").parse().unwrap());
        self.authority.issue(&subject, days, NOW).unwrap()
    }

    /// Our own client's configuration.
    pub(super) fn config(&self, issued: &Issued, post_quantum: PostQuantum) -> ClientConfig {
        let material = Material {
            chain: issued.chain.clone(),
            key: Secret::new(issued.key.as_ref().unwrap().expose().to_vec()),
            roots: vec![self.authority.root().clone()],
            lists: self
                .authority
                .lists(NOW, NOW.after(30 * DAY))
                .unwrap()
                .into(),
        };
        client_config(&material, post_quantum, Arc::new(self.clock.clone())).unwrap()
    }

    /// The configuration of a client that does not check what it sends.
    pub(super) fn careless(
        &self,
        own: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
    ) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.root().clone()).unwrap();
        let time = Arc::new(TestTime(self.clock.clone()));
        let provider = Arc::new(provider(PostQuantum::Preferred));
        let builder = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, PrivatePkcs8KeyDer::from(key).into())
                .unwrap(),
        }
    }

    pub(super) async fn handshake(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    /// An HTTP/1.1 connection that has answered one request.
    pub(super) async fn connect(&self, issued: &Issued) -> Connection {
        let mut config = self.config(issued, PostQuantum::Preferred);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = self.handshake(config).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let ended = tokio::spawn(async move { connection.await.is_ok() });
        let mut connected = Connection { sender, ended };
        // A client thinks itself connected before the server has seen its certificate.
        connected.get("/").await.unwrap();
        connected
    }

    /// A connection that has asked for `/slow`, which is under way; and its answer, once it is told to be.
    pub(super) async fn busy(&self, issued: &Issued) -> JoinHandle<Result<String, String>> {
        let mut connection = self.connect(issued).await;
        let answer = tokio::spawn(async move { connection.get("/slow").await });
        let reached = timeout(PATIENCE, self.slow.reached.notified()).await;
        reached.expect("it is asked");
        answer
    }

    /// One request on a connection of its own: the whole way, as a refusal reaches a TLS 1.3 client after its handshake.
    pub(super) async fn request(&self, mut config: ClientConfig) -> Result<String, String> {
        config.alpn_protocols.clear();
        let stream = self.handshake(config).await.map_err(|e| e.to_string())?;
        request_on(stream).await
    }
}

/// One request on a fresh connection; an error tells the whole chain of causes.
pub(super) async fn request_on(stream: TlsStream<TcpStream>) -> Result<String, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| causes(&error))?;
    tokio::spawn(connection);
    get_text(&mut sender, "/").await
}

pub(super) struct Connection {
    pub(super) sender: SendRequest<Empty<Bytes>>,
    /// Ends with the connection: true if in good order.
    pub(super) ended: JoinHandle<bool>,
}

impl Connection {
    pub(super) async fn get(&mut self, path: &str) -> Result<String, String> {
        get_text(&mut self.sender, path).await
    }
}

async fn get_text(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Result<String, String> {
    let request = hyper::Request::get(path).header("host", "localhost");
    let answer = sender
        .send_request(request.body(Empty::new()).unwrap())
        .await
        .map_err(|error| causes(&error))?;
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| causes(&error))?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub(super) fn server_material(authority: &Authority, now: Timestamp) -> Material {
    let localhost = Subject::Server(vec!["localhost".to_owned()]);
    let issued = authority.issue(&localhost, 90, NOW).unwrap();
    Material {
        chain: issued.chain,
        key: issued.key.unwrap(),
        roots: vec![authority.root().clone()],
        lists: authority.lists(now, now.after(7 * DAY)).unwrap().into(),
    }
}

async fn who(
    State(app): State<App>,
    Extension(peer): Extension<Arc<Peer>>,
    crowded: Option<Extension<Crowded>>,
) -> String {
    if crowded.is_some() {
        return "crowded".to_owned();
    }
    match app.tls.still_valid(&peer, app.tls.now()) {
        Ok(()) => peer.identity.to_string(),
        Err(error) => error.code().to_string(),
    }
}

async fn slowly(State(app): State<App>) -> &'static str {
    app.slow.reached.notify_one();
    app.slow.finish.notified().await;
    "done"
}

struct TestTime(ManualClock);

impl rustls::time_provider::TimeProvider for TestTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = Duration::from_secs(self.0.now().as_seconds());
        Some(UnixTime::since_unix_epoch(seconds))
    }
}

impl std::fmt::Debug for TestTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestTime")
    }
}
