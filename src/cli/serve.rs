//! `serve`: runs the service until it is told to stop; `config show`: says what it would run with.

use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Failure;
use super::instance::Instance;
use super::output::{Output, Row};
use super::settings::Settings;
use crate::types::{SystemClock, SystemRandom};

/// Runs the service.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGHUP reads certificates, revocation lists, roots, policies and terms again. SIGTERM stops gracefully.\n\n\
                  Examples:\n  cos-escrow serve --config /etc/cos-escrow/escrow.toml"
)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
    config: PathBuf,
}

/// Says what a configuration means.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Every value of a service's configuration, and where it comes from.
    #[command(
        after_help = "Examples:\n  cos-escrow config show --config escrow.toml\n  \
                            cos-escrow config show -o json"
    )]
    Show {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "escrow.toml")]
        config: PathBuf,
    },
}

/// Runs the service until SIGTERM or SIGINT.
pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    no_core_dumps()?;
    start_logging();
    // ORDER: before anything listens, as a signal that nobody waits for ends the process at once.
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let settings = Settings::load(&arguments.config)?;
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(Failure::failed)?;
    let instance = Instance::start(
        settings,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
        metrics,
    )
    .await?;
    output.note(format_args!(
        "listening on {}, admin on {}",
        instance.address, instance.admin
    ));
    output.note(format_args!("log key {}", instance.escrow.log_key()));
    if let Some(reason) = instance.escrow.fenced() {
        output.note(format_args!("read-only: {reason}"));
    }
    tracing::info!(address = %instance.address, admin = %instance.admin, "serving");
    loop {
        tokio::select! {
            _ = hangup.recv() => match reload(&instance, &arguments.config).await {
                Ok(()) => tracing::info!("configuration was read again"),
                // What is in force stays in force.
                Err(failure) => tracing::error!(error = failure.message, "reading again failed"),
            },
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    output.note("stopping");
    instance.stop().await;
    Ok(())
}

async fn reload(instance: &Instance, config: &std::path::Path) -> Result<(), Failure> {
    instance.reload(&Settings::load(config)?).await
}

/// A core dump of this process would hold keys.
pub(super) fn no_core_dumps() -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(Failure::failed)
}

/// JSON lines on stderr; `RUST_LOG` chooses what.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    // A second subscriber in one process is a test's; the first one stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// One value of the configuration.
#[derive(Debug, serde::Serialize)]
struct Value {
    name: String,
    value: String,
    source: &'static str,
}

impl Row for Value {
    const COLUMNS: &'static [&'static str] = &["name", "value", "source"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.value.clone(),
            self.source.to_owned(),
        ]
    }
}

/// Prints what a configuration means.
pub(super) fn config(command: &ConfigCommand, output: &Output) -> Result<(), Failure> {
    let ConfigCommand::Show { config } = command;
    let settings = Settings::load(config)?;
    let text = std::fs::read_to_string(config).map_err(Failure::failed)?;
    let written: toml::Table = toml::from_str(&text).map_err(Failure::failed)?;
    let all = toml::Table::try_from(&settings).map_err(Failure::failed)?;
    let mut values = Vec::new();
    flatten("", &all, Some(&written), &mut values);
    output.rows(&values)
}

fn flatten(
    prefix: &str,
    all: &toml::Table,
    written: Option<&toml::Table>,
    values: &mut Vec<Value>,
) {
    for (key, value) in all {
        let name = format!("{prefix}{key}");
        let in_file = written.and_then(|table| table.get(key));
        match value {
            toml::Value::Table(table) => {
                let below = in_file.and_then(toml::Value::as_table);
                flatten(&format!("{name}."), table, below, values);
            }
            value => values.push(Value {
                name,
                value: match value {
                    toml::Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
                source: if in_file.is_some() { "file" } else { "default" },
            }),
        }
    }
}
