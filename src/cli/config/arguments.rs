//! The flags of the client's configuration, and the variables in their place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

/// Where the service is, who we are, and whom we trust.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The service, as `https://HOST:PORT`.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(super) url: Option<String>,
    /// Our TLS chain (PEM), leaf first.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) cert: Option<PathBuf>,
    /// The key of that leaf (PEM); by default beside it, ending in `.key`.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) key: Option<PathBuf>,
    /// Our signing chain (PEM), leaf first.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_SIGNING_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) signing_cert: Option<PathBuf>,
    /// The key of that leaf (PEM); by default beside it, ending in `.key`.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_SIGNING_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) signing_key: Option<PathBuf>,
    /// The log's verifier key, or a file that holds it.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_LOG_KEY",
        hide_env_values = true,
        value_name = "VKEY"
    )]
    pub(super) log_key: Option<String>,
    /// The folder for what was seen of the log and for unanswered requests.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_STATE_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) offline: Offline,
}

/// What is needed without the service, too.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Offline {
    /// The configuration file; by default `$XDG_CONFIG_HOME/cos-escrow/config.toml`.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) config: Option<PathBuf>,
    /// The roots that we trust (PEM).
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_ROOTS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) roots: Option<PathBuf>,
    /// Their revocation lists (PEM).
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_LISTS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(super) lists: Option<PathBuf>,
    /// The folder for sealing keys.
    #[arg(
        long,
        global = true,
        env = "COS_ESCROW_KEYS",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(super) keys: Option<PathBuf>,
    #[command(flatten)]
    pub(super) base: BaseFolders,
}

/// The folders that the desktop convention names. They are read as arguments, like all of the environment.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct BaseFolders {
    #[arg(long, global = true, hide = true, env = "XDG_CONFIG_HOME")]
    pub(super) xdg_config_home: Option<OsString>,
    #[arg(long, global = true, hide = true, env = "XDG_STATE_HOME")]
    pub(super) xdg_state_home: Option<OsString>,
    #[arg(long, global = true, hide = true, env = "HOME")]
    pub(super) home: Option<OsString>,
}

impl BaseFolders {
    pub(super) fn config(&self) -> PathBuf {
        self.below_home(self.xdg_config_home.as_ref(), ".config")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.below_home(self.xdg_state_home.as_ref(), ".local/state")
    }

    /// The convention: what is empty or relative counts as not set.
    fn below_home(&self, named: Option<&OsString>, otherwise: &str) -> PathBuf {
        let named = named.map(Path::new).filter(|path| path.is_absolute());
        let base = named.map_or_else(
            || Path::new(self.home.as_deref().unwrap_or_default()).join(otherwise),
            Path::to_owned,
        );
        base.join("cos-escrow")
    }
}
