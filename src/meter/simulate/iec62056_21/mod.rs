//! Meters in this process that speak IEC 62056-21 mode C: three passwords, a lock, failing on request.
//!
//! ```text
//! level 1     reads registers                         ERR1  no such register
//! level 2     sets the clock as well                  ERR2  nobody has logged in
//! level 3     writes everything, passwords included   ERR3  not at this level
//!                                                     ERR4  not such a value
//! ```
//! Which level a password opens is decided by which password it is.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use faults::{Faults, WriteFault};
pub use meter::{MeterSeed, MeterState, PASSWORD_CHARACTERS, PASSWORD_LENGTH};

use crate::iec62056_21::stream::{Decoder, Sender};
use meter::Meter;
use session::{Reply, Session};

mod faults;
mod meter;
mod session;

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
    let mut session = Session::new();
    let _ = stream.set_nodelay(true);
    // Any error is the end of the connection, as it is with a meter.
    let _ = talk(&mut stream, &mut session, &meter).await;
    session.end(&mut lock(&meter));
}

async fn talk(
    stream: &mut TcpStream,
    session: &mut Session,
    meter: &Mutex<Meter>,
) -> io::Result<()> {
    let mut decoder = Decoder::new(Sender::Client);
    let mut bytes = [0; 512];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        for byte in &bytes[..count] {
            let heard = match decoder.take(*byte) {
                Ok(None) => continue,
                Ok(Some(message)) => Ok(message),
                Err(error) => Err(error),
            };
            let reply = session.hear(&mut lock(meter), heard);
            let Reply::Say(answer) = reply else {
                return Ok(());
            };
            stream.write_all(&answer).await?;
        }
    }
}

/// A test that panics while it looks at a meter does not break the meter.
fn lock(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}
