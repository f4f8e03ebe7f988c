//! `cos-escrow healthcheck`: is the service on this machine ready? For containers and supervisors.

use std::path::PathBuf;

use super::exit::{Exit, Failure};
use super::output::{Output, Row};
use super::settings::Settings;
use crate::client::{Check, ClientError, Health, health};

/// Of which service.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    cos-escrow healthcheck --config /etc/cos-escrow/escrow.toml\n  \
    cos-escrow healthcheck --quiet\n\n\
    Exit code 0: ready. 6: it does not answer, or says why it is not ready.")]
pub(super) struct Arguments {
    /// The service's configuration file, which names its admin listener.
    #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
    config: PathBuf,
}

/// What became of one check.
#[derive(Debug, serde::Serialize)]
struct Checked {
    check: String,
    ok: bool,
    reason: Option<String>,
}

impl Row for Checked {
    const COLUMNS: &'static [&'static str] = &["check", "ok", "reason"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.check.clone(),
            self.ok.to_string(),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

impl From<Check> for Checked {
    fn from(Check { name, failure }: Check) -> Self {
        Self {
            check: name,
            ok: failure.is_none(),
            reason: failure,
        }
    }
}

/// Asks the admin listener.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::load(&arguments.config)?;
    match health(settings.admin).await {
        Ok(Health { ready, checks }) => {
            if !output.quiet {
                let checks: Vec<_> = checks.into_iter().map(Checked::from).collect();
                output.rows(&checks)?;
            }
            match ready {
                true => Ok(()),
                false => Err(Failure::new(Exit::TryAgain, "the service is not ready")),
            }
        }
        Err(error @ ClientError::Unreachable(_)) => {
            let message = format!("{}: {error}", settings.admin);
            Err(Failure::new(Exit::TryAgain, message).hint("is `cos-escrow serve` running?"))
        }
        Err(error) => Err(error.into()),
    }
}
