//! `cos-escrow witness`: a C2SP witness that anyone can run; and the service's configuration of those it asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::connect::log_key;
use super::exit::{Exit, Failure};
use super::files;
use super::output::{Output, Row};
use crate::http::WitnessServer;
use crate::http::listen::Limits;
use crate::identity::{CertificateDer, pem};
use crate::service::{WitnessMode, Witnessing};
use crate::tlog::{KeyName, TrustPolicy, VerifierKey};
use crate::tls::{open_server_config, outside_config};
use crate::types::{Clock, Secret, SystemClock};
use crate::witness::{StateError, Witness, WitnessClient};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the folder and the key of a new witness, and print its verifier key.
    #[command(
        after_help = "Examples:\n  cos-escrow witness init witness --name witness.example/w1"
    )]
    Init {
        /// The folder.
        dir: PathBuf,
        /// The name of its key: a schema-less URL, without spaces and `+`.
        #[arg(long)]
        name: String,
    },
    /// Trust the key of a log, or a further key of it. A witness that runs need not be restarted.
    #[command(after_help = "Examples:\n  cos-escrow witness add-log witness log.vkey")]
    AddLog {
        /// The folder.
        dir: PathBuf,
        /// The log's verifier key, or a file that holds it.
        #[arg(value_name = "VKEY")]
        key: String,
    },
    /// Cosign what logs show, as long as each only grows.
    #[command(
        after_help = "Examples:\n  cos-escrow witness serve witness --listen 127.0.0.1:7380\n  \
        cos-escrow witness serve witness --listen 0.0.0.0:7380 --cert chain.pem --key key.pem\n\n\
        Speaks C2SP tlog-witness over HTTP/1.1. Without a certificate it listens on loopback only:\n\
        put a proxy with TLS before it for others."
    )]
    Serve {
        /// The folder.
        dir: PathBuf,
        /// Where; without a certificate a loopback address.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7380")]
        listen: SocketAddr,
        #[command(flatten)]
        own: Own,
    },
}

/// Who the server says that it is: TLS 1.3 where it says so.
#[derive(Debug, clap::Args)]
pub(super) struct Own {
    /// A certificate and those of its issuers, PEM: TLS 1.3 is spoken then.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key, PKCS#8 in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl Own {
    /// Chain and key, if they are named.
    fn read(&self) -> Result<Option<(Vec<CertificateDer<'static>>, Secret)>, Failure> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else {
            return Ok(None);
        };
        let wrong = |file: &Path, error: &dyn std::fmt::Display| {
            Failure::failed(format!("`{}`: {error}", file.display()))
        };
        let chain = pem::certificates(&files::read(cert)?).map_err(|error| wrong(cert, &error))?;
        let key = pem::key(&files::read(key)?).map_err(|error| wrong(key, &error))?;
        Ok(Some((chain, key)))
    }
}

/// Runs a `witness` command.
pub(super) async fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Init { dir, name } => {
            let name: KeyName = name
                .parse()
                .map_err(|error| Failure::new(Exit::Usage, error))?;
            let key = Witness::create(dir, name)?;
            output.row(&Shown::of(&key, dir))
        }
        Command::AddLog { dir, key } => {
            let key = log_key(key)?;
            // A witness that was never made is not made by this.
            Witness::check(dir)?;
            Witness::add_log(dir, &key)?;
            output.row(&Shown::of(&key, dir))
        }
        Command::Serve { dir, listen, own } => serve(dir, *listen, own, output).await,
    }
}

async fn serve(dir: &Path, listen: SocketAddr, own: &Own, output: &Output) -> Result<(), Failure> {
    let clock = Arc::new(SystemClock);
    let tls = match own.read()? {
        Some((chain, key)) => {
            let config = open_server_config(chain, &key, clock.clone());
            Some(Arc::new(config.map_err(Failure::failed)?))
        }
        None => None,
    };
    if tls.is_none() && !listen.ip().is_loopback() {
        let exposed = "`--listen` must be a loopback address: there is no TLS";
        return Err(Failure::new(Exit::Usage, exposed).hint("give `--cert` and `--key`"));
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let witness = Arc::new(Witness::open(dir)?);
    let failed = |error: std::io::Error| Failure::failed(format!("{listen}: {error}"));
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    output.note(format_args!("witness {}", witness.verifier()));
    output.note(format_args!("listening on {address}"));
    let server = WitnessServer {
        witness,
        clock,
        tls,
        limits: Limits {
            max_connections: MAX_CONNECTIONS,
            ..Limits::default()
        },
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stopped.cancel();
    });
    server.serve(listener, stop).await;
    Ok(())
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match &error {
            StateError::File { path, source } => files::at(path, source),
            StateError::Damaged { .. } => Self::new(Exit::Unverified, error),
            StateError::InUse | StateError::NotALogKey => Self::new(Exit::Usage, error),
        }
    }
}

/// A key, and the folder that has it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    vkey: String,
    dir: String,
}

impl Shown {
    fn of(key: &VerifierKey, dir: &Path) -> Self {
        Self {
            name: key.name().to_string(),
            vkey: key.to_string(),
            dir: dir.display().to_string(),
        }
    }
}

impl Row for Shown {
    const COLUMNS: &'static [&'static str] = &["name", "vkey", "dir"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.clone(), self.vkey.clone(), self.dir.clone()]
    }
}

/// Who cosigns the log of a service, in its configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// A C2SP tlog-policy that has a URL for each witness.
    pub policy: PathBuf,
    /// Whether answers to parties wait for the quorum: `background` or `quorum`.
    #[serde(default = "default_mode")]
    pub mode: WitnessMode,
    /// Seconds for a witness's answer and, in quorum mode, for all of them together. 1 to 60.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// Seconds without a newer cosigned head after which the service is not ready.
    #[serde(default = "default_alarm")]
    pub alarm_seconds: u64,
    /// Roots (PEM) for witnesses at `https` URLs.
    #[serde(default)]
    pub roots: Option<PathBuf>,
}

impl Witnesses {
    /// The files that are named.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [Some(&mut self.policy), self.roots.as_mut()]
            .into_iter()
            .flatten()
    }

    /// Reads the policy and prepares a connection to each witness.
    pub(super) fn open(&self, clock: &Arc<dyn Clock>) -> Result<Witnessing, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            let file = self.policy.display();
            Failure::new(Exit::Usage, format!("`{file}`: {error}"))
        };
        if !(1..=60).contains(&self.timeout_seconds) {
            let message = "`witnesses.timeout_seconds` must be from 1 to 60";
            return Err(Failure::new(Exit::Usage, message));
        }
        let patience = Duration::from_secs(self.timeout_seconds);
        let text = std::fs::read_to_string(&self.policy);
        let text = text.map_err(|error| files::at(&self.policy, &error))?;
        let policy: TrustPolicy = text.parse().map_err(|error| wrong(&error))?;
        let tls = match &self.roots {
            Some(file) => {
                let roots = std::fs::read(file).map_err(|error| files::at(file, &error))?;
                let roots = pem::certificates(&roots).map_err(Failure::failed)?;
                let tls = outside_config(&roots, Arc::clone(clock)).map_err(Failure::failed)?;
                Some(Arc::new(tls))
            }
            None => None,
        };
        let mut clients = Vec::new();
        for witness in policy.witnesses() {
            let url = witness
                .url
                .as_deref()
                .ok_or_else(|| wrong(&format!("witness `{}` has no URL", witness.name)))?;
            let client = WitnessClient::new(url, tls.clone(), patience).map_err(|e| wrong(&e))?;
            clients.push((witness.key.clone(), client));
        }
        Ok(Witnessing {
            policy,
            clients,
            mode: self.mode,
            patience,
            alarm: Duration::from_secs(self.alarm_seconds),
        })
    }
}

/// A witness has few logs; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;

fn default_mode() -> WitnessMode {
    WitnessMode::Background
}

fn default_timeout() -> u64 {
    5
}

fn default_alarm() -> u64 {
    300
}
