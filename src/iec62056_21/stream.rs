//! From a stream of bytes to messages, byte by byte, with a bound on what a peer can make us keep.

use zeroize::{Zeroize as _, Zeroizing};

use super::command::Command;
use super::data::Reply;
use super::sign_on::{Identification, OptionSelect, SignOn};
use super::{ACK, EOT, ETX, Malformed, NAK, SOH, STX, bcc};
use crate::types::Secret;

/// A message, whole, its check character verified.
pub enum Message {
    /// `/` and a line.
    Line(Block),
    /// How to go on.
    Option(OptionSelect),
    /// Yes.
    Ack,
    /// No.
    Nak,
    /// What began with SOH.
    Command(Block),
    /// What began with STX.
    Data(Block),
}

/// The characters of a message, without those that frame it. It may hold a password.
pub struct Block(Secret);

impl Block {
    /// As a call.
    pub fn sign_on(&self) -> Result<SignOn, Malformed> {
        SignOn::parse(self.text()?)
    }

    /// As the answer to a call.
    pub fn identification(&self) -> Result<Identification, Malformed> {
        Identification::parse(self.text()?)
    }

    /// As a command; `None` if it is one that nothing here knows.
    pub fn command(&self) -> Result<Option<Command<'_>>, Malformed> {
        Command::parse(self.text()?)
    }

    /// As an answer to a read or a refusal.
    pub fn reply(&self) -> Result<Reply<'_>, Malformed> {
        Reply::parse(self.text()?)
    }

    fn text(&self) -> Result<&str, Malformed> {
        str::from_utf8(self.0.expose()).map_err(|_| Malformed::Form)
    }
}

/// Who sends the bytes: ACK alone is an answer of the meter's, and the beginning of an option of the client's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
    /// The client.
    Client,
    /// The meter.
    Meter,
}

/// Puts the bytes of one sender together. After an error it begins anew with the next byte.
pub struct Decoder {
    sender: Sender,
    state: State,
    /// Never longer than a message may be, and reserved in full: no reallocation leaves a copy of a password behind.
    buffer: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    Line,
    Option,
    Block(u8),
    Check(u8),
}

impl Decoder {
    /// For what this sender says.
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            state: State::Idle,
            buffer: Zeroizing::new(Vec::with_capacity(MAX_BLOCK_BYTES)),
        }
    }

    /// Takes a byte; a message, if it was the last of one.
    pub fn take(&mut self, byte: u8) -> Result<Option<Message>, Malformed> {
        let taken = self.step(byte);
        if !matches!(taken, Ok(None)) {
            self.state = State::Idle;
            self.buffer.zeroize();
        }
        taken
    }

    fn step(&mut self, byte: u8) -> Result<Option<Message>, Malformed> {
        if !byte.is_ascii() {
            return Err(Malformed::Character(byte));
        }
        match (self.state, byte) {
            (State::Idle, _) => return self.begin(byte),
            (State::Line, b'\n') => return self.line().map(Some),
            (State::Line, _) => self.keep(byte, MAX_LINE_BYTES)?,
            (State::Option, _) => {
                self.keep(byte, OPTION_BYTES)?;
                if self.buffer.len() == OPTION_BYTES {
                    let option = OptionSelect::parse(&self.buffer)?;
                    return Ok(Some(Message::Option(option)));
                }
            }
            (State::Block(_), EOT) => return Err(Malformed::Partial),
            (State::Block(first), ETX) => self.state = State::Check(first),
            (State::Block(_), _) => self.keep(byte, MAX_BLOCK_BYTES)?,
            (State::Check(first), _) => return self.block(first, byte).map(Some),
        }
        Ok(None)
    }

    fn begin(&mut self, byte: u8) -> Result<Option<Message>, Malformed> {
        self.state = match (byte, self.sender) {
            // Battery-powered meters are woken up with these.
            (0, _) => State::Idle,
            (b'/', _) => {
                self.buffer.push(byte);
                State::Line
            }
            (SOH | STX, _) => State::Block(byte),
            (ACK, Sender::Client) => State::Option,
            (ACK, Sender::Meter) => return Ok(Some(Message::Ack)),
            (NAK, _) => return Ok(Some(Message::Nak)),
            (other, _) => return Err(Malformed::Start(other)),
        };
        Ok(None)
    }

    fn keep(&mut self, byte: u8, max: usize) -> Result<(), Malformed> {
        if self.buffer.len() == max {
            return Err(Malformed::TooLong);
        }
        self.buffer.push(byte);
        Ok(())
    }

    fn line(&mut self) -> Result<Message, Malformed> {
        match self.buffer.pop() {
            Some(b'\r') => Ok(Message::Line(self.content())),
            _ => Err(Malformed::Form),
        }
    }

    fn block(&mut self, first: u8, check: u8) -> Result<Message, Malformed> {
        if bcc(&self.buffer) ^ ETX != check {
            return Err(Malformed::Checksum);
        }
        let content = self.content();
        Ok(match first {
            SOH => Message::Command(content),
            _ => Message::Data(content),
        })
    }

    fn content(&mut self) -> Block {
        Block(Secret::take_from(&mut self.buffer))
    }
}

/// The longest readout that is taken; what is read or written singly is far shorter.
pub const MAX_BLOCK_BYTES: usize = 4096;
const MAX_LINE_BYTES: usize = 64;
const OPTION_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::iec62056_21::command::Verb;
    use crate::iec62056_21::data::{DataSet, block, readout};

    /// Everything that comes out, in words.
    fn heard(sender: Sender, bytes: &[u8]) -> Vec<Result<String, Malformed>> {
        let mut decoder = Decoder::new(sender);
        let heard = bytes
            .iter()
            .filter_map(|byte| decoder.take(*byte).transpose());
        heard.map(|message| message.map(described)).collect()
    }

    #[expect(clippy::needless_pass_by_value, reason = "`map` hands messages over")]
    fn described(message: Message) -> String {
        let text = |block: &Block| block.text().unwrap().to_owned();
        match &message {
            Message::Line(line) => text(line),
            Message::Option(option) => format!("{option:?}"),
            Message::Ack => "ACK".to_owned(),
            Message::Nak => "NAK".to_owned(),
            Message::Command(block) => format!("command {:?}", text(block)),
            Message::Data(block) => format!("data {:?}", text(block)),
        }
    }

    #[test]
    fn a_whole_conversation_is_understood_from_both_sides() {
        let client = b"\0\0/?12345678!\r\n\x06051\r\n\x01P1\x02(FEDC0003)\x03\x66\x01B0\x03q";
        let expected = [
            "/?12345678!",
            "OptionSelect { baud: '5', mode: Programming }",
            r#"command "P1\u{2}(FEDC0003)""#,
            r#"command "B0""#,
        ];
        assert_eq!(
            heard(Sender::Client, client),
            expected.map(|text| Ok(text.to_owned()))
        );
        let meter = b"/ELS5A1700\r\n\x06\x15\x02(ERR3)\x03t";
        let expected = ["/ELS5A1700", "ACK", "NAK", r#"data "(ERR3)""#];
        assert_eq!(
            heard(Sender::Meter, meter),
            expected.map(|text| Ok(text.to_owned()))
        );
    }

    #[test]
    fn a_damaged_block_is_told_and_the_next_one_is_heard() {
        let bytes = b"\x01B0\x03r\x01B0\x03q";
        let heard = heard(Sender::Client, bytes);
        assert_eq!(
            heard,
            [Err(Malformed::Checksum), Ok(r#"command "B0""#.to_owned())]
        );
    }

    #[test]
    fn what_does_not_end_is_cut_off_and_takes_no_more_memory() {
        for (first, limit) in [(b'/', MAX_LINE_BYTES), (STX, MAX_BLOCK_BYTES)] {
            let mut decoder = Decoder::new(Sender::Meter);
            decoder.take(first).unwrap();
            let rest = std::iter::repeat_n(b'1', limit + 1);
            let error = rest.map(|byte| decoder.take(byte)).find_map(Result::err);
            assert_eq!(error, Some(Malformed::TooLong));
            assert_eq!(decoder.buffer.capacity(), MAX_BLOCK_BYTES);
        }
    }

    #[test]
    fn what_nobody_should_send_is_named() {
        for (bytes, error) in [
            (&b"x"[..], Malformed::Start(b'x')),
            (b"\x02\x80", Malformed::Character(0x80)),
            (b"\x021.8.0(1)\x04", Malformed::Partial),
            (b"/ELS5\n", Malformed::Form),
            (b"/\n", Malformed::Form),
        ] {
            assert_eq!(
                heard(Sender::Meter, bytes).first(),
                Some(&Err(error)),
                "{bytes:?}"
            );
        }
    }

    /// Characters that mean something here, so that the decoder gets far before it meets what is wrong.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let fragment = prop_oneof![
            Just(b"/?".to_vec()),
            Just(b"!\r\n".to_vec()),
            Just(b"\x06051\r\n".to_vec()),
            Just(b"\x01B0\x03q".to_vec()),
            Just(b"\x01P1\x02(".to_vec()),
            Just(b"\x021.8.0(00*kWh)\x03".to_vec()),
            Just(b"(ERR1)".to_vec()),
            Just(vec![SOH]),
            Just(vec![STX]),
            Just(vec![ETX]),
            Just(vec![EOT]),
            Just(vec![b'1'; 5000]),
            any::<u8>().prop_map(|byte| vec![byte]),
            any::<Vec<u8>>(),
        ];
        prop::collection::vec(fragment, 0..40).prop_map(|fragments| fragments.concat())
    }

    fn text(pattern: &'static str) -> impl Strategy<Value = String> {
        proptest::string::string_regex(pattern).unwrap()
    }

    proptest! {
        #[test]
        fn no_bytes_of_either_side_make_it_panic_or_grow(bytes in hostile()) {
            for sender in [Sender::Client, Sender::Meter] {
                let mut decoder = Decoder::new(sender);
                for byte in &bytes {
                    if let Ok(Some(Message::Line(block) | Message::Command(block) | Message::Data(block))) =
                        decoder.take(*byte)
                    {
                        let _ = (block.sign_on(), block.identification(), block.command(), block.reply());
                    }
                    prop_assert_eq!(decoder.buffer.capacity(), MAX_BLOCK_BYTES);
                }
            }
        }

        #[test]
        fn a_command_reads_back_what_was_written(
            address in text("[ -'+-.0-~]{0,16}"),
            value in text("[ -'+-.0-~]{0,128}"),
            unit in prop::option::of(text("[A-Za-z0-9]{1,16}")),
        ) {
            let Ok(set) = DataSet::new(&address, &value, unit.as_deref()) else {
                prop_assert!(address.contains('!') || value.contains('!'));
                return Ok(());
            };
            let mut decoder = Decoder::new(Sender::Client);
            let bytes = Command::new(Verb::Write, set).encode();
            let mut messages = bytes.iter().filter_map(|byte| decoder.take(*byte).unwrap());
            let Some(Message::Command(heard)) = messages.next() else {
                return Err(TestCaseError::fail("no command"));
            };
            let command = heard.command().unwrap().unwrap();
            prop_assert_eq!(command.set.unwrap(), set);
            prop_assert!(messages.next().is_none());
        }

        #[test]
        fn a_block_that_lost_a_bit_is_not_taken(at in 1_usize..20, bit in 0_u32..7) {
            let set = DataSet::new("1.8.0", "0012345.67", Some("kWh")).unwrap();
            let mut bytes = block([set]).to_vec();
            bytes[at] ^= 1 << bit;
            let intact = r#"data "1.8.0(0012345.67*kWh)""#.to_owned();
            prop_assert!(heard(Sender::Meter, &bytes).iter().all(|message| *message != Ok(intact.clone())));
            prop_assert!(heard(Sender::Meter, &bytes).iter().any(Result::is_err)
                || heard(Sender::Meter, &bytes).is_empty());
        }

        #[test]
        fn a_readout_reads_back_whatever_the_pieces_it_comes_in(values in prop::collection::vec(0_u32..10_000, 0..50)) {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            let sets: Vec<_> = texts.iter().map(|text| DataSet::new("1.8.0", text, Some("kWh")).unwrap()).collect();
            let bytes = readout(sets.iter().copied());
            let mut decoder = Decoder::new(Sender::Meter);
            let mut messages = bytes.iter().filter_map(|byte| decoder.take(*byte).unwrap());
            let Some(Message::Data(heard)) = messages.next() else {
                return Err(TestCaseError::fail("no data"));
            };
            prop_assert_eq!(heard.reply(), Ok(Reply::Sets(sets)));
        }
    }
}
