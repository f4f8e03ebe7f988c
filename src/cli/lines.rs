//! The lines of a file or of stdin, one after the other, however large it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::exit::Failure;
use super::files;
use super::rows::{Column, Header};
use crate::types::Code;

/// Lines that are read as they are wanted. Empty ones are passed over; what was read may be secret, and is wiped.
pub(super) struct Lines {
    source: Box<dyn Read + Send>,
    path: PathBuf,
    bytes: Option<u64>,
    buffer: Zeroizing<Vec<u8>>,
    /// What of the buffer is read and not yet handed out.
    unread: std::ops::Range<usize>,
    number: u64,
    position: u64,
    /// Whether the file is CSV.
    form: Form,
}

/// How a file has its records.
enum Form {
    /// A line is a record.
    Plain,
    /// To be told from the first line: a header of these columns makes all others rows.
    Unknown(&'static [Column]),
    /// A line is a row under this header.
    Csv(Header),
}

/// A line with its number, as an editor counts, without blanks at its ends.
pub(super) type Line = (u64, Result<Zeroizing<Vec<u8>>, NoRecord>);

/// A line that is no record, whatever records are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum NoRecord {
    /// It is passed over to its end.
    #[error("the line is longer than a record may be")]
    TooLong,
    /// It has other fields than the header of its CSV file.
    #[error("the row does not fit under the header")]
    OtherRow,
}

impl NoRecord {
    /// The stable code.
    pub(super) fn code(self) -> Code {
        match self {
            Self::TooLong => Code::TooLarge,
            Self::OtherRow => Code::MalformedRequest,
        }
    }
}

impl Lines {
    /// Opens a file; `-` is stdin.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| files::at(path, &error);
        let (source, bytes): (Box<dyn Read + Send>, _) = match path.as_os_str() == "-" {
            true => (Box::new(io::stdin()), None),
            false => {
                let file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                let bytes = metadata.is_file().then_some(metadata.len());
                (Box::new(file), bytes)
            }
        };
        Ok(Self::of(source, path, bytes))
    }

    /// Opens a file of records of these columns: a record a line, or CSV with a header, whose rows come as records.
    pub(super) fn open_records(path: &Path, columns: &'static [Column]) -> Result<Self, Failure> {
        let lines = Self::open(path)?;
        let form = Form::Unknown(columns);
        Ok(Self { form, ..lines })
    }

    fn of(source: Box<dyn Read + Send>, path: &Path, bytes: Option<u64>) -> Self {
        Self {
            source,
            path: path.to_owned(),
            bytes,
            buffer: Zeroizing::new(vec![0; BUFFER]),
            unread: 0..0,
            number: 0,
            position: 0,
            form: Form::Plain,
        }
    }

    /// How many bytes there are, if that is known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// How many bytes the lines so far had.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next line, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            let line = self.read();
            let line = line.map_err(|error| files::at(&self.path, &error))?;
            match line {
                None => return Ok(None),
                Some(Ok(line)) if line.is_empty() => {}
                Some(line) => {
                    if let Some(record) = self.record(line) {
                        return Ok(Some((self.number, record)));
                    }
                }
            }
        }
    }

    /// The record of a line; none if it is the header.
    fn record(
        &mut self,
        line: Result<Zeroizing<Vec<u8>>, NoRecord>,
    ) -> Option<Result<Zeroizing<Vec<u8>>, NoRecord>> {
        if let (Form::Unknown(columns), Ok(line)) = (&self.form, &line) {
            let header = Header::of(line, columns);
            let is_header = header.is_some();
            self.form = header.map_or(Form::Plain, Form::Csv);
            if is_header {
                return None;
            }
        }
        Some(match (&self.form, line) {
            (Form::Csv(header), Ok(row)) => header.record(&row).ok_or(NoRecord::OtherRow),
            (_, line) => line,
        })
    }

    /// The next few lines, so many or so many bytes at most, but one at least while there is one.
    pub(super) fn portion(&mut self, lines: usize, bytes: usize) -> Result<Vec<Line>, Failure> {
        let mut portion = Vec::new();
        let mut size = 0;
        while portion.len() < lines && size < bytes {
            let Some(line) = self.next()? else {
                break;
            };
            size += line.1.as_ref().map_or(0, |line| line.len());
            portion.push(line);
        }
        Ok(portion)
    }

    fn read(&mut self) -> io::Result<Option<Result<Zeroizing<Vec<u8>>, NoRecord>>> {
        let mut line = Zeroizing::new(Vec::new());
        let (mut begun, mut too_long) = (false, false);
        loop {
            if self.unread.is_empty() {
                let read = self.source.read(&mut self.buffer)?;
                self.unread = 0..read;
                if read == 0 && !begun {
                    return Ok(None);
                }
            }
            begun = true;
            let fresh = &self.buffer[self.unread.clone()];
            let feed = fresh.iter().position(|byte| *byte == b'\n');
            let taken = feed.unwrap_or(fresh.len());
            too_long |= line.len() + taken > MAX_LINE;
            if !too_long {
                line.extend_from_slice(&fresh[..taken]);
            }
            let is_end = feed.is_some() || fresh.is_empty();
            let used = taken + usize::from(feed.is_some());
            self.unread.start += used;
            self.position += used as u64;
            if is_end {
                self.number += 1;
                return Ok(Some(match too_long {
                    true => Err(NoRecord::TooLong),
                    false => Ok(Zeroizing::new(line.trim_ascii().to_vec())),
                }));
            }
        }
    }
}

/// Bytes that are read at a time.
const BUFFER: usize = 64 * 1024;
/// Bytes of one record: what the service takes.
const MAX_LINE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::Kind;

    /// Hands out a few bytes at a time, as a pipe may.
    struct Drip(io::Cursor<Vec<u8>>, usize);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let at_most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..at_most])
        }
    }

    fn read(text: &[u8], at_a_time: usize) -> Vec<(u64, Result<String, NoRecord>)> {
        let source = Drip(io::Cursor::new(text.to_vec()), at_a_time);
        let mut lines = Lines::of(Box::new(source), Path::new("-"), None);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((number, line.map(|l| String::from_utf8(l.to_vec()).unwrap())));
        }
        assert_eq!(lines.position(), text.len() as u64);
        all
    }

    #[test]
    fn lines_keep_their_numbers_however_they_come() {
        let expected = [(1, Ok("a".to_owned())), (3, Ok("b c".to_owned()))];
        for at_a_time in [1, 2, 3, 1000] {
            assert_eq!(read(b"a\n\n b c \r\n", at_a_time), expected);
            assert_eq!(read(b"a\n\n b c", at_a_time), expected);
        }
        assert_eq!(read(b"", 1), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_to_its_end() {
        let longest = "x".repeat(MAX_LINE);
        let text = format!("{longest}\n{longest}x\nz\n");
        let expected = [
            (1, Ok(longest)),
            (2, Err(NoRecord::TooLong)),
            (3, Ok("z".to_owned())),
        ];
        assert_eq!(read(text.as_bytes(), 10_000), expected);
    }

    #[test]
    fn rows_under_a_header_are_records_and_keep_their_numbers() {
        let columns = &[("a", Kind::Text), ("b", Kind::Text)];
        let read = |text: &'static str| {
            let source = io::Cursor::new(text.as_bytes().to_vec());
            let lines = Lines::of(Box::new(source), Path::new("-"), None);
            let form = Form::Unknown(columns);
            let mut lines = Lines { form, ..lines };
            let mut all = Vec::new();
            while let Some((number, line)) = lines.next().unwrap() {
                all.push((number, line.map(|l| String::from_utf8(l.to_vec()).unwrap())));
            }
            all
        };
        let json = |text: &str| Ok(text.to_owned());
        assert_eq!(
            read("\nb,a\n1,2\n3\n"),
            [
                (3, json(r#"{"b":"1","a":"2"}"#)),
                (4, Err(NoRecord::OtherRow))
            ]
        );
        assert_eq!(read("c\nb,a\n"), [(1, json("c")), (2, json("b,a"))]);
    }

    #[test]
    fn a_portion_ends_where_it_is_full() {
        let source = io::Cursor::new(b"aa\nbb\ncc\ndd\n".to_vec());
        let mut lines = Lines::of(Box::new(source), Path::new("-"), None);
        let mut taken = |lines_at_most, bytes| {
            let portion = lines.portion(lines_at_most, bytes).unwrap();
            portion
                .into_iter()
                .map(|(number, _)| number)
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(1, 100), [1]);
        assert_eq!(taken(10, 3), [2, 3]);
        assert_eq!(taken(10, 1), [4]);
        assert_eq!(taken(10, 1), [0; 0]);
    }
}
