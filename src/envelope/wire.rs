//! The primitives of the binary formats: big-endian integers and length-prefixed strings, one encoding each.
//!
//! ```text
//! u8 u16 u32 u64   big-endian
//! [n]              exactly n bytes
//! text8            u8 length, then that many bytes of printable ASCII (0x20 to 0x7e)
//! bytes16 bytes32  u16 or u32 length, then that many bytes
//! ```
//! A decoder refuses lengths over its limit before it copies anything, and bytes after the end.

use std::str::FromStr;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of a field")]
    Truncated,
    /// There are bytes after the end.
    #[error("there are bytes after the end")]
    TrailingBytes,
    /// The first bytes are not those of this format.
    #[error("this is another format or a version that is not known")]
    UnknownFormat,
    /// The suite or KEM is not known.
    #[error("the cryptographic suite is not known")]
    UnknownSuite,
    /// A field is not valid.
    #[error("the field `{0}` is not valid")]
    Field(&'static str),
    /// A field is longer, or a list has more members, than allowed.
    #[error("the field `{0}` is larger than allowed")]
    TooLarge(&'static str),
    /// A list is not in its one allowed order.
    #[error("the list `{0}` is not in order")]
    OutOfOrder(&'static str),
    /// The stanzas are not those that the body names.
    #[error("the stanzas are not those that the body names")]
    StanzaMismatch,
}

/// Writes fields one after the other.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts with a format's magic bytes.
    pub(super) fn with_magic(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Bytes whose length the format fixes.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn text8(self, text: &str) -> Self {
        let length = u8::try_from(text.len()).expect("types written as text8 are short");
        self.u8(length).raw(text.as_bytes())
    }

    pub(super) fn bytes16(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).expect("fields written as bytes16 are limited");
        self.u16(length).raw(bytes)
    }

    pub(super) fn bytes32(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).expect("fields written as bytes32 are limited");
        self.u32(length).raw(bytes)
    }

    /// The number of members of a list that its type limits to 255.
    pub(super) fn count(self, members: usize) -> Self {
        self.u8(u8::try_from(members).expect("lists are limited where they are made"))
    }

    /// Each member of a list.
    pub(super) fn each<T>(
        self,
        members: impl IntoIterator<Item = T>,
        write: impl Fn(Self, T) -> Self,
    ) -> Self {
        members.into_iter().fold(self, write)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields one after the other.
pub(super) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Reads what follows a format's magic bytes.
    pub(super) fn after_magic(bytes: &'a [u8], magic: &[u8]) -> Result<Self, FormatError> {
        bytes
            .strip_prefix(magic)
            .map(Self)
            .ok_or(FormatError::UnknownFormat)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("`take` gives as many as asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn text8(&mut self, field: &'static str) -> Result<&'a str, FormatError> {
        let length = usize::from(self.u8()?);
        let bytes = self.take(length)?;
        let printable = bytes.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
        match str::from_utf8(bytes) {
            Ok(text) if printable => Ok(text),
            _ => Err(FormatError::Field(field)),
        }
    }

    /// A text8 that a domain type parses. The type prints as it was read, or the encoding is not the canonical one.
    pub(super) fn parsed<T: FromStr + ToString>(
        &mut self,
        field: &'static str,
    ) -> Result<T, FormatError> {
        let text = self.text8(field)?;
        match text.parse::<T>() {
            Ok(value) if value.to_string() == text => Ok(value),
            _ => Err(FormatError::Field(field)),
        }
    }

    pub(super) fn bytes16(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], FormatError> {
        let length = usize::from(self.u16()?);
        self.limited(field, length, limit)
    }

    pub(super) fn bytes32(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], FormatError> {
        let length = usize::try_from(self.u32()?).map_err(|_| FormatError::TooLarge(field))?;
        self.limited(field, length, limit)
    }

    fn limited(
        &mut self,
        field: &'static str,
        length: usize,
        limit: usize,
    ) -> Result<&'a [u8], FormatError> {
        if length > limit {
            return Err(FormatError::TooLarge(field));
        }
        self.take(length)
    }

    /// A list: a u8 count within the limit, then its members.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        limit: usize,
        read: impl Fn(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let count = usize::from(self.u8()?);
        if count > limit {
            return Err(FormatError::TooLarge(field));
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// A u8 that says whether the field is there: 0 or 1.
    pub(super) fn present(&mut self, field: &'static str) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FormatError::Field(field)),
        }
    }

    pub(super) fn finish(self) -> Result<(), FormatError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FormatError::TrailingBytes)
        }
    }
}
