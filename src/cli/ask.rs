//! Asking before a step that is hard to take back.

use std::io::{self, IsTerminal as _};

use super::exit::{Exit, Failure};
use super::output::Output;

/// Asks on a terminal; elsewhere the step needs `--yes`.
pub(super) fn sure(question: &str, yes: bool, output: &Output) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if output.quiet || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let unasked = Failure::new(Exit::Usage, "nobody is there to be asked");
        return Err(unasked.hint(format!("{question} give `--yes`")));
    }
    output.note(format!("{question} type `yes` to go on"));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(Failure::failed)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done")),
    }
}
