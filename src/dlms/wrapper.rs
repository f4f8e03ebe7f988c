//! The TCP wrapper of IEC 62056-47: eight bytes in front of each message.
//!
//! ```text
//! 0001 | source wPort | destination wPort | length      four u16, big-endian
//! ```

use super::Malformed;

/// The header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Who sends: the client's service access point in a request.
    pub source: u16,
    /// Who is meant: the logical device in a request.
    pub destination: u16,
    /// The bytes of message that follow.
    pub length: usize,
}

impl Header {
    /// The bytes of a header.
    pub const BYTES: usize = 8;

    /// Reads a header; `max_bytes` bounds what it may announce, before memory is taken for it.
    pub fn parse(bytes: [u8; Self::BYTES], max_bytes: usize) -> Result<Self, Malformed> {
        let [v0, v1, s0, s1, d0, d1, l0, l1] = bytes;
        let version = u16::from_be_bytes([v0, v1]);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        if length > max_bytes {
            return Err(Malformed::TooLong(length));
        }
        Ok(Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            length,
        })
    }
}

/// A message with its header in front.
pub fn frame(source: u16, destination: u16, message: &[u8]) -> Result<Vec<u8>, Malformed> {
    let length = u16::try_from(message.len()).map_err(|_| Malformed::TooLong(message.len()))?;
    let header = [VERSION, source, destination, length];
    let mut frame: Vec<u8> = header
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect();
    frame.extend_from_slice(message);
    Ok(frame)
}

const VERSION: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_parses_what_was_framed() {
        let bytes = frame(16, 1, &[0xC0, 0x01]).unwrap();
        assert_eq!(bytes, [0, 1, 0, 16, 0, 1, 0, 2, 0xC0, 0x01]);
        let header = Header::parse(*bytes.first_chunk().unwrap(), 2).unwrap();
        assert_eq!(
            (header.source, header.destination, header.length),
            (16, 1, 2)
        );
    }

    #[test]
    fn other_versions_and_long_frames_are_refused() {
        assert_eq!(
            Header::parse([0, 2, 0, 16, 0, 1, 0, 2], 10),
            Err(Malformed::Version(2))
        );
        assert_eq!(
            Header::parse([0, 1, 0, 16, 0, 1, 1, 0], 255),
            Err(Malformed::TooLong(256))
        );
        assert_eq!(frame(1, 1, &[0; 65_536]), Err(Malformed::TooLong(65_536)));
    }
}
