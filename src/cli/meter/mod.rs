//! `cos-escrow meter`: takes released meters over, and has meters to practise on.

mod board;
pub mod desk;
pub mod ending;
mod export;
pub mod head_end;
pub mod plan;
pub mod releases;
mod report;
mod sim_report;
pub mod simulation;
mod status;
mod takeover;

use std::future::Future;

use clap::{Args, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Failure;
use super::output::Output;
use super::serve::no_core_dumps;

/// What to do with meters.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run simulated meters until interrupted.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter simulate --count 100 --seed-file seeds.ndjson\n  \
        cos-escrow meter simulate --count 2000 --latency 500 --seed-file seeds.ndjson --report lives.json\n  \
        cos-escrow meter simulate --count 3 --port-base 4059 --fault drop-response --fault silent\n  \
        cos-escrow meter simulate --release meter.release --key north.key\n\n\
        Each meter is printed once it listens. The seeds are records for `handover deposit --from`:\n\
        once deposited they can be released, and the meters be taken over.\n\n\
        Faults: drop-response, crash-before, partial, reject, reject-second, answer-newkey, defer,\n\
        each with `:N` at the Nth transfer of keys; no-ic-reset, hidden-ic, silent,\n\
        lock-out:FAILURES/SECONDS.")]
    Simulate(simulation::Arguments),
    /// Show exactly what a takeover would send, keys redacted.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter plan --release meter.release --key north.key\n  \
        cos-escrow meter plan --release meter.release --address 10.31.22.221:4059 -o json\n\n\
        Nothing is sent, and no key is made.")]
    Plan(plan::Arguments),
    /// Take released meters over: new keys in, the losing supplier out.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter takeover --release meter.release --journal night.db --journal-key journal.key\n  \
        cos-escrow meter takeover --from releases.ndjson --journal night.db --journal-key journal.key --report night.csv\n  \
        cos-escrow meter takeover --from - --journal night.db --journal-key journal.key --concurrency 2000 --for 360\n\n\
        A line of `--from` is {\"release\":\"FILE\",\"address\":\"IP:PORT\",\"repoint\":{…}}; only `release`\n\
        is needed, and paths are relative to the list, `-` is stdin. The same command goes on after a\n\
        crash; the journal and its key are all that `meter resume` needs, here or on another machine.\n\n\
        Exit codes: 0 all rotated, 4 some need people (a site visit, a new deposit), 6 some have\n\
        to wait: resume later.")]
    Takeover(takeover::Arguments),
    /// Go on with every takeover in the journal that is not over.
    #[command(after_help = "Example:\n  \
        cos-escrow meter resume --journal night.db --journal-key journal.key --concurrency 500 --for 60\n\n\
        Exit codes are those of `meter takeover`.")]
    Resume(takeover::Resume),
    /// Show how far the takeovers in the journal are.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter status --journal night.db --journal-key journal.key\n  \
        cos-escrow meter status --journal night.db --journal-key journal.key --counts\n  \
        cos-escrow meter status --journal night.db --journal-key journal.key --outcome stopped -o csv\n  \
        cos-escrow meter status --journal night.db --journal-key journal.key --state sent --limit 20\n\n\
        It may be asked for while a takeover runs.")]
    Status(status::Arguments),
    /// Seal the keys of taken-over meters for the supplier's own head end.
    #[command(after_help = "Examples:\n  \
        cos-escrow meter export-keys --journal night.db --journal-key journal.key --to head-end.public --out night.keys\n  \
        cos-escrow meter export-keys --journal night.db --journal-key journal.key --to head-end.public \
        --profile csv --out night.keys\n\n\
        Of meters whose takeover is over: keys with the counter to go on above, or passwords. They are\n\
        never written in clear; `meter open-keys` opens the file, offline.")]
    ExportKeys(export::Arguments),
    /// Open what `export-keys` sealed, into a new file for the owner alone.
    #[command(after_help = "Example:\n  \
        cos-escrow meter open-keys night.keys --key head-end.key --out keys.json")]
    OpenKeys(export::Open),
}

/// Runs one of the commands.
pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    no_core_dumps()?;
    allow_many_connections();
    match arguments.command {
        Command::Simulate(arguments) => simulation::run(&arguments, output).await,
        Command::Plan(arguments) => plan::run(&arguments, output),
        Command::Takeover(arguments) => takeover::run(&arguments, output).await,
        Command::Resume(arguments) => takeover::resume(&arguments, output).await,
        Command::Status(arguments) => status::run(&arguments, output).await,
        Command::ExportKeys(arguments) => export::run(&arguments, output).await,
        Command::OpenKeys(arguments) => export::open(&arguments, output),
    }
}

/// Raises the limit of open files to what the system allows: a thousand meters are a thousand connections.
pub(super) fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where that is not allowed, the old limit holds, and connections beyond it fail by themselves.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Ends when the user or the system wants the process to end.
fn interrupted() -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
