//! Frames over TCP, with a time limit on everything.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LinkError;
use crate::dlms::wrapper::{Header, frame};
use crate::meter::profile::Line;

/// A connection between one client of ours and one logical device of a meter.
pub(super) struct Transport {
    stream: TcpStream,
    client: u16,
    server: u16,
    answer_within: Duration,
}

impl Transport {
    pub(super) async fn connect(
        address: SocketAddr,
        (client, server): (u16, u16),
        line: &Line,
    ) -> Result<Self, LinkError> {
        let stream = timeout(line.connect_within(), TcpStream::connect(address))
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(LinkError::Unreachable)?;
        // Frames are small and strictly in turn: waiting for more to send only costs time.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            client,
            server,
            answer_within: line.answer_within(),
        })
    }

    /// Sends one message and returns the one that answers it.
    pub(super) async fn exchange(&mut self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        timeout(self.answer_within, self.send_and_receive(message))
            .await
            .map_err(|_| LinkError::TimedOut)?
    }

    async fn send_and_receive(&mut self, message: &[u8]) -> Result<Vec<u8>, LinkError> {
        let request = frame(self.client, self.server, message).map_err(|_| LinkError::Garbled)?;
        let closed = |_| LinkError::Closed;
        self.stream.write_all(&request).await.map_err(closed)?;
        let mut header = [0; Header::BYTES];
        self.stream.read_exact(&mut header).await.map_err(closed)?;
        let header = Header::parse(header, MAX_BYTES).map_err(|_| LinkError::Garbled)?;
        if (header.source, header.destination) != (self.server, self.client) {
            return Err(LinkError::Garbled);
        }
        let mut answer = vec![0; header.length];
        self.stream.read_exact(&mut answer).await.map_err(closed)?;
        Ok(answer)
    }
}

/// The longest message we take, and announce that we take, protection included.
pub(super) const MAX_BYTES: usize = 2048;
