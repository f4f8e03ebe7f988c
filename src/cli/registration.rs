//! `cos-escrow registration import`: the registration feed, from files. For registrars.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::batch::{NDJSON, PORTION, records, send_portion};
use super::config;
use super::connect::{Session, wait};
use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::files;
use super::output::{Format as Printed, Output};
use super::progress::Progress;
use crate::client::Client;

/// What to do with registrations, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: config::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import events or a copy of the registration data; bad records are named, the others go in.
    #[command(after_help = "Examples:\n  \
        cos-escrow registration import events.ndjson --format css\n  \
        cos-escrow registration import snapshot.csv --format snapshot\n\n\
        What was imported before is known and changes nothing, so an import that broke off is run again.")]
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
        /// Its form.
        #[arg(long, value_enum)]
        format: Format,
    },
}

/// The forms in which registrations come.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// One CSS event a line, as JSON.
    Css,
    /// A CSV copy of the registration data, with a header row.
    Snapshot,
}

/// How an import went.
#[derive(Debug, Default, serde::Serialize)]
struct Summary {
    recorded: usize,
    known: usize,
    refused: usize,
    problems: Vec<Value>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let Command::Import { file, format } = &arguments.command;
    let text = files::read(file)?;
    let client = Session::open(&arguments.connection)?.client;
    let summary = wait(import(&client, &text, *format, output))?;
    let counts = format!(
        "{} recorded, {} known, {} refused",
        summary.recorded, summary.known, summary.refused
    );
    output.note(counts);
    match output.format {
        Printed::Json => output.json(&summary)?,
        _ if summary.problems.is_empty() => {}
        _ => output.rows(&Document::<Problem>::list(&json!(summary.problems)))?,
    }
    match summary.refused {
        0 => Ok(()),
        refused => Err(Failure::new(
            Exit::Refused,
            format!("{refused} records were refused"),
        )),
    }
}

async fn import(
    client: &Client,
    text: &zeroize::Zeroizing<Vec<u8>>,
    format: Format,
    output: &Output,
) -> Result<Summary, Failure> {
    let record =
        |(line, record): (u64, &[u8])| (line, String::from_utf8_lossy(record).into_owned());
    let mut records = records(text).map(record);
    let (kind, header) = match format {
        Format::Css => (NDJSON, None),
        // Each portion is a snapshot of its own, with the header of the whole.
        Format::Snapshot => ("text/csv", records.next().map(|(_, header)| header)),
    };
    let records: Vec<_> = records.collect();
    let progress = Progress::start(output, "registrations", records.len() as u64);
    let mut summary = Summary::default();
    for portion in records.chunks(PORTION * 10) {
        let form = (kind, header.as_deref());
        let answers = send_portion(client, "/v1/registrations", form, portion).await?;
        for (line, answer) in answers {
            summary.count(line, answer);
            progress.advance();
        }
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, line: u64, mut answer: Value) {
        match answer["result"].as_str() {
            Some("recorded") => self.recorded += 1,
            Some("known") => self.known += 1,
            _ => {
                self.refused += 1;
                answer["line"] = json!(line);
                self.problems.push(answer);
            }
        }
    }
}

struct Problem;

impl Shape for Problem {
    const COLUMNS: &'static [&'static str] = &["line", "code", "detail"];
    const POINTERS: &'static [&'static str] = &["/line", "/code", "/detail"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_and_names_the_bad_records() {
        let mut summary = Summary::default();
        summary.count(1, json!({ "line": 1, "result": "recorded" }));
        summary.count(2, json!({ "line": 2, "result": "known" }));
        summary.count(9, json!({ "line": 3, "code": "check_digit" }));
        assert_eq!(
            (summary.recorded, summary.known, summary.refused),
            (1, 1, 1)
        );
        assert_eq!(
            summary.problems,
            [json!({ "line": 9, "code": "check_digit" })]
        );
    }
}
