//! The arguments of `cos-escrow log`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{export, monitor, search, verify};
use crate::cli::config;

/// What to do with the log, and over which connection.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) connection: config::Connection,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetch the newest checkpoint, verified against what was seen before.
    #[command(after_help = "Example:\n  cos-escrow log checkpoint -o json")]
    Checkpoint,
    /// Show one entry, with what it hides where we may see it. Looking is an entry too.
    #[command(after_help = "Example:\n  cos-escrow log show 4711 -o json")]
    Show {
        /// Its index.
        index: u64,
    },
    /// Search entries, newest first. Searching is an entry too.
    #[command(after_help = "Examples:\n  \
        cos-escrow log search --supply-point 9693016118873\n  \
        cos-escrow log search --kind release.refused --from 2025-10-01T00:00:00Z --all -o csv\n  \
        cos-escrow log search --actor urn:cos-escrow:party:north")]
    Search(search::Arguments),
    /// Verify that the log only grew, or with `--dir` every entry of a copy.
    #[command(after_help = "Examples:\n  \
        cos-escrow log verify\n  \
        cos-escrow log verify --dir mirror --log-key escrow.example/log+0123abcd+Ad…\n  \
        cos-escrow log verify --dir mirror --log-key log.vkey --against last-year.checkpoint\n  \
        cos-escrow log verify --dir mirror --policy witnesses.policy -o json\n\n\
        With `--dir` nothing is asked of the service: a folder of tlog-tiles is read, and nothing in it is believed.\n\
        The verdict is `valid` (0), `invalid` (5: something was changed, or it is another history) or\n\
        `unverifiable` (7: a file, a key or a cosignature is missing), with the reason and the entry.")]
    Verify(verify::Arguments),
    /// Follow the log, and tell what somebody should look at: one line of JSON each.
    #[command(after_help = "Examples:\n  \
        cos-escrow log monitor --policy witnesses.policy --syslog\n  \
        cos-escrow log monitor --once --stale 3600\n\n\
        To a web hook: pipe it into `while read -r alarm; do curl -sS -d \"$alarm\" URL; done`.\n\n\
        Rules: inconsistent, unreachable, quorum, stale, not_registered, granted_twice, refusals, policy,\n\
        key, restored, unknown. Severities: critical, warning, notice.")]
    Monitor(monitor::Arguments),
    /// Write a period of the log, and how to verify it, into a folder for somebody else.
    #[command(after_help = "Example:\n  \
        cos-escrow log export 2025 --from 2025-01-01T00:00:00Z --until 2026-01-01T00:00:00Z --policy witnesses.policy\n\n\
        It holds what the entries hide, as far as an auditor may see it: give it to those who may, too.")]
    Export(export::Arguments),
    /// Copy the log into a folder of tlog-tiles, verified before its checkpoint is replaced.
    #[command(after_help = "Example:\n  cos-escrow log mirror mirror\n\n\
        Run it again to bring the copy up to date: what is complete is not fetched twice.")]
    Mirror {
        /// The folder.
        dir: PathBuf,
    },
}
