//! `cos-escrow completions`: what a shell needs to complete our commands.

use clap_complete::{Shell, generate};

use super::exit::Failure;
use super::output::Output;

/// For which shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    cos-escrow completions bash\n  \
    cos-escrow completions zsh\n\n\
    bash reads it from /etc/bash_completion.d/cos-escrow or `eval \"$(cos-escrow completions bash)\"`.")]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut super::command(), NAME, &mut script);
    // The script for bash calls our commands by two names: a hyphen is written in one way where they are looked for, and
    // in another where they are found.
    let script = String::from_utf8_lossy(&script);
    output.print(&script.replace("cos__subcmd__escrow", "cos__escrow"))
}

const NAME: &str = "cos-escrow";
