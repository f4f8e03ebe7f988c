//! `cos-escrow man`: a manual page for each command.

use std::fs;
use std::path::PathBuf;

use super::exit::Failure;
use super::files;
use super::output::Output;

/// Where to.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    cos-escrow man --out man1\n  \
    man -l man1/cos-escrow-handover-release.1")]
pub(super) struct Arguments {
    /// The folder for the pages; made if it is not there, and pages in it are written anew.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the pages.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let failed = |error: std::io::Error| files::at(&arguments.out, &error);
    fs::create_dir_all(&arguments.out).map_err(failed)?;
    clap_mangen::generate_to(super::command(), &arguments.out).map_err(failed)?;
    output.note(format!("wrote the pages to `{}`", arguments.out.display()));
    Ok(())
}
