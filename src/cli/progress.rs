//! How far a long command is: a bar on a terminal, plain lines elsewhere, nothing when told to be quiet.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;

/// A long command on its way.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins to count up to `length`.
    pub(super) fn start(output: &Output, what: &'static str, length: u64) -> Self {
        if output.quiet || !io::stderr().is_terminal() {
            output.note(format!("{what}: {length}"));
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}")
            .expect("the template is constant");
        let bar = ProgressBar::new(length).with_style(style);
        bar.set_message(what);
        Self { bar }
    }

    /// One more is done.
    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
