//! `serve`: runs the service until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Failure;
use super::instance::Instance;
use super::output::Output;
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
