//! Streams of records, one a line: each is answered by itself, in order, in constant memory.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use crate::service::{Caller, Escrow, Failure};
use crate::types::Code;

/// Answers each line of a body with one line: `{"line":n, …}` or `{"line":n,"code":…,"detail":…}`.
///
/// One bad record never sinks the others; a line that is too long is one bad record, and is skipped to its end.
pub(super) fn answer<F, A>(body: Body, desk: Desk, handle: F) -> Response
where
    F: Fn(Desk, Bytes) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value, Failure>> + Send,
{
    let handle = std::sync::Arc::new(handle);
    let answers = lines(body).then(move |(number, line)| {
        let handle = std::sync::Arc::clone(&handle);
        let desk = desk.clone();
        async move {
            let answer = match line {
                Ok(line) => handle(desk.clone(), line).await,
                Err(failure) => Err(failure),
            };
            Ok::<_, std::io::Error>(desk.written(number, answer))
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(answers)).into_response()
}

/// Who brings a stream, and to which use cases.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) escrow: Escrow,
    pub(super) caller: Caller,
}

impl Desk {
    /// An answer as a line; counted if it is a refusal that no entry records, as the stream itself was not refused.
    pub(super) fn written(&self, number: u64, answer: Result<Value, Failure>) -> Bytes {
        if let Some(code) = answer.as_ref().err().and_then(Failure::unrecorded) {
            self.escrow.count_refusal(&self.caller.identity, code);
        }
        let mut line = match answer {
            Ok(Value::Object(fields)) => Value::Object(fields),
            Ok(other) => json!({ "answer": other }),
            Err(Failure::Refused { code, detail, .. }) => json!({ "code": code, "detail": detail }),
            Err(Failure::Unavailable(error) | Failure::Broken(error)) => {
                let request_id = &self.caller.request_id;
                tracing::error!(
                    request.id = request_id,
                    error,
                    "a record could not be handled"
                );
                json!({ "code": Code::Unavailable })
            }
        };
        line["line"] = json!(number);
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        bytes.into()
    }
}

/// The lines of a body that are not empty, numbered from one as an editor numbers them.
pub(super) fn lines(body: Body) -> impl Stream<Item = (u64, Result<Bytes, Failure>)> {
    let state = Lines {
        chunks: body.into_data_stream().boxed(),
        buffer: BytesMut::new(),
        scanned: 0,
        number: 0,
        end: None,
    };
    stream::unfold(state, |mut state| async move {
        let line = state.next().await?;
        Some((line, state))
    })
    .filter(|(_, line)| {
        let empty = line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty());
        futures_util::future::ready(!empty)
    })
}

struct Lines {
    chunks: stream::BoxStream<'static, Result<Bytes, axum::Error>>,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line feed.
    scanned: usize,
    number: u64,
    end: Option<End>,
}

/// How a body ended.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// As its sender meant it.
    Whole,
    /// In the middle, perhaps of a record that would read as another one.
    BrokenOff,
}

impl Lines {
    async fn next(&mut self) -> Option<(u64, Result<Bytes, Failure>)> {
        let mut too_long = false;
        loop {
            let fresh = &self.buffer[self.scanned..];
            if let Some(at) = fresh.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1).freeze();
                self.scanned = 0;
                too_long |= line.len() > MAX_LINE + 1;
                return self.numbered(if too_long { long() } else { Ok(line) });
            }
            self.scanned = self.buffer.len();
            if self.scanned > MAX_LINE {
                too_long = true;
                self.buffer.clear();
                self.scanned = 0;
            }
            match self.end {
                None => match self.chunks.next().await {
                    Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                    Some(Err(_)) => self.end = Some(End::BrokenOff),
                    None => self.end = Some(End::Whole),
                },
                Some(end) => {
                    let rest = self.buffer.split().freeze();
                    self.scanned = 0;
                    self.end = Some(End::Whole);
                    return match (end, too_long, rest.is_empty()) {
                        (End::BrokenOff, ..) => self.numbered(broken_off()),
                        (End::Whole, true, _) => self.numbered(long()),
                        (End::Whole, false, true) => None,
                        (End::Whole, false, false) => self.numbered(Ok(rest)),
                    };
                }
            }
        }
    }

    fn numbered(&mut self, line: Result<Bytes, Failure>) -> Option<(u64, Result<Bytes, Failure>)> {
        self.number += 1;
        Some((self.number, line))
    }
}

fn broken_off() -> Result<Bytes, Failure> {
    Err(Failure::because(
        Code::MalformedRequest,
        "the body broke off",
    ))
}

fn long() -> Result<Bytes, Failure> {
    Err(Failure::refused(Code::TooLarge))
}

/// Bytes of one record.
const MAX_LINE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(chunks: Vec<Vec<u8>>) -> Vec<(u64, Result<Bytes, ()>)> {
        read_chunks(chunks.into_iter().map(Ok).collect()).await
    }

    async fn read_chunks(
        chunks: Vec<Result<Vec<u8>, std::io::Error>>,
    ) -> Vec<(u64, Result<Bytes, ()>)> {
        let body = Body::from_stream(stream::iter(chunks));
        let lines: Vec<_> = lines(body).collect().await;
        lines
            .into_iter()
            .map(|(number, line)| (number, line.map_err(|_| ())))
            .collect()
    }

    #[tokio::test]
    async fn lines_are_found_across_chunks_and_empty_ones_are_passed_over() {
        let lines = read(vec![b"a\n\nb".to_vec(), b"c\nd".to_vec()]).await;
        let expected: Vec<(u64, Result<Bytes, ()>)> = vec![
            (1, Ok(Bytes::from_static(b"a\n"))),
            (3, Ok(Bytes::from_static(b"bc\n"))),
            (4, Ok(Bytes::from_static(b"d"))),
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_one_bad_record() {
        let lines = read(vec![vec![b'x'; MAX_LINE + 1], b"y\nz\n".to_vec()]).await;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], (1, Err(())));
        assert_eq!(lines[1], (2, Ok(Bytes::from_static(b"z\n"))));
    }
    #[tokio::test]
    async fn a_line_of_the_longest_length_is_read_however_it_comes() {
        let longest = vec![b'x'; MAX_LINE];
        let whole = read(vec![[&longest[..], b"\n"].concat()]).await;
        assert_eq!(whole[0].1.as_ref().unwrap().len(), MAX_LINE + 1);
        let longer = read(vec![[&longest[..], b"x\n"].concat()]).await;
        assert_eq!(longer, [(1, Err(()))]);
        let bytes = longest.chunks(1000).map(<[u8]>::to_vec);
        let pieces = read(bytes.chain([b"\nz".to_vec()]).collect()).await;
        assert_eq!(pieces[0].1.as_ref().unwrap().len(), MAX_LINE + 1);
        assert_eq!(pieces[1], (2, Ok(Bytes::from_static(b"z"))));
    }

    #[tokio::test]
    async fn what_stands_before_a_break_is_no_record() {
        let broken = Err(std::io::Error::other("gone"));
        let lines = read_chunks(vec![Ok(b"a\n1,2,E19B76".to_vec()), broken]).await;
        assert_eq!(lines, [(1, Ok(Bytes::from_static(b"a\n"))), (2, Err(()))]);
    }
}
