//! A conversation with a mode C meter over TCP, with a time limit on everything.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::iec62056_21::command::Command;
use crate::iec62056_21::sign_on::{Identification, Mode, OptionSelect, SignOn};
use crate::iec62056_21::stream::{Decoder, Message, Sender};
use crate::meter::link::{LinkError, Station};

/// A meter that answers.
pub(super) struct Conversation {
    stream: TcpStream,
    decoder: Decoder,
    /// What has come and was not looked at: these of `bytes`.
    unread: std::ops::Range<usize>,
    bytes: [u8; 512],
    answer_within: Duration,
}

impl Conversation {
    /// Calls the meter and says how to go on. Nothing secret has been said yet, so whatever goes wrong says nothing of
    /// secrets either.
    pub(super) async fn begin(
        station: &Station,
        call: &SignOn,
        mode: Mode,
    ) -> Result<(Self, Identification), LinkError> {
        let line = &station.profile.line;
        let stream = timeout(line.connect_within(), TcpStream::connect(station.address))
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(LinkError::Unreachable)?;
        // Messages are small and strictly in turn: waiting for more to send only costs time.
        let _ = stream.set_nodelay(true);
        let mut conversation = Self {
            stream,
            decoder: Decoder::new(Sender::Meter),
            unread: 0..0,
            bytes: [0; 512],
            answer_within: line.answer_within(),
        };
        let named = conversation.sign_on(call, mode).await?;
        Ok((conversation, named))
    }

    async fn sign_on(&mut self, call: &SignOn, mode: Mode) -> Result<Identification, LinkError> {
        let Message::Line(line) = self.ask(&call.encode()).await? else {
            return Err(LinkError::Garbled);
        };
        let named = line.identification().map_err(|_| LinkError::Garbled)?;
        let baud = named.baud();
        self.say(&OptionSelect { baud, mode }.encode()).await?;
        Ok(named)
    }

    /// Says something and hears what is answered.
    pub(super) async fn ask(&mut self, bytes: &[u8]) -> Result<Message, LinkError> {
        self.say(bytes).await?;
        self.hear().await
    }

    /// The next message.
    pub(super) async fn hear(&mut self) -> Result<Message, LinkError> {
        let within = self.answer_within;
        timeout(within, self.next())
            .await
            .map_err(|_| LinkError::TimedOut)?
    }

    /// Ends it, as far as the meter still listens.
    pub(super) async fn end(mut self) {
        let _ = self.say(&Command::BREAK.encode()).await;
        let _ = timeout(self.answer_within, self.stream.shutdown()).await;
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let said = timeout(self.answer_within, self.stream.write_all(bytes)).await;
        said.map_err(|_| LinkError::TimedOut)?
            .map_err(|_| LinkError::Unreachable)
    }

    async fn next(&mut self) -> Result<Message, LinkError> {
        loop {
            for at in self.unread.by_ref() {
                match self.decoder.take(self.bytes[at]) {
                    Ok(None) => {}
                    Ok(Some(message)) => return Ok(message),
                    Err(_) => return Err(LinkError::Garbled),
                }
            }
            let read = self.stream.read(&mut self.bytes).await;
            match read {
                Ok(0) | Err(_) => return Err(LinkError::Unreachable),
                Ok(count) => self.unread = 0..count,
            }
        }
    }
}
