//! `log verify --dir`: a copy of the log, verified with nobody's help, by the log's key or by a trust policy.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::finding::{Finding, Verdict};
use super::folder::{Folder, head_in, note_in};
use crate::cli::config::{self, Settings, missing};
use crate::cli::connect::log_key;
use crate::cli::document::{Document, Shape};
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::output::Output;
use crate::tlog::{Checkpoint, Note, TrustPolicy, VerifierKey};

/// What is verified, and by what.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// A folder of tlog-tiles with its `checkpoint`.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// An older checkpoint that the copy must continue.
    #[arg(long, value_name = "FILE", requires = "dir")]
    against: Option<PathBuf>,
    /// A tlog-policy: the log's key, and the witnesses whose cosignatures the checkpoint needs.
    #[arg(long, value_name = "FILE", requires = "dir")]
    policy: Option<PathBuf>,
}

/// Prints the verdict, whichever it is; any but `valid` is a failure too.
pub(super) fn run(
    connection: &config::Connection,
    dir: &Path,
    arguments: &Arguments,
    output: &Output,
) -> Result<(), Failure> {
    let settings = Settings::resolve(connection)?;
    let policy = arguments.policy.as_deref().map(read_policy).transpose()?;
    let folder = Folder::at(dir);
    let note = match note_in(&folder.checkpoint())? {
        Ok(note) => note,
        Err(finding) => return report(&json!({}), Err(finding), output),
    };
    let key = match (&settings.log_key, &policy) {
        (Some(text), _) => log_key(text)?,
        (None, Some(policy)) => named_in(policy, &note)?,
        (None, None) => return Err(missing("log_key")),
    };
    let former = arguments.against.as_deref();
    let former = match former.map(|file| head_in(file, &key)).transpose()? {
        Some(Ok(head)) => Some(head),
        Some(Err(finding)) => return report(&json!({}), Err(finding), output),
        None => None,
    };
    match open(&folder, &note, &key, policy.as_ref()) {
        Ok((checkpoint, says)) => {
            let verified = folder.verify(checkpoint.head, former, output);
            report(&says, verified, output)
        }
        Err(finding) => report(&json!({}), Err(finding), output),
    }
}

/// What the checkpoint says, if the log has signed it and its witnesses have cosigned it as the policy demands.
fn open(
    folder: &Folder,
    note: &Note,
    key: &VerifierKey,
    policy: Option<&TrustPolicy>,
) -> Result<(Checkpoint, Value), Finding> {
    let file = folder.checkpoint();
    let wrong = |error| Finding::of_checkpoint(&file, error);
    let (checkpoint, witnesses) = match policy {
        None => (Checkpoint::open(note, key).map_err(wrong)?, Value::Null),
        Some(policy) => {
            let trusted = policy.open(note, Some(key)).map_err(wrong)?;
            let by = trusted.witnesses.iter();
            let by = by.map(|(witness, at)| json!({ "name": witness.name, "at": at.to_string() }));
            (trusted.checkpoint, by.collect())
        }
    };
    let says = json!({
        "origin": checkpoint.origin.as_str(),
        "size": checkpoint.head.size,
        "root": checkpoint.head.root.to_string(),
        "witnesses": witnesses,
    });
    Ok((checkpoint, says))
}

fn report(says: &Value, verified: Result<(), Finding>, output: &Output) -> Result<(), Failure> {
    let mut row = says.clone();
    let finding = verified.err();
    let verdict = finding
        .as_ref()
        .map_or(Verdict::Valid, |finding| finding.verdict);
    row["verdict"] = json!(verdict.to_string());
    if let Some(finding) = &finding {
        row["reason"] = json!(finding.reason);
        row["entry"] = json!(finding.entry);
        row["tile"] = json!(finding.tile.map(|tile| tile.to_string()));
    }
    output.row(&Document::<Verified>::of(row))?;
    finding.map_or(Ok(()), |finding| Err(finding.into()))
}

pub(super) fn read_policy(file: &Path) -> Result<TrustPolicy, Failure> {
    let text = fs::read_to_string(file).map_err(|error| files::at(file, &error))?;
    text.parse().map_err(|error| {
        let message = format!("`{}`: {error}", file.display());
        Failure::new(Exit::Usage, message)
    })
}

/// The policy's key of the log whose checkpoint this says it is.
fn named_in(policy: &TrustPolicy, note: &Note) -> Result<VerifierKey, Failure> {
    let origin = note.text().lines().next().unwrap_or_default();
    let mut named = policy.logs().iter().map(|log| &log.key);
    let key = named.find(|key| key.name().as_str() == origin);
    key.cloned().ok_or_else(|| {
        let message = format!("the policy names no log `{origin}`");
        Failure::new(Exit::Unverifiable, message).hint("give the log's key with `--log-key`")
    })
}

struct Verified;

impl Shape for Verified {
    const COLUMNS: &'static [&'static str] =
        &["origin", "size", "root", "verdict", "reason", "entry"];
    const POINTERS: &'static [&'static str] =
        &["/origin", "/size", "/root", "/verdict", "/reason", "/entry"];
}
