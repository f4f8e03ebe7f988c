//! A line to a meter that breaks, stalls or garbles where a test wants it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cos_escrow::dlms::wrapper::Header;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::dice::Dice;

/// A TCP proxy in front of one meter.
pub(super) struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    task: JoinHandle<()>,
}

/// What is wrong with the line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flaw {
    /// Nothing.
    None,
    /// Both ends are cut off when this many bytes have gone in this direction, once.
    Cut(Direction, u64),
    /// The answer to the first transfer of keys never arrives, nor does anything after it on that connection.
    HoldTransfer,
    /// The meter's frames of this range, counted from 0, are mangled.
    Mangle { seed: u64, first: u64, count: u64 },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    ToMeter,
    ToClient,
}

pub(super) struct Line {
    meter: SocketAddr,
    flaw: Flaw,
    to_meter: AtomicU64,
    to_client: AtomicU64,
    frames: AtomicU64,
    /// Whether the flaw has shown, where it shows once.
    was_cut: AtomicBool,
    /// Every message that came.
    messages: Mutex<Vec<(Direction, Vec<u8>)>>,
    /// The meter has answered the transfer that is held.
    pub(super) sent: Notify,
}

impl Proxy {
    pub(super) async fn start(meter: SocketAddr, flaw: Flaw) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line {
            meter,
            flaw,
            to_meter: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            was_cut: AtomicBool::new(false),
            messages: Mutex::default(),
            sent: Notify::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&line)));
        Self {
            address,
            line,
            task,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Bytes that have gone through.
    pub(super) fn bytes(&self, direction: Direction) -> u64 {
        self.line.count(direction).load(Ordering::SeqCst)
    }

    pub(super) fn was_cut(&self) -> bool {
        self.line.was_cut.load(Ordering::SeqCst)
    }

    pub(super) fn messages(&self) -> Vec<(Direction, Vec<u8>)> {
        self.line.messages.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    fn count(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToMeter => &self.to_meter,
            Direction::ToClient => &self.to_client,
        }
    }

    /// How many of these bytes may still go; fewer than there are means that the line breaks here.
    fn passes(&self, direction: Direction, bytes: &[u8]) -> usize {
        let length = u64::try_from(bytes.len()).unwrap();
        let before = self.count(direction).fetch_add(length, Ordering::SeqCst);
        match self.flaw {
            Flaw::Cut(cut, at) if cut == direction && at < before + length => {
                if self.was_cut.swap(true, Ordering::SeqCst) {
                    return bytes.len();
                }
                usize::try_from(at.saturating_sub(before)).unwrap()
            }
            _ => bytes.len(),
        }
    }

    fn is_to_be_held(&self, direction: Direction, message: &[u8]) -> bool {
        let is_due = matches!(self.flaw, Flaw::HoldTransfer) && direction == Direction::ToMeter;
        is_due && is_transfer(message) && !self.was_cut.swap(true, Ordering::SeqCst)
    }

    fn mangle(&self, frame: Vec<u8>) -> Vec<u8> {
        let Flaw::Mangle { seed, first, count } = self.flaw else {
            return frame;
        };
        let number = self.frames.fetch_add(1, Ordering::SeqCst);
        match (first..first + count).contains(&number) {
            true => mangled(&mut Dice::new(seed, number), frame),
            false => frame,
        }
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(relay(client, Arc::clone(&line)));
        while connections.try_join_next().is_some() {}
    }
}

/// Both directions, until either ends: then both ends see the connection end.
async fn relay(client: TcpStream, line: Arc<Line>) {
    let Ok(meter) = TcpStream::connect(line.meter).await else {
        return;
    };
    let _ = (client.set_nodelay(true), meter.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_meter, to_meter) = meter.into_split();
    let is_held = AtomicBool::new(false);
    tokio::select! {
        _ = pump(from_client, to_meter, (Direction::ToMeter, &is_held), &line) => {}
        _ = pump(from_meter, to_client, (Direction::ToClient, &is_held), &line) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (direction, is_held): (Direction, &AtomicBool),
    line: &Line,
) -> std::io::Result<()> {
    loop {
        let mut frame = vec![0; Header::BYTES];
        from.read_exact(&mut frame).await?;
        let length = u16::from_be_bytes([frame[6], frame[7]]);
        frame.resize(Header::BYTES + usize::from(length), 0);
        from.read_exact(&mut frame[Header::BYTES..]).await?;
        let message = frame[Header::BYTES..].to_vec();
        if line.is_to_be_held(direction, &message) {
            is_held.store(true, Ordering::SeqCst);
        }
        line.messages.lock().unwrap().push((direction, message));
        if direction == Direction::ToClient {
            frame = line.mangle(frame);
        }
        if direction == Direction::ToClient && is_held.load(Ordering::SeqCst) {
            line.sent.notify_one();
            std::future::pending::<()>().await;
        }
        let passes = line.passes(direction, &frame);
        to.write_all(&frame[..passes]).await?;
        if passes < frame.len() {
            return Ok(());
        }
    }
}

/// A protected ACTION too long for a proof: keys.
fn is_transfer(message: &[u8]) -> bool {
    message.first() == Some(&0xCB) && message.len() > 60
}

/// Damages a frame of a meter, header included.
fn mangled(dice: &mut Dice, mut frame: Vec<u8>) -> Vec<u8> {
    let at = dice.below(frame.len());
    match dice.below(12) {
        0 => frame[at] ^= 1 << dice.below(8),
        1 => frame[at] = dice.byte(),
        2 => frame.truncate(at),
        3 => {
            let more = dice.bytes(1 + at);
            frame.extend(more);
        }
        4 => frame = [&frame[..], &frame[..]].concat(),
        5 => frame[6..8].fill(0xFF),
        6 => frame[6..8].fill(0),
        // A length within the message that promises more than there is.
        7 if frame.len() > 10 => frame[9] = [0x80, 0x81, 0x82, 0x84, 0xFF][dice.below(5)],
        8 => {
            let length = frame.len() - Header::BYTES;
            frame.truncate(Header::BYTES);
            frame.extend(dice.bytes(length));
        }
        9 => frame.drain(at..(at + 4).min(frame.len())).for_each(drop),
        10 => {
            frame = framed(
                &[0xD8, 1, [1, 5, 6][dice.below(3)], 0xFF, 0xFF, 0xFF, 0xFF],
                &frame,
            )
        }
        _ => frame = framed(&[0x0E, 0x06, 0x00, 0x06], &frame),
    }
    frame
}

/// Another message in the place of that of `frame`.
fn framed(message: &[u8], frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    [&frame[..6], &length, message].concat()
}
