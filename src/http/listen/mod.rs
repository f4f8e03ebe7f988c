//! The accept loop: connections that are mutual TLS, bounded in number, age and patience, and cut when trust ends.
//!
//! Every request carries `Arc<Peer>` and `ConnectInfo<SocketAddr>` in its extensions, and `Crowded` if its identity has
//! as many under way as it may. Whoever answers a request asks `LiveTls::still_valid` first: a connection outlives
//! certificates and revocation lists.
//!
//! Strangers and those who have proven who they are do not stand in one queue: a handshake has a place of its own, and
//! passes it on once the connection is served.

mod places;
mod running;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _, service_fn};

use crate::identity::IdentityError;
use crate::tls::{LiveTls, Peer};
use places::{Places, Seats};
use running::{Answering, Doing, Running};

/// Marks a request whose identity has as many under way as it may: to be refused.
#[derive(Clone, Copy, Debug)]
pub struct Crowded;

/// What one connection, and all of them together, may take up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Handshakes at a time, with those who wait for a place; more wait in the kernel's queue. 1,000.
    pub max_handshakes: usize,
    /// Served connections at a time. For one more, the one that has been idle longest is closed; where none is, the new
    /// one is closed when the time for its handshake is over. 10,000.
    pub max_connections: usize,
    /// Connections at a time of one identity; more are closed once the handshake has told whose they are. 1,000.
    pub max_connections_per_party: usize,
    /// Requests at a time of one identity, on all of its connections; more are marked as `Crowded`. 1,000.
    pub max_requests_per_party: usize,
    /// From the TCP connection to the end of the TLS handshake, and of the wait for a place. 5 seconds.
    pub handshake: Duration,
    /// From the handshake to the first request, from one HTTP/1.1 request to the next, and within a header. 10 seconds.
    pub header: Duration,
    /// Bytes of a request's headers, 8 KiB at least. 16 KiB.
    pub max_header_bytes: u32,
    /// Requests at a time on one HTTP/2 connection. 64.
    pub max_streams: u32,
    /// How long sent bytes may stay unacknowledged: the only bound on a client that stops reading. 20 seconds.
    pub write_stall: Duration,
    /// From then on a connection takes no new requests and ends with its last one. 10 minutes.
    pub max_age: Duration,
    /// How long running requests may take once the service, or a connection of full age, stops. 30 seconds.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_handshakes: 1_000,
            max_connections: 10_000,
            max_connections_per_party: 1_000,
            max_requests_per_party: 1_000,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            max_header_bytes: 16 << 10,
            max_streams: 64,
            write_stall: Duration::from_secs(20),
            max_age: Duration::from_secs(10 * 60),
            grace: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Before anything is read from a connection.
    pub(super) fn prepare(&self, tcp: &TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(self.write_stall))
    }

    pub(super) fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.header)
            .max_buf_size(self.max_header_bytes.max(LEAST_HEADER_BYTES) as usize);
        builder
    }
}

/// Serves `app` until `stop`; then accepts nothing more, lets running requests finish, and cuts what is left when the
/// grace is over.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<LiveTls>,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let server = Server {
        tls,
        app,
        places: Places::new(limits.max_connections),
        limits: Arc::new(limits),
        connections: Seats::default(),
        requests: Seats::default(),
        stop,
    };
    let limits = &server.limits;
    let connection = |arrival| server.clone().connection(arrival);
    serve_each(
        listener,
        limits,
        limits.max_handshakes,
        &server.stop,
        connection,
    )
    .await;
}

/// A connection as it is accepted, with its place among those that are accepted at a time.
pub(super) struct Arrival {
    pub(super) tcp: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) place: OwnedSemaphorePermit,
}

/// Has each connection served until `stop`, with `most` places that each gives back when it likes; then accepts nothing
/// more, and cuts what is left when the grace is over.
pub(super) async fn serve_each<C>(
    listener: TcpListener,
    limits: &Limits,
    most: usize,
    stop: &CancellationToken,
    serve: impl Fn(Arrival) -> C,
) where
    C: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    loop {
        // A place first: who finds none is not accepted.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            let place = place.expect("it is never closed");
            let (tcp, address) = accept(&listener).await;
            Arrival {
                tcp,
                address,
                place,
            }
        };
        let arrival = tokio::select! {
            () = stop.cancelled() => break,
            arrival = accepted => arrival,
        };
        let address = arrival.address;
        let connection = serve(arrival);
        let kill = kill.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                ended = connection => match ended {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%address, %error, "connection ended"),
                }
            }
        });
    }
    drop(listener);
    tasks.close();
    if timeout(limits.grace, tasks.wait()).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "grace is over, cutting connections"
        );
        kill.cancel();
        tasks.wait().await;
    }
}

/// Accepting fails for reasons of the peer, or for want of file descriptors: neither is a reason to stop.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Lets the refused read why. Closing at once would answer what they have already sent with a reset, and a reset
/// overtakes the alert.
async fn linger(mut tcp: TcpStream) {
    let drained = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(MAX_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // However it ends, the connection does.
    let _ = timeout(LINGER, drained).await;
}

/// Ends a connection that was never served as one that was: the client reads its end, and not a reset.
async fn close(mut stream: TlsStream<TcpStream>) {
    // However it ends, the connection does.
    let _ = timeout(LINGER, stream.shutdown()).await;
    let (tcp, _) = stream.into_inner();
    linger(tcp).await;
}

/// Ends a connection that found no room.
async fn refuse(stream: TlsStream<TcpStream>, why: Ended) -> Result<(), Ended> {
    metrics::counter!("cos_escrow_connections_refused_total").increment(1);
    close(stream).await;
    Err(why)
}

/// What all connections share.
#[derive(Clone)]
struct Server {
    tls: Arc<LiveTls>,
    app: Router,
    limits: Arc<Limits>,
    places: Places,
    connections: Seats,
    requests: Seats,
    stop: CancellationToken,
}

impl Server {
    async fn connection(self, arrival: Arrival) -> Result<(), Ended> {
        let Arrival {
            tcp,
            address,
            place: handshaking,
        } = arrival;
        self.limits.prepare(&tcp)?;
        // ORDER: before the trust is read, so that no reload between the two goes unseen.
        let epochs = self.tls.epochs();
        let by = Instant::now() + self.limits.handshake;
        let (stream, peer) = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            done = timeout_at(by, self.handshake(tcp)) => {
                done.map_err(|_| Ended::SlowHandshake)??
            }
        };
        let most = self.limits.max_connections_per_party;
        let Some(_seat) = self.connections.take(&peer.identity, most) else {
            return refuse(stream, Ended::TooMany).await;
        };
        let place = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            place = timeout_at(by, self.places.take()) => place,
        };
        let Ok(_place) = place else {
            return refuse(stream, Ended::NoPlace).await;
        };
        drop(handshaking);
        let peer = Arc::new(peer);
        tracing::debug!(%address, identity = %peer.identity, "connected");
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (does, doing) = watch::channel(None);
        let io = TokioIo::new(stream);
        let service = TowerToHyperService::new(self.requests(&peer, address, does));
        let guard = Guard {
            server: &self,
            peer: &peer,
            epochs,
            doing,
        };
        if http2 {
            let builder = self.http2();
            guard.watch(builder.serve_connection(io, service)).await
        } else {
            let builder = self.limits.http1();
            guard.watch(builder.serve_connection(io, service)).await
        }
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<(TlsStream<TcpStream>, Peer), Ended> {
        let (config, trust) = self.tls.current();
        let accepted = TlsAcceptor::from(config).accept(tcp).into_fallible().await;
        let stream = match accepted {
            Ok(stream) => stream,
            Err((error, tcp)) => {
                linger(tcp).await;
                return Err(error.into());
            }
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        let peer = Peer::verify(chain, &trust, self.tls.now())?;
        Ok((stream, peer))
    }

    /// The router, with what a request needs to know of its connection, and what is to be known of the request.
    fn requests(
        &self,
        peer: &Arc<Peer>,
        address: SocketAddr,
        doing: watch::Sender<Doing>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static {
        let peer = Arc::clone(peer);
        let (app, seats) = (self.app.clone(), self.requests.clone());
        let most = self.limits.max_requests_per_party;
        service_fn(move |request: Request<Incoming>| {
            let seat = seats.take(&peer.identity, most);
            let mut request = request.map(Body::new);
            let extensions = request.extensions_mut();
            extensions.insert(Arc::clone(&peer));
            extensions.insert(ConnectInfo(address));
            if seat.is_none() {
                extensions.insert(Crowded);
            }
            let running = Running::begin(&doing, seat);
            let app = app.clone();
            async move {
                let answer = app.oneshot(request).await?;
                Ok(answer.map(|body| Body::new(Answering::new(body, running))))
            }
        })
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.max_streams)
            .max_header_list_size(self.limits.max_header_bytes)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(self.limits.header);
        builder
    }
}

/// Watches over one connection.
struct Guard<'a> {
    server: &'a Server,
    peer: &'a Peer,
    epochs: watch::Receiver<u64>,
    doing: watch::Receiver<Doing>,
}

impl Guard<'_> {
    /// Drives the connection to its end. Returning drops it, and with it all of its running requests.
    async fn watch<C>(mut self, connection: C) -> Result<(), Ended>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        tokio::pin!(connection);
        let limits = &self.server.limits;
        let age = sleep(limits.max_age);
        let silence = sleep(limits.header);
        tokio::pin!(age, silence);
        loop {
            let doing = *self.doing.borrow_and_update();
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = self.server.stop.cancelled() => break,
                () = &mut age => break,
                () = &mut silence, if doing.is_none() => return Err(Ended::NoRequest),
                () = self.server.places.wanted(), if doing == Some(0) => break,
                Ok(()) = self.doing.changed() => {}
                changed = self.epochs.changed() => self.recheck(changed)?,
            }
        }
        connection.as_mut().graceful_shutdown();
        let grace = sleep(limits.grace);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = &mut grace => return Err(Ended::GraceOver),
                changed = self.epochs.changed() => self.recheck(changed)?,
            }
        }
    }

    fn recheck(&self, changed: Result<(), watch::error::RecvError>) -> Result<(), Ended> {
        let tls = &self.server.tls;
        changed.expect("the sender lives in the `LiveTls` that the server holds");
        tls.still_valid(self.peer, tls.now())?;
        Ok(())
    }
}

/// Why a connection was ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("no handshake in time")]
    SlowHandshake,
    #[error("its identity has as many connections as it may")]
    TooMany,
    #[error("no place in time")]
    NoPlace,
    #[error("no request in time")]
    NoRequest,
    #[error("requests still ran when the grace was over")]
    GraceOver,
    #[error(transparent)]
    NotTrusted(#[from] IdentityError),
    #[error(transparent)]
    Tls(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// How long a refused client has to read why.
const LINGER: Duration = Duration::from_secs(1);
/// How much of what it sends meanwhile is read.
const MAX_LINGER_BYTES: u64 = 64 << 10;
/// After a failure to accept; long enough for a file descriptor to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// hyper panics below that.
const LEAST_HEADER_BYTES: u32 = 8 << 10;
/// Between two HTTP/2 pings on a connection that is otherwise silent.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
