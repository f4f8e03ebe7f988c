//! `cos-escrow party`: who takes part. For operators.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::sure;
use super::config;
use super::connect::{Session, now, wait};
use super::document::{Document, Shape, cell, with_query};
use super::exit::{Exit, Failure};
use super::output::{Output, Row};
use crate::client::{Client, ClientError, Request};
use crate::types::{Mpid, PartyId, Role, Timestamp};

/// What to do with parties, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: config::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a party.
    #[command(after_help = "Example:\n  cos-escrow party add north --name 'North Energy Ltd'")]
    Add {
        /// Its id, as in its certificates.
        id: PartyId,
        /// Its name for people.
        #[arg(long)]
        name: String,
    },
    /// List all parties.
    #[command(after_help = "Example:\n  cos-escrow party list -o csv")]
    List,
    /// Show one party.
    #[command(after_help = "Example:\n  cos-escrow party show north")]
    Show {
        /// The party.
        id: PartyId,
    },
    /// Stop a party from acting, at once.
    #[command(after_help = "Example:\n  cos-escrow party suspend north --yes")]
    Suspend {
        /// The party.
        id: PartyId,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Let a suspended party act again.
    #[command(after_help = "Example:\n  cos-escrow party resume north")]
    Resume {
        /// The party.
        id: PartyId,
    },
    /// Say under which market participant identifiers a party is registered.
    #[command(subcommand)]
    Mpid(MpidCommand),
}

#[derive(Debug, Subcommand)]
enum MpidCommand {
    /// Give a party an MPID.
    #[command(after_help = "Example:\n  \
        cos-escrow party mpid add north ZHTL --role X --from 2025-01-01T00:00:00Z")]
    Add {
        #[command(flatten)]
        held: Held,
        /// From when; from now if not given.
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
    },
    /// End a party's hold of an MPID.
    #[command(after_help = "Example:\n  \
        cos-escrow party mpid end north ZHTL --role X --until 2026-01-01T00:00:00Z")]
    End {
        #[command(flatten)]
        held: Held,
        /// Until when; until now if not given.
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
}

#[derive(Args, Debug)]
struct Held {
    /// The party.
    id: PartyId,
    /// The identifier: four capital letters or digits.
    mpid: Mpid,
    /// The role that it is held in: X supplier, M meter operator.
    #[arg(long, value_parser = role())]
    role: Role,
}

impl Held {
    fn at(&self, at: Option<Timestamp>) -> String {
        let at = at.unwrap_or_else(now);
        json!({ "mpid": self.mpid, "role": self.role, "at": at }).to_string()
    }
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new([Role::Supplier, Role::MeterOperator].map(Role::as_str))
        .try_map(|text| text.parse::<Role>())
}

/// Runs one of the commands.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    if let Command::Suspend { id, yes } = &arguments.command {
        sure(
            &format!("`{id}` will be refused everything at once;"),
            *yes,
            output,
        )?;
    }
    let client = Session::open(&arguments.connection)?.client;
    let change = match &arguments.command {
        Command::List => {
            let parties = wait(async { Ok(parties(&client).await?) })?;
            let rows: Vec<_> = parties.into_iter().map(Party).collect();
            return output.rows(&rows);
        }
        Command::Show { id } => {
            let parties = wait(async { Ok(parties(&client).await?) })?;
            let shown = parties.into_iter().find(|party| party["id"] == json!(id));
            let unknown = || Failure::new(Exit::NotFound, format!("no party is called `{id}`"));
            return output.row(&Party(shown.ok_or_else(unknown)?));
        }
        Command::Add { id, name } => {
            Request::post("/v1/parties", json!({ "id": id, "name": name }).to_string())
        }
        Command::Suspend { id, .. } => Request::post(format!("/v1/parties/{id}/suspend"), ""),
        Command::Resume { id } => Request::post(format!("/v1/parties/{id}/resume"), ""),
        Command::Mpid(MpidCommand::Add { held, from }) => {
            Request::post(format!("/v1/parties/{}/mpids", held.id), held.at(*from))
        }
        Command::Mpid(MpidCommand::End { held, until }) => Request::post(
            format!("/v1/parties/{}/mpids/end", held.id),
            held.at(*until),
        ),
    };
    let answer = wait(async { Ok(client.acknowledged(change).await?) })?;
    match arguments.command {
        Command::Mpid(_) => output.row(&Document::<Holding>::of(answer)),
        _ => output.row(&Document::<Status>::of(answer)),
    }
}

/// All parties, page after page.
async fn parties(client: &Client) -> Result<Vec<Value>, ClientError> {
    let mut after = None;
    let mut parties = Vec::new();
    loop {
        let parameters = [("after", after), ("limit", Some("1000".to_owned()))];
        let path = with_query("/v1/parties", &parameters);
        let mut page: Value = client.send(Request::get(path)).await?.json()?;
        if let Value::Array(shown) = page["parties"].take() {
            parties.extend(shown);
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(parties);
        }
    }
}

/// A party with the MPIDs that it holds or held.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct Party(Value);

impl Row for Party {
    const COLUMNS: &'static [&'static str] = &["id", "name", "status", "mpids", "created_at"];

    fn cells(&self) -> Vec<String> {
        let field = |name: &str| cell(&self.0[name]);
        let held = self.0["mpids"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let current = held.iter().filter(|held| held["until"].is_null());
        let mpids: Vec<_> = current
            .map(|held| format!("{}/{}", cell(&held["mpid"]), cell(&held["role"])))
            .collect();
        vec![
            field("id"),
            field("name"),
            field("status"),
            mpids.join(" "),
            field("created_at"),
        ]
    }
}

struct Status;

impl Shape for Status {
    const COLUMNS: &'static [&'static str] = &["id", "status", "entry"];
    const POINTERS: &'static [&'static str] = &["/id", "/status", "/receipt/index"];
}

struct Holding;

impl Shape for Holding {
    const COLUMNS: &'static [&'static str] = &["party", "mpid", "role", "entry"];
    const POINTERS: &'static [&'static str] = &["/party", "/mpid", "/role", "/receipt/index"];
}
