//! Streams of records, one a line: each is answered by itself, in order, in constant memory.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};

use crate::service::Failure;
use crate::types::Code;

/// Answers each line of a body with one line: `{"line":n, …}` or `{"line":n,"code":…,"detail":…}`.
///
/// One bad record never sinks the others; a line that is too long is one bad record, and is skipped to its end.
pub(super) fn answer<F, A>(body: Body, handle: F) -> Response
where
    F: Fn(Bytes) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value, Failure>> + Send,
{
    let handle = std::sync::Arc::new(handle);
    let answers = lines(body).then(move |(number, line)| {
        let handle = std::sync::Arc::clone(&handle);
        async move {
            let answer = match line {
                Ok(line) => handle(line).await,
                Err(failure) => Err(failure),
            };
            Ok::<_, std::io::Error>(written(number, answer))
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(answers)).into_response()
}

/// An answer as a line.
pub(super) fn written(number: u64, answer: Result<Value, Failure>) -> Bytes {
    let mut line = match answer {
        Ok(Value::Object(fields)) => Value::Object(fields),
        Ok(other) => json!({ "answer": other }),
        Err(Failure::Refused { code, detail }) => json!({ "code": code, "detail": detail }),
        Err(Failure::Unavailable(error) | Failure::Broken(error)) => {
            tracing::error!(error, "a record could not be handled");
            json!({ "code": Code::Unavailable })
        }
    };
    line["line"] = json!(number);
    let mut bytes = line.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.into()
}

/// The lines of a body that are not empty, numbered from one as an editor numbers them.
pub(super) fn lines(body: Body) -> impl Stream<Item = (u64, Result<Bytes, Failure>)> {
    let state = Lines {
        chunks: body.into_data_stream().boxed(),
        buffer: BytesMut::new(),
        number: 0,
        ended: false,
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
    number: u64,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<(u64, Result<Bytes, Failure>)> {
        let mut too_long = false;
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(at + 1).freeze();
                self.number += 1;
                return Some((self.number, if too_long { long() } else { Ok(line) }));
            }
            if self.buffer.len() > MAX_LINE {
                too_long = true;
                self.buffer.clear();
            }
            if self.ended {
                self.number += 1;
                let rest = self.buffer.split().freeze();
                return match (too_long, rest.is_empty()) {
                    (true, _) => Some((self.number, long())),
                    (false, true) => None,
                    (false, false) => Some((self.number, Ok(rest))),
                };
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(_)) | None => self.ended = true,
            }
        }
    }
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
        let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
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
}
