//! Reading strict JSON without repeating its values, and writing canonical JSON (RFC 8785) that is zeroized.

use serde::Deserialize;
use serde_path_to_error::Segment;
use zeroize::{Zeroize as _, Zeroizing};

use crate::types::Secret;

/// What is wrong with a document, and where. Never the value, which may be a secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem} at `{path}`")]
pub struct ContentError {
    /// The place, such as `credentials[0].dlms.guek`; `.` is the document itself.
    pub path: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// One thing that can be wrong with a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// It is not JSON, or text follows it.
    #[error("no well-formed JSON")]
    Syntax,
    /// It is longer than an envelope holds.
    #[error("too large")]
    TooLarge,
    /// A field that must be there is not.
    #[error("a field is missing")]
    Missing,
    /// There is a field that the format does not have.
    #[error("unknown field")]
    Unknown,
    /// A field is there twice.
    #[error("repeated")]
    Repeated,
    /// The value is not one that the field may have.
    #[error("invalid value")]
    Invalid,
}

impl ContentError {
    pub(super) fn at(path: impl Into<String>, problem: Problem) -> Self {
        let path = path.into();
        Self { path, problem }
    }
}

/// Reads a document of at most `limit` bytes.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], limit: usize) -> Result<T, ContentError> {
    if json.len() > limit {
        return Err(ContentError::at(".", Problem::TooLarge));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value =
        serde_path_to_error::deserialize(&mut deserializer).map_err(|e| content_error(&e))?;
    deserializer
        .end()
        .map_err(|_| ContentError::at(".", Problem::Syntax))?;
    Ok(value)
}

/// Keeps the place and drops the message, which quotes values.
fn content_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ContentError {
    let (path, inner) = (error.path().to_string(), error.inner());
    if !inner.is_data() {
        return ContentError::at(".", Problem::Syntax);
    }
    let message = Zeroizing::new(inner.to_string());
    if message.starts_with("missing field") {
        // The name comes from our own types, never from the document.
        let name = message.split('`').nth(1).unwrap_or_default();
        let parent = if path == "." {
            String::new()
        } else {
            path + "."
        };
        ContentError::at(parent + name, Problem::Missing)
    } else if message.starts_with("unknown field") {
        ContentError::at(parent_of(error.path()), Problem::Unknown)
    } else if message.starts_with("duplicate field") {
        ContentError::at(path, Problem::Repeated)
    } else {
        ContentError::at(path, Problem::Invalid)
    }
}

/// The object that has an unknown field. The field's own name is left out, for it may be a misplaced secret.
fn parent_of(path: &serde_path_to_error::Path) -> String {
    let segments: Vec<_> = path.iter().collect();
    let mut parent = String::new();
    for segment in segments
        .split_last()
        .map_or(&[][..], |(_, parents)| parents)
    {
        if !parent.is_empty() && !matches!(segment, Segment::Seq { .. }) {
            parent.push('.');
        }
        parent.push_str(&segment.to_string());
    }
    if parent.is_empty() {
        ".".to_owned()
    } else {
        parent
    }
}

/// Writes one JSON object in canonical form: keys ascending, no white space.
pub(super) struct ObjectWriter<'a> {
    buffer: &'a mut Buffer,
    last_key: Option<&'static str>,
}

impl ObjectWriter<'_> {
    /// Writes a whole document.
    pub(super) fn document(write: impl FnOnce(&mut ObjectWriter<'_>)) -> Secret {
        let mut buffer = Buffer(Zeroizing::new(Vec::with_capacity(FIRST_CAPACITY)));
        ObjectWriter::object_in(&mut buffer, write);
        Secret::new(std::mem::take(&mut *buffer.0))
    }

    pub(super) fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        self.buffer.quoted(text);
    }

    pub(super) fn optional_text(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn number(&mut self, key: &'static str, number: u32) {
        self.key(key);
        self.buffer.push(number.to_string().as_bytes());
    }

    pub(super) fn optional_number(&mut self, key: &'static str, number: Option<u32>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    pub(super) fn object(&mut self, key: &'static str, write: impl FnOnce(&mut ObjectWriter<'_>)) {
        self.key(key);
        ObjectWriter::object_in(self.buffer, write);
    }

    pub(super) fn objects<T>(
        &mut self,
        key: &'static str,
        members: &[T],
        write: impl Fn(&mut ObjectWriter<'_>, &T),
    ) {
        self.key(key);
        self.buffer.push(b"[");
        for (n, member) in members.iter().enumerate() {
            if n > 0 {
                self.buffer.push(b",");
            }
            ObjectWriter::object_in(self.buffer, |object| write(object, member));
        }
        self.buffer.push(b"]");
    }

    fn object_in(buffer: &mut Buffer, write: impl FnOnce(&mut ObjectWriter<'_>)) {
        buffer.push(b"{");
        write(&mut ObjectWriter {
            buffer,
            last_key: None,
        });
        buffer.push(b"}");
    }

    /// INVARIANT: keys come in ascending order; a test compares with another implementation of RFC 8785.
    fn key(&mut self, key: &'static str) {
        debug_assert!(
            self.last_key.is_none_or(|last| last < key),
            "`{key}` is out of order"
        );
        if self.last_key.is_some() {
            self.buffer.push(b",");
        }
        self.last_key = Some(key);
        self.buffer.quoted(key);
        self.buffer.push(b":");
    }
}

/// Bytes that leave no copy behind when they grow.
struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    fn push(&mut self, bytes: &[u8]) {
        if self.0.len() + bytes.len() > self.0.capacity() {
            let capacity = (self.0.len() + bytes.len()) * 2;
            let mut grown = Zeroizing::new(Vec::with_capacity(capacity));
            grown.extend_from_slice(&self.0);
            // The old bytes are zeroized when they are replaced.
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
    }

    fn quoted(&mut self, text: &str) {
        self.push(b"\"");
        for c in text.chars() {
            match c {
                '"' => self.push(b"\\\""),
                '\\' => self.push(b"\\\\"),
                _ => {
                    let mut utf8 = [0; 4];
                    self.push(c.encode_utf8(&mut utf8).as_bytes());
                    utf8.zeroize();
                }
            }
        }
        self.push(b"\"");
    }
}

const FIRST_CAPACITY: usize = 4096;
