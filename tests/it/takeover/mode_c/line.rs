//! A line between us and a meter that is cut once, after a number of bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Carries bytes to a meter and back. Both ends speak strictly in turn, so counting the bytes of both directions together
/// names one point of the dialogue.
pub(super) struct Line {
    address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    carried: AtomicUsize,
    /// How many more bytes are carried before the cut, once that is armed.
    left: Mutex<Option<usize>>,
}

impl Line {
    pub(super) async fn to(meter: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, meter, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            counts,
            task,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the line once, when so many more bytes have been carried. Counting begins anew.
    pub(super) fn cut_after(&self, bytes: Option<usize>) {
        self.counts.carried.store(0, Ordering::SeqCst);
        *self.counts.left.lock().unwrap() = bytes;
    }

    /// How many bytes were carried since.
    pub(super) fn carried(&self) -> usize {
        self.counts.carried.load(Ordering::SeqCst)
    }

    /// Whether the cut has happened.
    pub(super) fn was_cut(&self) -> bool {
        self.counts.left.lock().unwrap().is_none()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counts {
    /// How many of these bytes may pass, and whether the line is cut then.
    fn pass(&self, bytes: usize) -> (usize, bool) {
        let mut left = self.left.lock().unwrap();
        let (pass, is_cut) = match *left {
            Some(some) if some < bytes => (some, true),
            _ => (bytes, false),
        };
        *left = match *left {
            Some(_) if is_cut => None,
            Some(some) => Some(some - bytes),
            None => None,
        };
        self.carried.fetch_add(pass, Ordering::SeqCst);
        (pass, is_cut)
    }
}

async fn carry(client: TcpStream, meter: SocketAddr, counts: Arc<Counts>) {
    let Ok(meter) = TcpStream::connect(meter).await else {
        return;
    };
    let (client_in, client_out) = client.into_split();
    let (meter_in, meter_out) = meter.into_split();
    // The first direction that ends takes the other one with it: both sockets are closed when their halves are dropped.
    tokio::select! {
        () = one_way(client_in, meter_out, &counts) => {}
        () = one_way(meter_in, client_out, &counts) => {}
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counts: &Counts) {
    let mut bytes = [0; 512];
    loop {
        let count = match from.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let (pass, is_cut) = counts.pass(count);
        if to.write_all(&bytes[..pass]).await.is_err() || is_cut {
            return;
        }
    }
}
