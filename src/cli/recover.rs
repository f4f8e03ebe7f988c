//! `log recover`: the log of a restored database is completed from a mirror.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::{Exit, Failure};
use super::instance;
use super::output::{Output, Row};
use super::settings::Settings;
use crate::identity::Anchors;
use crate::service::{Foundation, RecoverError, RecoveredEntry, recover};
use crate::tlog::{Note, TilePath};
use crate::tls::Material;
use crate::types::{Clock as _, SystemClock, SystemRandom};

/// Puts back what a restored database has lost of its log.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only the log comes back: the list says what must be deposited, imported or said again. What the \
                  recovered entries hide is lost.\nNothing is released until the registration feed has spoken again.\n\n\
                  Examples:\n  cos-escrow log recover --service escrow.toml --mirror ./mirror"
)]
pub(super) struct Arguments {
    /// The configuration file of the stopped service.
    #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
    service: PathBuf,
    /// A copy of the log: `checkpoint` and `tile/`, as C2SP tlog-tiles lays them out.
    #[arg(long, value_name = "DIR")]
    mirror: PathBuf,
}

impl Row for RecoveredEntry {
    const COLUMNS: &'static [&'static str] = &["index", "at", "kind", "again"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.index.to_string(),
            self.at.to_string(),
            self.kind.clone(),
            self.again.to_owned(),
        ]
    }
}

/// Recovers, and lists what was recovered.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::load(&arguments.service)?;
    let mirror = &arguments.mirror;
    let checkpoint = checkpoint(&mirror.join("checkpoint"))?;
    let foundation = offline(&settings).await?;
    let tiles = |tile: &TilePath| std::fs::read(mirror.join(tile.to_string()));
    let recovery = recover(foundation, &checkpoint, tiles).await?;
    output.rows(&recovery.entries)?;
    output.note(format_args!(
        "{} entries were recovered without what they hide; entry {} records it",
        recovery.entries.len(),
        recovery.recorded_at
    ));
    output.note("start the service, do again what the list says, and let the registrar import before anything is released");
    Ok(())
}

/// What the service stands on, for work on its log while it is stopped.
pub(super) async fn offline(settings: &Settings) -> Result<Foundation, Failure> {
    let clock = Arc::new(SystemClock);
    let material = Material::load(&settings.tls).map_err(Failure::failed)?;
    let anchors = Anchors::new(&material.roots, &material.lists, clock.now())?;
    let random = Arc::new(SystemRandom);
    instance::foundation(settings, Arc::new(anchors), clock, random).await
}

fn checkpoint(path: &Path) -> Result<Note, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::NotFound, named(&error)))?;
    text.parse()
        .map_err(|error| Failure::new(Exit::Unverified, named(&error)))
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        let exit = match &error {
            RecoverError::Moved => Exit::TryAgain,
            RecoverError::NothingMissing { .. }
            | RecoverError::Promised { .. }
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
            RecoverError::Moved => failure.hint("stop the service first"),
            _ => failure,
        }
    }
}
