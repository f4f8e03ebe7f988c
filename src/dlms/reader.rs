//! A cursor that cannot run off its bytes, and the length prefix that A-XDR and BER share.

use super::Malformed;

/// Reads forward through borrowed bytes.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// One byte below 128, or `80 + n` and n bytes, n at most 4.
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let count = usize::from(first & 0x7F);
        if !(1..=4).contains(&count) {
            return Err(Malformed::Length);
        }
        let bytes = self.take(count)?;
        let length = bytes
            .iter()
            .fold(0_u32, |length, byte| length << 8 | u32::from(*byte));
        usize::try_from(length).map_err(|_| Malformed::Length)
    }

    /// A length and that many bytes.
    pub(super) fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.take(length)
    }

    /// One BER element: its tag and its content.
    pub(super) fn element(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        Ok((self.u8()?, self.prefixed()?))
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed::Trailing)
    }
}

/// Appends `length` in its shortest form.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).expect("a usize has at most 8 bytes"));
            out.extend_from_slice(long);
        }
    }
}

/// Appends `bytes` behind their length.
pub(super) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a BER element.
pub(super) fn put_element(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    put_prefixed(out, content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_reads_what_was_put() {
        for (length, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x81, 0x80]),
            (256, &[0x82, 0x01, 0x00]),
            (70_000, &[0x83, 0x01, 0x11, 0x70]),
        ] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out, bytes);
            assert_eq!(Reader::new(&out).length(), Ok(length));
        }
    }

    #[test]
    fn an_unbounded_or_overlong_length_is_refused() {
        assert_eq!(Reader::new(&[0x80]).length(), Err(Malformed::Length));
        assert_eq!(
            Reader::new(&[0x85, 0, 0, 0, 0, 1]).length(),
            Err(Malformed::Length)
        );
        assert_eq!(
            Reader::new(&[0x84, 0xFF, 0xFF, 0xFF, 0xFF]).prefixed(),
            Err(Malformed::Truncated)
        );
    }
}
