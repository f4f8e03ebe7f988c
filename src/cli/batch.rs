//! Commands over many records: one result a record, in order; one bad record never loses the others, and no file is
//! too large.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::lines::{Line, Lines};
use super::output::{Output, Sheet};
use super::progress::Progress;
use crate::client::{Client, ClientError, ReceiptDocument, Request};
use crate::types::Code;

/// Prints results as they come, and counts how they went.
pub(super) struct Results<'o, S> {
    output: &'o Output,
    progress: Progress,
    sheet: Sheet,
    /// Not printed yet: a portion's results are printed together.
    waiting: Vec<Document<S>>,
    done: usize,
    refused: usize,
    unclear: usize,
}

impl<'o, S: Shape> Results<'o, S> {
    /// Results of the records that are read from `lines`, called `what`.
    pub(super) fn of(output: &'o Output, what: &'static str, lines: &Lines) -> Self {
        let progress = Progress::of_bytes(output, what, lines.bytes());
        Self {
            output,
            progress,
            sheet: Sheet::new(output.format),
            waiting: Vec::new(),
            done: 0,
            refused: 0,
            unclear: 0,
        }
    }

    /// A record's answer: a document, or one with a `code`.
    pub(super) fn answer(&mut self, line: u64, mut answer: Value) -> Result<(), Failure> {
        self.count(&answer);
        answer["line"] = json!(line);
        self.waiting.push(Document::of(answer));
        match self.waiting.len() < LOT {
            true => Ok(()),
            false => self.print(),
        }
    }

    /// The same, but printed only if the record did not go in.
    pub(super) fn problem(&mut self, line: u64, answer: Value) -> Result<(), Failure> {
        match answer.get("code") {
            Some(_) => self.answer(line, answer),
            None => {
                self.count(&answer);
                Ok(())
            }
        }
    }

    /// A record's failure. Tampering ends the batch; anything else is the record's own matter.
    pub(super) fn failed(&mut self, line: u64, error: ClientError) -> Result<(), Failure> {
        if let ClientError::Verification(_) = error {
            let failure = Failure::from(error);
            return Err(Failure {
                message: format!("line {line}: {}", failure.message),
                ..failure
            });
        }
        let code = match (error.code(), &error) {
            (Some(code), _) => code,
            (None, ClientError::Local(_) | ClientError::Revoked(_)) => "not_sent",
            (None, _) => NO_ANSWER,
        };
        self.answer(line, json!({ "code": code, "detail": error.to_string() }))
    }

    /// How many records did not go in so far.
    pub(super) fn not_done(&self) -> u64 {
        (self.refused + self.unclear) as u64
    }

    /// Prints what waits, and shows how far the file has been worked through.
    pub(super) fn reached(&mut self, lines: &Lines) -> Result<(), Failure> {
        self.progress.reach(lines.position());
        match self.waiting.is_empty() {
            true => Ok(()),
            false => self.print(),
        }
    }

    /// Prints what is left of a batch that cannot go on.
    pub(super) fn interrupted(mut self, error: ClientError) -> Failure {
        let done = self.done;
        let failure = self.print().err().unwrap_or_else(|| error.into());
        failure.hint(format!(
            "{done} records went in before; what was done is not done twice"
        ))
    }

    /// Prints what is left; a batch that did not go through is a failure.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        let total = self.done + self.refused + self.unclear;
        if total == 0 || !self.waiting.is_empty() {
            self.print()?;
        }
        let (exit, count, what) = match (self.refused, self.unclear) {
            (0, 0) => return Ok(()),
            (0, unclear) => (Exit::TryAgain, unclear, "got no answer"),
            (refused, _) => (Exit::Refused, refused, "were refused"),
        };
        let failure = Failure::new(exit, format!("{count} of {total} records {what}"));
        Err(match self.unclear {
            0 => failure,
            _ => failure.hint("run the same command again: what was done is not done twice"),
        })
    }

    fn count(&mut self, answer: &Value) {
        match answer.get("code").and_then(Value::as_str) {
            None => self.done += 1,
            Some(code) if code == NO_ANSWER || is_passing(code) => self.unclear += 1,
            Some(_) => self.refused += 1,
        }
    }

    fn print(&mut self) -> Result<(), Failure> {
        let text = self.sheet.lot(&self.waiting)?;
        self.waiting.clear();
        self.progress.aside(|| self.output.print(&text))
    }
}

fn is_passing(code: &str) -> bool {
    Code::of(code).is_some_and(Code::is_passing)
}

/// A record as it is sent, with the number of its line.
pub(super) type Record = (u64, Zeroizing<Vec<u8>>);

/// A portion of a file, with what cannot be sent at all answered already.
pub(super) fn portion_of<S: Shape>(
    lines: &mut Lines,
    results: &mut Results<'_, S>,
    at_most: usize,
) -> Result<Option<Vec<Record>>, Failure> {
    let portion = lines.portion(at_most, PORTION_BYTES)?;
    if portion.is_empty() {
        return Ok(None);
    }
    let mut records = Vec::with_capacity(portion.len());
    for (number, line) in portion {
        match line {
            Ok(record) => records.push((number, record)),
            Err(none) => {
                let answer = json!({ "code": none.code(), "detail": none.to_string() });
                results.answer(number, answer)?;
            }
        }
    }
    Ok(Some(records))
}

/// The record of a line, for requests of its own.
pub(super) fn record((number, line): Line) -> (u64, Result<Zeroizing<Vec<u8>>, ClientError>) {
    (
        number,
        line.map_err(|none| ClientError::Local(none.to_string())),
    )
}

/// Sends records to a door that answers line by line, and verifies the receipts in the answers. Each record has one
/// answer, in their order; where the service has left one out, it says so.
///
/// `header` goes before the records of each request, where the format has one.
pub(super) async fn send_portion<R: AsRef<[u8]>>(
    client: &Client,
    path: &str,
    (kind, header): (&str, Option<&[u8]>),
    records: &[(u64, R)],
) -> Result<Vec<(u64, Value)>, ClientError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let mut body = Vec::new();
    let lines = header
        .into_iter()
        .chain(records.iter().map(|(_, r)| r.as_ref()));
    for line in lines {
        body.extend_from_slice(line);
        body.push(b'\n');
    }
    let request = Request::post(path, body).header("content-type", kind);
    let answer = client.send(request).await?;
    let before = u64::from(header.is_some());
    let mut answers = vec![None; records.len()];
    for line in answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|l| !l.is_empty())
    {
        let unexpected = |_| ClientError::Unexpected("an answer's line is not JSON".to_owned());
        let answer: Value = serde_json::from_slice(line).map_err(unexpected)?;
        verify_receipt(client, &answer).await?;
        // Lines are counted in the request; the caller counts them in its file.
        let number = answer["line"]
            .as_u64()
            .and_then(|n| n.checked_sub(1 + before));
        let place = number.and_then(|n| answers.get_mut(usize::try_from(n).ok()?));
        match place {
            Some(place @ None) => *place = Some(answer),
            Some(_) => {
                return Err(ClientError::Unexpected(
                    "two answers to a record".to_owned(),
                ));
            }
            None => return Err(ClientError::Unexpected("an answer to no record".to_owned())),
        }
    }
    let left_out = || json!({ "code": NO_ANSWER, "detail": "the service left this record out" });
    let numbers = records.iter().map(|(number, _)| *number);
    Ok(numbers
        .zip(answers)
        .map(|(number, answer)| (number, answer.unwrap_or_else(left_out)))
        .collect())
}

async fn verify_receipt(client: &Client, answer: &Value) -> Result<(), ClientError> {
    let Some(receipt) = answer.get("receipt").filter(|receipt| !receipt.is_null()) else {
        return Ok(());
    };
    client
        .verify_receipt(&ReceiptDocument::from_json(receipt)?)
        .await
}

/// Lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Records of one request: few enough to be answered well within its time.
pub(super) const PORTION: usize = 200;
/// What stands in the place of a code where the service has not answered.
const NO_ANSWER: &str = "unreachable";
/// Bytes of the records of one request, but for the last one.
const PORTION_BYTES: usize = 512 * 1024;
/// Results that are printed together at most.
const LOT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    struct Any;

    impl Shape for Any {
        const COLUMNS: &'static [&'static str] = &["line"];
        const POINTERS: &'static [&'static str] = &["/line"];
    }

    fn exit(answers: &[Value]) -> Exit {
        let output = Output {
            format: Format::Table,
            quiet: true,
            colour: Colour::Off,
        };
        let lines = Lines::open("/dev/null".as_ref()).unwrap();
        let mut results = Results::<Any>::of(&output, "records", &lines);
        for (line, answer) in (1..).zip(answers) {
            results.answer(line, answer.clone()).unwrap();
        }
        results
            .finish()
            .err()
            .map_or(Exit::Ok, |failure| failure.exit)
    }

    #[test]
    fn a_batch_ends_as_its_worst_record() {
        let done = json!({ "state": "deposited" });
        let refused = json!({ "code": "not_found" });
        let unclear = json!({ "code": "unavailable" });
        assert_eq!(exit(&[done.clone(), done.clone()]), Exit::Ok);
        assert_eq!(exit(&[done.clone(), unclear.clone()]), Exit::TryAgain);
        // What passes by itself does so for one record of many as for one alone.
        let stale = json!({ "code": "registration_stale" });
        assert_eq!(exit(&[done.clone(), stale]), Exit::TryAgain);
        assert_eq!(exit(&[unclear, refused, done]), Exit::Refused);
    }
}
