//! Meters in this process: DLMS over TCP, as picky as real ones, failing on request, with nothing to hide from a test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    meter: Arc<Mutex<Meter>>,
    task: JoinHandle<()>,
}

impl Simulator {
    /// Starts a meter at `bind`; port 0 takes any free one.
    pub async fn start(bind: SocketAddr, seed: MeterSeed, faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let address = listener.local_addr()?;
        let meter = Arc::new(Mutex::new(Meter::new(seed, faults)));
        let task = tokio::spawn(accept(listener, Arc::clone(&meter)));
        Ok(Self {
            address,
            meter,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is like now.
    pub fn state(&self) -> MeterState {
        lock(&self.meter).state()
    }

    /// Lets it fail in other ways from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.meter).faults = faults;
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

async fn accept(listener: TcpListener, meter: Arc<Mutex<Meter>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&meter)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, meter: Arc<Mutex<Meter>>) {
    let mut association = Association::new();
    let _ = stream.set_nodelay(true);
    // Any error is the end of the connection, as it is with a meter.
    let _ = talk(&mut stream, &mut association, &meter).await;
    association.end(&mut lock(&meter));
}

async fn talk(
    stream: &mut TcpStream,
    association: &mut Association,
    meter: &Mutex<Meter>,
) -> io::Result<()> {
    loop {
        let mut header = [0; Header::BYTES];
        stream.read_exact(&mut header).await?;
        let header = Header::parse(header, MAX_BYTES).map_err(io::Error::other)?;
        let mut message = vec![0; header.length];
        stream.read_exact(&mut message).await?;
        let reply = association.handle(&mut lock(meter), header.source, &message);
        let answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Silence => continue,
            Reply::Drop => return Ok(()),
        };
        let answer = frame(header.destination, header.source, &answer).map_err(io::Error::other)?;
        stream.write_all(&answer).await?;
    }
}

/// A test that panics while it looks at a meter does not break the meter.
fn lock(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

const MAX_BYTES: usize = 4096;
