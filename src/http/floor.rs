//! The floor that `bench` measures beside the service: the same TLS and HTTP, one AES-GCM, one durable write with
//! others, and nothing else.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::listen::{Limits, serve};
use crate::envelope::{Context, Kek};
use crate::tls::LiveTls;
use crate::types::SystemRandom;

type Write = (Vec<u8>, oneshot::Sender<()>);

/// A listener that does only the unavoidable.
pub struct Floor {
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Clone)]
struct Doors {
    kek: Arc<Kek>,
    writes: mpsc::Sender<Write>,
}

impl Floor {
    /// Listens on a free port of loopback and writes to a new file. It ends with the process.
    pub async fn start(tls: Arc<LiveTls>, file: &Path) -> io::Result<Self> {
        let (writes, queue) = mpsc::channel(4_096);
        let file = tokio::fs::File::create(file).await?;
        tokio::spawn(write(file, queue));
        let doors = Doors {
            kek: Arc::new(Kek::random(&SystemRandom)),
            writes,
        };
        let app = Router::new().fallback(put).with_state(doors);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, tls, app, Limits::default(), stop));
        Ok(Self { address })
    }
}

async fn put(State(doors): State<Doors>, body: Bytes) -> StatusCode {
    let sealed = doors
        .kek
        .seal_at_rest(&Context::new("floor"), &body, &SystemRandom);
    let (done, written) = oneshot::channel();
    let sent = doors.writes.send((sealed, done)).await.is_ok();
    match sent && written.await.is_ok() {
        true => StatusCode::OK,
        false => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Natural group commit: whatever queued while the last write became durable is written together.
async fn write(mut file: tokio::fs::File, mut queue: mpsc::Receiver<Write>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, 512).await > 0 {
        let bytes: Vec<u8> = batch.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        if file.write_all(&bytes).await.is_err() || file.sync_data().await.is_err() {
            return;
        }
        for (_, done) in batch.drain(..) {
            let _ = done.send(());
        }
    }
}
