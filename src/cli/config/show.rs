//! `config`: every setting, and where its value comes from.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Connection, Origin, Setting, Settings};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Row};
use crate::cli::settings;

/// Says what a configuration means.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Every setting of a service, and where its value comes from.
    #[command(
        after_help = "Examples:\n  cos-escrow config show --config escrow.toml\n  \
                            cos-escrow config show -o json"
    )]
    Show {
        /// The service's configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
    },
    /// Every setting of a client of the service, and where its value comes from.
    #[command(after_help = "Example:\n  cos-escrow config client --config north/config.toml")]
    Client(Box<Connection>),
}

/// Prints the settings.
pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Show { config } => output.rows(&of_service(config)?),
        Command::Client(connection) => output.rows(&Settings::resolve(connection)?.explained),
    }
}

fn of_service(config: &Path) -> Result<Vec<Setting>, Failure> {
    let settings = settings::Settings::load(config)?;
    let text = std::fs::read_to_string(config).map_err(Failure::failed)?;
    let written: toml::Table = toml::from_str(&text).map_err(Failure::failed)?;
    // As JSON, which has a word for what has no value.
    let all = serde_json::to_value(&settings).map_err(Failure::failed)?;
    let mut explained = Vec::new();
    explain("", &all, Some(&written), &mut explained);
    Ok(explained)
}

fn explain(prefix: &str, all: &Value, written: Option<&toml::Table>, explained: &mut Vec<Setting>) {
    for (key, value) in all.as_object().into_iter().flatten() {
        let name = format!("{prefix}{key}");
        let in_file = written.and_then(|table| table.get(key));
        let (value, source) = match value {
            Value::Object(_) => {
                let below = in_file.and_then(toml::Value::as_table);
                explain(&format!("{name}."), value, below, explained);
                continue;
            }
            Value::Null => (None, Origin::Unset),
            Value::String(text) => (Some(text.clone()), Origin::Default),
            other => (Some(other.to_string()), Origin::Default),
        };
        explained.push(Setting {
            name,
            value,
            source: in_file.map_or(source, |_| Origin::File),
        });
    }
}

impl Row for Setting {
    const COLUMNS: &'static [&'static str] = &["name", "value", "source"];

    fn cells(&self) -> Vec<String> {
        let source = match self.source {
            Origin::Argument => "flag or environment",
            Origin::File => "file",
            Origin::Default => "default",
            Origin::Unset => "unset",
        };
        vec![
            self.name.clone(),
            self.value.clone().unwrap_or_default(),
            source.to_owned(),
        ]
    }
}
