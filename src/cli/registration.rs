//! `cos-escrow registration import`: the registration feed, from files. For registrars.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::batch::{NDJSON, PORTION, Results, portion_of, send_portion};
use super::config;
use super::connect::{Session, wait};
use super::document::Shape;
use super::exit::Failure;
use super::lines::Lines;
use super::output::{Format as Printed, Output};
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
        cos-escrow registration import snapshot.csv --format snapshot\n  \
        zcat snapshot.csv.gz | cos-escrow registration import - --format snapshot\n\n\
        Bad records are printed with their line and code as they come, and the command then ends with exit code 4; \
        the others are in. With `-o json` the counts are the last line. What was imported before is known and changes \
        nothing, so an import that broke off is run again.")]
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
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
struct Summary {
    recorded: u64,
    known: u64,
    refused: u64,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let Command::Import { file, format } = &arguments.command;
    let mut lines = Lines::open(file)?;
    let client = Session::open(&arguments.connection)?.client;
    wait(import(&client, &mut lines, *format, output))
}

async fn import(
    client: &Client,
    lines: &mut Lines,
    format: Format,
    output: &Output,
) -> Result<(), Failure> {
    let mut results = Results::<Problem>::of(output, "registrations", lines);
    let mut summary = Summary::default();
    let (kind, header) = match format {
        Format::Css => (NDJSON, None),
        // Each portion is a snapshot of its own, with the header of the whole.
        Format::Snapshot => (
            "text/csv",
            lines.next()?.and_then(|(_, header)| header.ok()),
        ),
    };
    let form = (kind, header.as_ref().map(|header| header.as_slice()));
    while let Some(portion) = portion_of(lines, &mut results, PORTION * 10)? {
        let answers = match send_portion(client, "/v1/registrations", form, &portion).await {
            Ok(answers) => answers,
            Err(error) => return Err(results.interrupted(error)),
        };
        for (line, answer) in answers {
            match answer["result"].as_str() {
                Some("recorded") => summary.recorded += 1,
                Some("known") => summary.known += 1,
                _ => {}
            }
            results.problem(line, answer)?;
        }
        results.reached(lines)?;
    }
    summary.refused = results.not_done();
    let finished = results.finish();
    match output.format {
        Printed::Json => output.print(&format!("{}\n", json!(summary)))?,
        Printed::Table | Printed::Csv => output.note(format!(
            "{} recorded, {} known, {} refused",
            summary.recorded, summary.known, summary.refused
        )),
    }
    finished
}

/// A record that did not go in.
struct Problem;

impl Shape for Problem {
    const COLUMNS: &'static [&'static str] = &["line", "code", "detail"];
    const POINTERS: &'static [&'static str] = &["/line", "/code", "/detail"];
}
