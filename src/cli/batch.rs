//! Commands over many records: one result a record, in order; one bad record never loses the others.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::output::{Format, Output};
use crate::client::{Client, ClientError, ReceiptDocument, Request};

/// The records of a text that are not empty, each with the number of its line.
pub(super) fn records(text: &Zeroizing<Vec<u8>>) -> impl Iterator<Item = (u64, &[u8])> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty())
}

/// Prints results as they come, and counts how they went.
pub(super) struct Results<'o, S> {
    output: &'o Output,
    /// Tables and CSV are printed at the end, when their widths are known and no bar is in the way.
    waiting: Vec<Document<S>>,
    done: usize,
    refused: usize,
    unclear: usize,
}

impl<'o, S: Shape> Results<'o, S> {
    pub(super) fn new(output: &'o Output) -> Self {
        Self {
            output,
            waiting: Vec::new(),
            done: 0,
            refused: 0,
            unclear: 0,
        }
    }

    /// A record's answer: a document, or one with a `code`.
    pub(super) fn answer(&mut self, line: u64, mut answer: Value) -> Result<(), Failure> {
        match answer.get("code").and_then(Value::as_str) {
            None => self.done += 1,
            Some("unavailable" | "rate_limited" | "fenced" | "unreachable") => self.unclear += 1,
            Some(_) => self.refused += 1,
        }
        answer["line"] = json!(line);
        if self.output.format == Format::Json {
            return self.output.print(&format!("{answer}\n"));
        }
        self.waiting.push(Document::of(answer));
        Ok(())
    }

    /// A record's failure. Tampering ends the batch; anything else is the record's own matter.
    pub(super) fn failed(&mut self, line: u64, error: ClientError) -> Result<(), Failure> {
        let code = match &error {
            ClientError::Verification(_) => {
                let failure = Failure::from(error);
                return Err(Failure {
                    message: format!("line {line}: {}", failure.message),
                    ..failure
                });
            }
            ClientError::Refused { code, .. } => code.clone(),
            ClientError::Local(_) => "not_sent".to_owned(),
            _ => "unreachable".to_owned(),
        };
        self.answer(line, json!({ "code": code, "detail": error.to_string() }))
    }

    /// Prints what is left of a batch that cannot go on.
    pub(super) fn interrupted(self, error: ClientError) -> Failure {
        let printed = match self.output.format {
            Format::Json => Ok(()),
            _ => self.output.rows(&self.waiting),
        };
        printed.err().unwrap_or_else(|| error.into())
    }

    /// Prints what is left; a batch that did not go through is a failure.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.output.format != Format::Json {
            self.output.rows(&self.waiting)?;
        }
        let total = self.done + self.refused + self.unclear;
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
}

/// Sends records to a door that answers line by line, and verifies the receipts in the answers.
///
/// `header` goes before the records of each request, where the format has one.
pub(super) async fn send_portion(
    client: &Client,
    path: &str,
    (kind, header): (&str, Option<&str>),
    records: &[(u64, String)],
) -> Result<Vec<(u64, Value)>, ClientError> {
    let lines = header
        .into_iter()
        .chain(records.iter().map(|(_, r)| r.as_str()));
    let body = lines.fold(String::new(), |body, line| body + line + "\n");
    let request = Request::post(path, body).header("content-type", kind);
    let answer = client.send(request).await?;
    let before = u64::from(header.is_some());
    let mut answers = Vec::with_capacity(records.len());
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
        let record = number.and_then(|n| records.get(usize::try_from(n).ok()?));
        let (number, _) =
            record.ok_or_else(|| ClientError::Unexpected("an answer to no record".to_owned()))?;
        answers.push((*number, answer));
    }
    Ok(answers)
}

async fn verify_receipt(client: &Client, answer: &Value) -> Result<(), ClientError> {
    let Some(receipt) = answer.get("receipt").filter(|receipt| !receipt.is_null()) else {
        return Ok(());
    };
    let receipt: ReceiptDocument = serde_json::from_value(receipt.clone())
        .map_err(|error| ClientError::Unexpected(error.to_string()))?;
    client.verify_receipt(&receipt).await
}

/// Lines of JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Records of one request: few enough to be answered well within its time.
pub(super) const PORTION: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Colour;

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
        let mut results = Results::<Any>::new(&output);
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
        assert_eq!(exit(&[unclear, refused, done]), Exit::Refused);
    }

    #[test]
    fn records_keep_the_numbers_of_their_lines() {
        let text = Zeroizing::new(b"a\n\n b \r\n".to_vec());
        let records: Vec<_> = records(&text).collect();
        assert_eq!(records, [(1, &b"a"[..]), (3, &b"b"[..])]);
    }
}
