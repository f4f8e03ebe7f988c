//! `db recover`: the log of a restored database is completed from a mirror.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::{Exit, Failure};
use super::files;
use super::instance::{self, Start};
use super::output::{Output, Row};
use super::settings::Settings;
use super::sole;
use crate::identity::Anchors;
use crate::service::{Foundation, RecoverError, RecoveredEntry, recover};
use crate::tlog::{Note, TilePath};
use crate::tls::Material;
use crate::types::{Clock as _, SystemClock, SystemRandom};

/// Puts back what a restored database has lost of its log.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only the log comes back: the list says what must be deposited, imported or said again. What the \
                  recovered entries hide is lost, but for those of which somebody has kept the receipt.\nNothing is released until the registration feed has spoken again.\n\n\
                  Examples:\n  cos-escrow db recover --config escrow.toml --mirror ./mirror"
)]
pub(super) struct Arguments {
    /// The configuration file of the stopped service.
    #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
    config: PathBuf,
    /// A copy of the log: `checkpoint` and `tile/`, as C2SP tlog-tiles lays them out.
    #[arg(long, value_name = "DIR")]
    mirror: PathBuf,
    /// Receipts that suppliers have kept, one JSON document a line, as answers carry them: their entries are found by
    /// actor and supply point again.
    #[arg(long, value_name = "FILE")]
    receipts: Option<PathBuf>,
}

/// What is read of a receipt.
#[derive(serde::Deserialize)]
struct Disclosed {
    index: u64,
    disclosures: Vec<String>,
}

impl Row for RecoveredEntry {
    const COLUMNS: &'static [&'static str] = &["index", "at", "kind", "disclosed", "again"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.index.to_string(),
            self.at.to_string(),
            self.kind.clone(),
            self.disclosed.to_string(),
            self.again.to_owned(),
        ]
    }
}

/// Recovers, and lists what was recovered.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::load(&arguments.config)?;
    let mirror = &arguments.mirror;
    let checkpoint = checkpoint(&mirror.join("checkpoint"))?;
    let _sole = sole::writer_of(&settings.store)?;
    let foundation = offline(&settings).await?;
    let tiles = |tile: &TilePath| std::fs::read(mirror.join(tile.to_string()));
    let disclosures = match &arguments.receipts {
        Some(file) => disclosures(file)?,
        None => BTreeMap::new(),
    };
    let recovery = recover(foundation, &checkpoint, tiles, &disclosures).await?;
    output.rows(&recovery.entries)?;
    let known = recovery.entries.iter().filter(|entry| entry.disclosed);
    output.note(format_args!(
        "{} entries were recovered; entry {} records it",
        recovery.entries.len(),
        recovery.recorded_at
    ));
    output.note(format_args!(
        "what they hide came back for {}; the others are found by kind, code and time alone",
        known.count()
    ));
    output.note("start the service, do again what the list says, and let the registrar import before anything is released");
    Ok(())
}

/// What receipts disclose, by index of their entry.
fn disclosures(file: &Path) -> Result<BTreeMap<u64, Vec<String>>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| files::at(file, &error))?;
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| {
            let receipt: Disclosed = serde_json::from_str(line).map_err(|error| {
                let file = file.display();
                Failure::new(Exit::Usage, format!("`{file}`, line {number}: {error}"))
            })?;
            Ok((receipt.index, receipt.disclosures))
        })
        .collect()
}

/// What the service stands on, for work on its log while it is stopped.
pub(super) async fn offline(settings: &Settings) -> Result<Foundation, Failure> {
    let clock = Arc::new(SystemClock);
    let material = Material::load(&settings.tls)?;
    let anchors = Anchors::new(&material.roots, &material.lists, clock.now())?;
    let random = Arc::new(SystemRandom);
    instance::foundation(settings, Start::Later, Arc::new(anchors), clock, random).await
}

fn checkpoint(path: &Path) -> Result<Note, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| files::at(path, &error))?;
    text.parse()
        .map_err(|error| Failure::new(Exit::Unverified, format!("`{}`: {error}", path.display())))
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        let exit = match &error {
            RecoverError::Moved => Exit::TryAgain,
            RecoverError::NothingMissing { .. }
            | RecoverError::Promised { .. }
            | RecoverError::Empty
            | RecoverError::NotEmpty { .. }
            | RecoverError::Failed(_) => Exit::Failed,
            _ => Exit::Unverified,
        };
        let failure = Self::new(exit, &error);
        match error {
            RecoverError::Behind { .. } => {
                failure.hint("another mirror may have them: ask auditors and witnesses")
            }
            RecoverError::NothingMissing { .. } => failure.hint(
                "a service that is fenced all the same has lost its anchor (`db anchor`) or has another history: \
                 restore another backup",
            ),
            RecoverError::Empty => failure.hint(
                "put a backup back (`db restore`) or the log of a mirror (`db recover`); if there is neither, say \
                 `--empty`",
            ),
            RecoverError::NotEmpty { .. } => failure.hint("leave `--empty` out"),
            RecoverError::Moved => failure.hint("stop the service first"),
            _ => failure,
        }
    }
}
