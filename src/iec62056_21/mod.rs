//! IEC 62056-21 mode C on the wire, as far as reading a meter and changing its passwords need it: bytes in, values out.
//!
//! ```text
//! client                              meter
//! / ? address ! CR LF           →
//!                               ←     / manufacturer baud identification CR LF
//! ACK protocol baud mode CR LF  →
//!                               ←     SOH P 0 STX (seed) ETX bcc
//! SOH P 1 STX (password) ETX bcc →
//!                               ←     ACK, or NAK, or SOH B 0 ETX bcc
//! SOH R 1 STX address() ETX bcc →
//!                               ←     STX address(value*unit) ETX bcc, or STX (ERRn) ETX bcc
//! SOH W 1 STX address(value) ETX bcc →
//!                               ←     ACK, or NAK, or STX (ERRn) ETX bcc
//! SOH B 0 ETX bcc               →
//! ```
//!
//! A character has seven bits; what carries it here is a transparent TCP connection. `bcc` is the exclusive or of all
//! characters behind the first of a block, its own apart. Nothing of this is encrypted: passwords travel in clear.

pub mod command;
pub mod data;
pub mod login;
pub mod number;
pub mod sign_on;
pub mod stream;

/// The bytes are not what the peer should have sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Nothing begins like this.
    #[error("no message begins with `{0:#04x}`")]
    Start(u8),
    /// More than seven bits: the line is set otherwise, or noisy.
    #[error("`{0:#04x}` is no character of seven bits")]
    Character(u8),
    /// The message does not end where it must.
    #[error("the message is longer than allowed")]
    TooLong,
    /// The message arrived damaged. The next one may be whole.
    #[error("the check character does not hold")]
    Checksum,
    /// One block of several, which nothing here asks for.
    #[error("the answer is only a part of one")]
    Partial,
    /// Something in the message has no known form, or a character that may not be there.
    #[error("the message has not the form that it should have")]
    Form,
}

/// The check character: the exclusive or of `bytes`.
pub(crate) fn bcc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// Whether `text` is printable ASCII of at most `max` characters, with none of `without` in it.
fn is_plain(text: &str, max: usize, without: &[u8]) -> bool {
    let allowed = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !without.contains(&byte);
    text.len() <= max && text.bytes().all(allowed)
}

pub(crate) const SOH: u8 = 0x01;
pub(crate) const STX: u8 = 0x02;
pub(crate) const ETX: u8 = 0x03;
pub(crate) const EOT: u8 = 0x04;
/// Yes.
pub const ACK: u8 = 0x06;
/// No; or: say that again.
pub const NAK: u8 = 0x15;
