//! `cos-escrow lookup`: is this supply point smart, which meter is it, who manages its head end?

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::batch::{NDJSON, PORTION, Results, portion_of, send_portion};
use super::config;
use super::connect::{Session, wait};
use super::document::{Document, Shape, with_query};
use super::exit::Failure;
use super::lines::Lines;
use super::output::Output;
use super::rows::{Column, Kind};
use crate::client::{Client, ClientError, Request};
use crate::types::SupplyPoint;

/// About what to ask, and why.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("about").required(true).args(["supply_point", "from"]))]
pub(crate) struct Arguments {
    /// The supply point (MPAN core or MPRN).
    #[arg(value_name = "MPXN")]
    supply_point: Option<SupplyPoint>,
    /// Many supply points, one a line, bare or as {"supply_point":…,"purpose":…}, or CSV with these columns; `-` is stdin.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Why we ask, where we neither supply the point nor are about to; recorded in the log.
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    #[command(flatten)]
    connection: config::Connection,
}

/// Asks about one or many.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let client = Session::open(&arguments.connection)?.client;
    let purpose = arguments.purpose.as_deref();
    if let Some(supply_point) = &arguments.supply_point {
        let answer = wait(async { Ok(look_up(&client, supply_point, purpose).await?) })?;
        return output.row(&Document::<Answer>::of(answer));
    }
    let path = arguments.from.as_deref().unwrap_or("-".as_ref());
    let mut lines = Lines::open_records(path, &COLUMNS)?;
    wait(look_up_many(&client, &mut lines, purpose, output))
}

/// Asks about one supply point.
async fn look_up(
    client: &Client,
    supply_point: &SupplyPoint,
    purpose: Option<&str>,
) -> Result<Value, ClientError> {
    let path = format!("/v1/supply-points/{supply_point}");
    let path = with_query(&path, &[("purpose", purpose.map(str::to_owned))]);
    client.acknowledged(Request::get(path)).await
}

async fn look_up_many(
    client: &Client,
    lines: &mut Lines,
    purpose: Option<&str>,
    output: &Output,
) -> Result<(), Failure> {
    let mut results = Results::<AnswerLine>::of(output, "look-ups", lines);
    while let Some(portion) = portion_of(lines, &mut results, PORTION)? {
        let questions = portion.iter();
        let questions: Vec<_> = questions
            .map(|(line, record)| (*line, question(record, purpose)))
            .collect();
        let answers = match send_portion(client, DOOR, (NDJSON, None), &questions).await {
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

/// A line of the file as a line of the request: what is not JSON is a supply point by itself.
fn question(line: &[u8], purpose: Option<&str>) -> String {
    let text = String::from_utf8_lossy(line).into_owned();
    match line.first() {
        Some(b'{') => text,
        _ => json!({ "supply_point": text, "purpose": purpose }).to_string(),
    }
}

struct Answer;

impl Shape for Answer {
    const COLUMNS: &'static [&'static str] = &[
        "supply_point",
        "smart",
        "class",
        "serial",
        "head_end_manager",
        "installed",
        "effective_from",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/supply_point",
        "/smart",
        "/class",
        "/serial",
        "/head_end_manager",
        "/installed",
        "/effective_from",
    ];
}

struct AnswerLine;

impl Shape for AnswerLine {
    const COLUMNS: &'static [&'static str] = &[
        "line",
        "supply_point",
        "smart",
        "class",
        "serial",
        "head_end_manager",
        "code",
        "detail",
    ];
    const POINTERS: &'static [&'static str] = &[
        "/line",
        "/supply_point",
        "/smart",
        "/class",
        "/serial",
        "/head_end_manager",
        "/code",
        "/detail",
    ];
}

/// What a question may have.
const COLUMNS: [Column; 2] = [("supply_point", Kind::Text), ("purpose", Kind::Text)];
/// Where many questions are answered at once.
const DOOR: &str = "/v1/supply-points:lookup";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_supply_point_becomes_a_question() {
        let asked: Value =
            serde_json::from_str(&question(b"9693016118873", Some("quote"))).unwrap();
        let expected = json!({ "supply_point": "9693016118873", "purpose": "quote" });
        assert_eq!(asked, expected);
        let json = br#"{"supply_point":"9693016118873"}"#;
        assert_eq!(question(json, Some("quote")).as_bytes(), json);
    }
}
