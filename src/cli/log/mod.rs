//! `cos-escrow log`: what auditors, and everybody who relies on the log, look at and verify.

mod arguments;
mod export;
mod finding;
mod folder;
mod mirror;
mod monitor;
mod verify;

use std::path::Path;

use serde_json::{Value, json};

pub(super) use self::arguments::Arguments;
use self::arguments::{Command, Search};
use self::folder::{Folder, note_in};
use super::config::missing;
use super::connect::{Session, log_key, wait};
use super::document::{Document, Shape, with_query};
use super::exit::{Exit, Failure};
use super::files;
use super::output::Output;
use crate::client::{Client, ClientError, Request};
use crate::tlog::{Checkpoint, Note, TreeHead, VerifierKey, leaf_hash};
use crate::types::Timestamp;

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
            let entries = wait(async { Ok(search(&client, query, output).await?) })?;
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

/// An entry whose shown fields give the hash that the service says is in the tree.
async fn show(client: &Client, index: u64) -> Result<Value, ClientError> {
    let path = format!("/v1/log/entries/{index}");
    let entry: Value = client.send(Request::get(path)).await?.json()?;
    check(&entry)?;
    Ok(entry)
}

/// Everybody who may look sees every entry, so one that is not found is not there yet.
fn absent(index: u64) -> impl Fn(ClientError) -> Failure {
    move |error| match error.code() {
        Some("not_found") => Failure::new(Exit::NotFound, format!("the log has no entry {index}"))
            .hint("`cos-escrow log checkpoint` shows its size; the first entry is 0"),
        _ => error.into(),
    }
}

fn check(entry: &Value) -> Result<(), ClientError> {
    let leaf = serde_json_canonicalizer::to_vec(&entry["leaf"])
        .map_err(|error| ClientError::Unexpected(error.to_string()))?;
    if entry["leaf_hash"] == leaf_hash(&leaf).to_string() {
        return Ok(());
    }
    let message = format!("entry {} is not the one of its hash", entry["index"]);
    Err(ClientError::Verification(message))
}

/// One page, or all of them.
async fn search(
    client: &Client,
    query: &Search,
    output: &Output,
) -> Result<Vec<Value>, ClientError> {
    let mut before = query.before;
    let mut entries = Vec::new();
    loop {
        let path = with_query("/v1/log/entries", &query.parameters(before));
        let mut page: Value = client.send(Request::get(path)).await?.json()?;
        if let Value::Array(shown) = page["entries"].take() {
            shown.iter().try_for_each(check)?;
            entries.extend(shown);
        }
        before = page["next"].as_u64();
        match before {
            Some(next) if !query.all => {
                output.note(format!("there are more: `--before {next}`, or `--all`"));
                return Ok(entries);
            }
            Some(_) => {}
            None => return Ok(entries),
        }
    }
}

impl Search {
    /// All entries of a period.
    fn of_period(from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self {
            actor: None,
            supply_point: None,
            kind: None,
            code: None,
            from,
            until,
            before: None,
            limit: 1_000,
            all: true,
        }
    }

    fn parameters(&self, before: Option<u64>) -> [(&'static str, Option<String>); 8] {
        [
            ("actor", self.actor.clone()),
            (
                "supply_point",
                self.supply_point.as_ref().map(ToString::to_string),
            ),
            ("kind", self.kind.clone()),
            ("code", self.code.clone()),
            ("from", self.from.as_ref().map(ToString::to_string)),
            ("until", self.until.as_ref().map(ToString::to_string)),
            ("before", before.map(|index| index.to_string())),
            ("limit", Some(self.limit.to_string())),
        ]
    }
}

/// The newest checkpoint continues the one that was seen last.
fn verify_service(client: &Client, output: &Output) -> Result<(), Failure> {
    let note = wait(async { Ok(client.verified_checkpoint().await?) })?;
    output.note("the log continues what was seen before; `--dir` verifies every entry");
    output.row(&Document::<Head>::of(described(&note)?))
}

/// Brings a copy up to date. Its checkpoint is replaced only when everything below it was verified. Returns its head, and
/// how many tiles were fetched.
fn copy(
    session: &Session,
    key: &VerifierKey,
    dir: &Path,
    output: &Output,
) -> Result<(TreeHead, usize), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| files::at(dir, &error))?;
    let folder = Folder::at(dir);
    let former = match folder.checkpoint().exists() {
        true => Some(folder.head(key)?),
        false => None,
    };
    let (note, head, fetched) = wait(async {
        let note = session.client.cosigned_checkpoint().await?;
        let checkpoint =
            Checkpoint::open(&note, key).map_err(|error| Failure::new(Exit::Unverified, error))?;
        let size = checkpoint.head.size;
        let fetched = mirror::fetch(&session.client, &folder, size, output).await?;
        Ok((note, checkpoint.head, fetched))
    })?;
    folder.verify(head, former, output)?;
    let note = match former {
        Some(former) if former == head => with_earlier_cosignatures(note, &folder)?,
        _ => note,
    };
    // ORDER: the checkpoint last: a copy never claims what was not verified.
    folder.put_checkpoint(&note)?;
    Ok((head, fetched))
}

/// The log's key, as configured.
fn key_of(session: &Session) -> Result<VerifierKey, Failure> {
    let text = session.settings.log_key.as_deref();
    log_key(text.ok_or_else(|| missing("log_key"))?)
}

/// A checkpoint of the same head as the one in the folder keeps the cosignatures that this has collected.
fn with_earlier_cosignatures(mut note: Note, folder: &Folder) -> Result<Note, Failure> {
    let earlier = note_in(&folder.checkpoint())??;
    for signature in earlier.signatures() {
        note.add_once(signature.clone()).map_err(Failure::failed)?;
    }
    Ok(note)
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
