//! Meters in this process: DLMS over TCP, as picky as real ones, failing on request, with nothing to hide from a test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use faults::{Faults, LockOut, TransferFault, UnknownFault};
pub use hostile::Hostile;
pub use meter::{Manners, MeterSeed, MeterState, OtherClients, SecretManner, SeedRegister};

use crate::dlms::wrapper::{Header, frame};
use association::{Association, Reply};
use meter::Meter;

mod association;
mod faults;
mod hostile;
pub mod iec62056_21;
mod meter;
mod objects;
mod service;

/// A running simulated meter. It stops when this is dropped.
pub struct Simulator {
    address: SocketAddr,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

/// What went over the line to one meter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: u32,
    /// Messages that came.
    pub messages: u32,
}

/// A meter and the line to it.
struct Line {
    meter: Mutex<Meter>,
    traffic: Mutex<Traffic>,
    latency: Mutex<Duration>,
}

impl Simulator {
    /// Starts a meter at `bind`; port 0 takes any free one.
    pub async fn start(bind: SocketAddr, seed: MeterSeed, faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line {
            meter: Mutex::new(Meter::new(seed, faults)),
            traffic: Mutex::default(),
            latency: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&line)));
        Ok(Self {
            address,
            line,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is like now.
    pub fn state(&self) -> MeterState {
        lock(&self.line.meter).state()
    }

    /// Puts it on a slow line: from now on a connection and each answer take so long.
    pub fn set_latency(&self, latency: Duration) {
        *lock(&self.line.latency) = latency;
    }

    /// What went over its line so far.
    pub fn traffic(&self) -> Traffic {
        *lock(&self.line.traffic)
    }

    /// Lets it fail in other ways from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.line.meter).faults = faults;
    }

    /// Cuts all connections and stops listening.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&line)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, line: Arc<Line>) {
    let mut association = Association::new();
    let _ = stream.set_nodelay(true);
    lock(&line.traffic).connections += 1;
    line.wait().await;
    // Any error is the end of the connection, as it is with a meter.
    let _ = talk(&mut stream, &mut association, &line).await;
    association.end(&mut lock(&line.meter));
}

async fn talk(
    stream: &mut TcpStream,
    association: &mut Association,
    line: &Line,
) -> io::Result<()> {
    loop {
        let mut header = [0; Header::BYTES];
        stream.read_exact(&mut header).await?;
        let header = Header::parse(header, MAX_BYTES).map_err(io::Error::other)?;
        let mut message = vec![0; header.length];
        stream.read_exact(&mut message).await?;
        lock(&line.traffic).messages += 1;
        let reply = association.handle(&mut lock(&line.meter), header.source, &message);
        let answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Silence => continue,
            Reply::Drop => return Ok(()),
        };
        let answer = frame(header.destination, header.source, &answer).map_err(io::Error::other)?;
        line.wait().await;
        stream.write_all(&answer).await?;
    }
}

impl Line {
    async fn wait(&self) {
        let latency = *lock(&self.latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
}

/// A test that panics while it looks at a meter does not break the meter.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAX_BYTES: usize = 4096;
