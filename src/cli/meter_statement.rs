//! `cos-escrow meter-statement`: what a registered supplier says of its meters, before any switch is in sight.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::batch::{NDJSON, PORTION, Results, portion_of, send_portion};
use super::config;
use super::connect::{Session, wait};
use super::document::{Document, Shape};
use super::exit::Failure;
use super::lines::Lines;
use super::output::Output;
use super::rows::{Column, Kind};
use crate::client::{Client, Request};
use crate::types::{MeterSerial, SupplyPoint, SupplyStartDate};

/// What to do with meter statements, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: config::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// State what meter hangs at a supply point of ours, or at many.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter-statement put 9693016118873 --smart yes --serial E19B762798 --class RCAMR\n  \
        cos-escrow meter-statement put --from meters.ndjson\n\n\
        A record of `--from` is {\"supply_point\":…,\"smart\":true,\"serial\":…,\"class\":…,\"head_end_manager\":…,\n\
        \"installed\":…,\"effective_from\":…}; only the first three are required. Or CSV with these as its columns.")]
    Put(Put),
}

#[derive(Args, Debug)]
struct Put {
    /// The supply point (MPAN core or MPRN).
    #[arg(value_name = "MPXN", required_unless_present = "from", requires_all = ["smart", "serial"])]
    supply_point: Option<SupplyPoint>,
    /// Many statements, one JSON record a line, or CSV with a header; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["supply_point", "smart", "serial"])]
    from: Option<PathBuf>,
    /// Whether it works as a smart or advanced meter: yes or no.
    #[arg(long, value_name = "YES|NO", value_parser = BoolishValueParser::new())]
    smart: Option<bool>,
    /// Its serial.
    #[arg(long)]
    serial: Option<MeterSerial>,
    /// Its class, as the industry codes it.
    #[arg(long, requires = "supply_point")]
    class: Option<String>,
    /// Who runs the head end that talks to it.
    #[arg(long, value_name = "NAME", requires = "supply_point")]
    head_end_manager: Option<String>,
    /// When it was installed.
    #[arg(long, value_name = "DATE", requires = "supply_point")]
    installed: Option<SupplyStartDate>,
    /// From when this holds; from today if not given.
    #[arg(long, value_name = "DATE", requires = "supply_point")]
    effective_from: Option<SupplyStartDate>,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let Command::Put(put) = &arguments.command;
    let client = Session::open(&arguments.connection)?.client;
    if let Some(supply_point) = &put.supply_point {
        let path = format!("/v1/supply-points/{supply_point}/meter");
        let request = Request::put(path, put.statement().to_string());
        let answer = wait(async { Ok(client.acknowledged(request).await?) })?;
        return output.row(&Document::<Stated>::of(answer));
    }
    let mut lines = Lines::open_records(put.from.as_deref().unwrap_or("-".as_ref()), &COLUMNS)?;
    wait(put_many(&client, &mut lines, output))
}

impl Put {
    fn statement(&self) -> Value {
        json!({
            "smart": self.smart,
            "serial": self.serial,
            "class": self.class,
            "head_end_manager": self.head_end_manager,
            "installed": self.installed,
            "effective_from": self.effective_from,
        })
    }
}

async fn put_many(client: &Client, lines: &mut Lines, output: &Output) -> Result<(), Failure> {
    let mut results = Results::<StatedLine>::of(output, "statements", lines);
    while let Some(statements) = portion_of(lines, &mut results, PORTION)? {
        let answers = match send_portion(client, DOOR, (NDJSON, None), &statements).await {
            Ok(answers) => answers,
            Err(error) => return Err(results.interrupted(error)),
        };
        for (line, answer) in answers {
            results.answer(line, answer)?;
        }
        results.reached(lines)?;
    }
    results.finish()
}

struct Stated;

impl Shape for Stated {
    const COLUMNS: &'static [&'static str] = &["supply_point", "version", "entry"];
    const POINTERS: &'static [&'static str] = &["/supply_point", "/version", "/receipt/index"];
}

struct StatedLine;

impl Shape for StatedLine {
    const COLUMNS: &'static [&'static str] =
        &["line", "supply_point", "version", "entry", "code", "detail"];
    const POINTERS: &'static [&'static str] = &[
        "/line",
        "/supply_point",
        "/version",
        "/receipt/index",
        "/code",
        "/detail",
    ];
}

/// What a statement may have.
const COLUMNS: [Column; 7] = [
    ("supply_point", Kind::Text),
    ("smart", Kind::YesNo),
    ("serial", Kind::Text),
    ("class", Kind::Text),
    ("head_end_manager", Kind::Text),
    ("installed", Kind::Text),
    ("effective_from", Kind::Text),
];
/// Where many statements are taken at once.
const DOOR: &str = "/v1/meters";
