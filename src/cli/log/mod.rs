//! `cos-escrow log`: what auditors, and everybody who relies on the log, look at and verify.

mod arguments;
mod export;
mod finding;
mod folder;
mod mirror;
mod monitor;
mod search;
mod verify;

use serde_json::{Value, json};

pub(super) use self::arguments::Arguments;
use self::arguments::Command;
use self::mirror::copy;
use self::search::{found, show};
use super::config::missing;
use super::connect::{Session, log_key, wait};
use super::document::{Document, Shape};
use super::exit::{Exit, Failure};
use super::output::Output;
use crate::client::{Client, ClientError};
use crate::tlog::{Checkpoint, Note, VerifierKey};

/// Runs one of the commands.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let connection = &arguments.connection;
    let open = || Session::open(connection);
    match &arguments.command {
        Command::Checkpoint => {
            let client = open()?.client;
            let note = wait(async { Ok(client.verified_checkpoint().await?) })?;
            output.row(&Document::<Head>::of(described(&note)?))
        }
        Command::Show { index } => {
            let client = open()?.client;
            let entry = wait(async { show(&client, *index).await.map_err(absent(*index)) })?;
            output.row(&Document::<Entry>::of(entry))
        }
        Command::Search(query) => {
            let client = open()?.client;
            let entries = wait(async { Ok(found(&client, query, output).await?) })?;
            output.rows(&Document::<Entry>::list(&Value::Array(entries)))
        }
        Command::Verify(verify) => match &verify.dir {
            Some(dir) => verify::run(connection, dir, verify, output),
            None => verify_service(&open()?.client, output),
        },
        Command::Monitor(arguments) => {
            let session = open()?;
            let key = key_of(&session)?;
            wait(monitor::run(&session, &key, arguments, output))
        }
        Command::Mirror { dir } => {
            let session = open()?;
            let key = key_of(&session)?;
            let (head, fetched) = copy(&session, &key, dir, output)?;
            output.row(&Document::<Mirrored>::of(json!({
                "origin": key.name().as_str(),
                "size": head.size,
                "root": head.root.to_string(),
                "fetched": fetched,
                "dir": dir.display().to_string(),
            })))
        }
        Command::Export(arguments) => {
            let session = open()?;
            let key = key_of(&session)?;
            export::run(&session, &key, arguments, output)
        }
    }
}

/// What a checkpoint says.
fn described(note: &Note) -> Result<Value, Failure> {
    let checkpoint: Checkpoint = note
        .text()
        .parse()
        .map_err(|error| Failure::new(Exit::Unverified, format!("the checkpoint: {error}")))?;
    Ok(json!({
        "origin": checkpoint.origin.as_str(),
        "size": checkpoint.head.size,
        "root": checkpoint.head.root.to_string(),
        "note": note.to_string(),
    }))
}

/// Everybody who may look sees every entry, so one that is not found is not there yet.
fn absent(index: u64) -> impl Fn(ClientError) -> Failure {
    move |error| match error.code() {
        Some("not_found") => Failure::new(Exit::NotFound, format!("the log has no entry {index}"))
            .hint("`cos-escrow log checkpoint` shows its size; the first entry is 0"),
        _ => error.into(),
    }
}

/// The newest checkpoint continues the one that was seen last.
fn verify_service(client: &Client, output: &Output) -> Result<(), Failure> {
    let note = wait(async { Ok(client.verified_checkpoint().await?) })?;
    output.note("the log continues what was seen before; `--dir` verifies every entry");
    output.row(&Document::<Head>::of(described(&note)?))
}

/// The log's key, as configured.
fn key_of(session: &Session) -> Result<VerifierKey, Failure> {
    let text = session.settings.log_key.as_deref();
    log_key(text.ok_or_else(|| missing("log_key"))?)
}

struct Head;

impl Shape for Head {
    const COLUMNS: &'static [&'static str] = &["origin", "size", "root"];
    const POINTERS: &'static [&'static str] = &["/origin", "/size", "/root"];
}

struct Mirrored;

impl Shape for Mirrored {
    const COLUMNS: &'static [&'static str] = &["origin", "size", "root", "fetched", "dir"];
    const POINTERS: &'static [&'static str] = &["/origin", "/size", "/root", "/fetched", "/dir"];
}

struct Entry;

impl Shape for Entry {
    const COLUMNS: &'static [&'static str] =
        &["index", "at", "kind", "actor", "supply_point", "code"];
    const POINTERS: &'static [&'static str] = &[
        "/index",
        "/at",
        "/kind",
        "/disclosed/actor",
        "/disclosed/supply_point",
        "/leaf/code",
    ];
}
