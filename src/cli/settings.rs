//! The service's configuration: one TOML file, read whole and checked before anything is bound.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exit::{Exit, Failure};
use super::witness::Witnesses;
use crate::handover::Terms;
use crate::http::listen::Limits;
use crate::service::SealServer;
use crate::tls::{Files, PostQuantum};

/// Everything that `serve` is told. Relative paths are relative to the file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where suppliers and auditors connect.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where probes connect, without TLS: a loopback address.
    #[serde(default = "default_admin")]
    pub admin: SocketAddr,
    /// Certificate, key, trusted roots and revocation lists.
    pub tls: Files,
    /// Whether the post-quantum hybrid key exchange is offered: `preferred` or `off`.
    #[serde(default = "default_post_quantum")]
    pub post_quantum: Hybrid,
    /// The database file.
    #[serde(default = "default_store")]
    pub store: PathBuf,
    /// Connections that read at the same time.
    #[serde(default = "default_readers")]
    pub readers: u32,
    /// The folder of the keys. Not on the volume of the database, and in no backup of it.
    #[serde(default = "default_keys")]
    pub keys: PathBuf,
    /// The log's name: its origin line.
    pub origin: String,
    /// The file that remembers the newest head, on another volume than the database.
    #[serde(default = "default_anchor")]
    pub anchor: PathBuf,
    /// A folder of an operator's own policies, `*.cedar`: they can only forbid.
    #[serde(default)]
    pub policies: Option<PathBuf>,
    /// Whether packages may come in clear over mutual TLS: `allowed` or `forbidden`.
    #[serde(default = "default_seal_server")]
    pub seal_server: SealServer,
    /// Who cosigns the log.
    #[serde(default)]
    pub witnesses: Option<Witnesses>,
    /// Windows, delays and limits of the rules.
    #[serde(default)]
    pub terms: Terms,
    /// Limits of connections.
    #[serde(default)]
    pub limits: Connections,
}

/// Whether the post-quantum hybrid key exchange is offered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hybrid {
    /// First of all.
    Preferred,
    /// Not at all.
    Off,
}

impl From<Hybrid> for PostQuantum {
    fn from(hybrid: Hybrid) -> Self {
        match hybrid {
            Hybrid::Preferred => Self::Preferred,
            Hybrid::Off => Self::Off,
        }
    }
}

/// Limits of connections.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// Handshakes at the same time.
    pub max_handshakes: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Connections of one identity at the same time.
    pub max_connections_per_party: usize,
    /// Requests of one identity at the same time.
    pub max_requests_per_party: usize,
    /// Seconds from which on a connection takes no new requests.
    pub max_age_seconds: u64,
    /// Seconds for the TLS handshake.
    pub handshake_seconds: u64,
    /// Seconds for a request's header, and until the next request.
    pub header_seconds: u64,
    /// Seconds that running requests may take once the service stops.
    pub grace_seconds: u64,
}

impl Default for Connections {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_handshakes: limits.max_handshakes,
            max_connections: limits.max_connections,
            max_connections_per_party: limits.max_connections_per_party,
            max_requests_per_party: limits.max_requests_per_party,
            max_age_seconds: limits.max_age.as_secs(),
            handshake_seconds: limits.handshake.as_secs(),
            header_seconds: limits.header.as_secs(),
            grace_seconds: limits.grace.as_secs(),
        }
    }
}

impl Connections {
    /// As the accept loop takes them.
    pub fn to_limits(&self) -> Limits {
        Limits {
            max_handshakes: self.max_handshakes,
            max_connections: self.max_connections,
            max_connections_per_party: self.max_connections_per_party,
            max_requests_per_party: self.max_requests_per_party,
            max_age: Duration::from_secs(self.max_age_seconds),
            handshake: Duration::from_secs(self.handshake_seconds),
            header: Duration::from_secs(self.header_seconds),
            grace: Duration::from_secs(self.grace_seconds),
            ..Limits::default()
        }
    }
}

impl Settings {
    /// Reads a file and checks what can be checked without binding anything.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Failure::new(Exit::Usage, format!("`{}`: {error}", file.display()))
                .hint("`cos-escrow demo --keep DIR` writes one to start from")
        })?;
        let settings: Self = toml::from_str(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("`{}`: {error}", file.display())))?;
        let terms = settings.terms.clone().validated().map_err(|error| {
            Failure::new(Exit::Usage, format!("`{}`: terms: {error}", file.display()))
        })?;
        let settings = Self { terms, ..settings };
        if !settings.admin.ip().is_loopback() {
            return Err(Failure::new(
                Exit::Usage,
                "`admin` must be a loopback address: it has no TLS",
            ));
        }
        // A bare file name has an empty parent, which no system call takes for the current folder.
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        Ok(settings.beside(folder.unwrap_or(Path::new("."))))
    }

    /// Makes relative paths relative to `folder`.
    fn beside(mut self, folder: &Path) -> Self {
        let paths = [
            &mut self.tls.chain,
            &mut self.tls.key,
            &mut self.tls.roots,
            &mut self.tls.lists,
            &mut self.store,
            &mut self.keys,
            &mut self.anchor,
        ];
        let optional = [self.policies.as_mut()].into_iter().flatten();
        let witnesses = self.witnesses.iter_mut().flat_map(Witnesses::paths);
        for path in paths.into_iter().chain(optional).chain(witnesses) {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        }
        self
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8443))
}

fn default_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8444))
}

fn default_post_quantum() -> Hybrid {
    Hybrid::Preferred
}

fn default_store() -> PathBuf {
    "escrow.db".into()
}

fn default_readers() -> u32 {
    4
}

fn default_keys() -> PathBuf {
    "keys".into()
}

fn default_anchor() -> PathBuf {
    "anchor".into()
}

fn default_seal_server() -> SealServer {
    SealServer::Allowed
}
