//! The limit of a takeover: the same connections and messages without a protocol, and the same cryptography without a
//! meter. Nobody can do without either.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::usage;
use crate::cli::exit::Failure;
use crate::cli::meter::allow_many_connections;
use crate::cli::output::Output;
use crate::dlms::SystemTitle;
use crate::dlms::ciphering::{
    AUTHENTICATED, CipherKeys, ENCRYPTED, Invocation, SecurityHeader, open, protect,
};
use crate::dlms::keys::{KeyRole, Suite, wrap};
use crate::envelope::{Kem, SealingKeyPair, possession};
use crate::meter::secrets::KeySet;
use crate::types::SystemRandom;

/// Does what a takeover cannot do without. Started by `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the other end of the line is.
    #[arg(long)]
    address: SocketAddr,
    /// How many meters' worth of it.
    #[arg(long)]
    meters: u32,
    /// Connections of one meter.
    #[arg(long)]
    connections: u32,
    /// Messages of one meter.
    #[arg(long)]
    messages: u32,
    /// Keys that one meter is sent.
    #[arg(long)]
    keys: u32,
    /// Meters at the same time.
    #[arg(long)]
    at_once: usize,
}

/// What it took.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Limit {
    /// For the line alone.
    pub(super) seconds: f64,
    /// For the line.
    pub(super) line_cpu: Duration,
    /// For the cryptography.
    pub(super) crypto_cpu: Duration,
}

/// Measures the limit and prints it as JSON.
pub async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    allow_many_connections();
    let start = usage()?;
    let began = Instant::now();
    stream::iter(0..arguments.meters)
        .map(|_| one(arguments))
        .buffer_unordered(arguments.at_once)
        .try_collect::<()>()
        .await?;
    let seconds = began.elapsed().as_secs_f64();
    let line = usage()?;
    let pair = SealingKeyPair::generate(Kem::XWing, &SystemRandom);
    for _ in 0..arguments.meters {
        cryptography(arguments, &pair)?;
    }
    output.json(&Limit {
        seconds,
        line_cpu: line.cpu.saturating_sub(start.cpu),
        crypto_cpu: usage()?.cpu.saturating_sub(line.cpu),
    })
}

/// The messages of one meter, over as many connections.
async fn one(arguments: &Arguments) -> Result<(), Failure> {
    let mut left = arguments.messages;
    for connection in 0..arguments.connections {
        let mut stream = TcpStream::connect(arguments.address)
            .await
            .map_err(Failure::failed)?;
        stream.set_nodelay(true).map_err(Failure::failed)?;
        let share = left / (arguments.connections - connection);
        left -= share;
        for _ in 0..share {
            exchange(&mut stream).await.map_err(Failure::failed)?;
        }
    }
    Ok(())
}

async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[0; MESSAGE_BYTES]).await?;
    let mut answer = [0; MESSAGE_BYTES];
    stream.read_exact(&mut answer).await.map(drop)
}

/// What one takeover protects, wraps and seals: every message both ways, every key, two packages to two keys each.
fn cryptography(arguments: &Arguments, pair: &SealingKeyPair) -> Result<(), Failure> {
    let keys = KeySet::random(Suite::Zero, &SystemRandom);
    let title = SystemTitle(*b"COSBENCH");
    let control = AUTHENTICATED | ENCRYPTED;
    for counter in 0..2 * arguments.messages {
        let invocation = Invocation { title, counter };
        let cipher: CipherKeys<'_> = keys.cipher_keys();
        let sealed = protect(control, cipher, invocation, &[0; 32]).map_err(Failure::failed)?;
        let (header, body) = SecurityHeader::split(&sealed).map_err(Failure::failed)?;
        // One of the two is the meter's, who pays for that himself.
        if counter % 2 == 1 {
            open(header, cipher, title, body).map_err(Failure::failed)?;
        }
    }
    for _ in 0..arguments.keys {
        wrap(keys.kek(), KeyRole::Guek, keys.gak()).map_err(Failure::failed)?;
    }
    for _ in 0..PACKAGES * RECIPIENTS {
        possession::challenge(pair.public(), &SystemRandom).map_err(Failure::failed)?;
    }
    Ok(())
}

/// The other end of the line: answers whatever comes, after a while.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    /// Starts to listen.
    pub(super) async fn start(latency: Duration) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.map_err(Failure::failed)?;
        let address = listener.local_addr().map_err(Failure::failed)?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, latency));
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, latency: Duration) {
    let _ = stream.set_nodelay(true);
    wait(latency).await;
    let mut message = [0; MESSAGE_BYTES];
    while stream.read_exact(&mut message).await.is_ok() {
        wait(latency).await;
        if stream.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn wait(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}

/// About as long as the messages of a takeover.
const MESSAGE_BYTES: usize = 64;
/// The keys of two rounds are deposited before they are sent.
const PACKAGES: usize = 2;
const RECIPIENTS: usize = 2;
