//! How far a long command is: a bar on a terminal, plain lines elsewhere, nothing when told to be quiet.

use std::io::{self, IsTerminal as _};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

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

    /// Begins to count the bytes of what is read; how many there will be may not be known.
    pub(super) fn of_bytes(output: &Output, what: &'static str, bytes: Option<u64>) -> Self {
        if output.quiet || !io::stderr().is_terminal() {
            match bytes {
                Some(bytes) => output.note(format!("{what}: {}", DecimalBytes(bytes))),
                None => output.note(what),
            }
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes} {eta}",
            ),
            None => (
                ProgressBar::no_length(),
                "{msg} {spinner} {decimal_bytes} {decimal_bytes_per_sec}",
            ),
        };
        let style = ProgressStyle::with_template(template).expect("the templates are constant");
        let bar = bar.with_style(style);
        bar.set_message(what);
        Self { bar }
    }

    /// So much is done.
    pub(super) fn reach(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Does something, a print say, without the bar in its way.
    pub(super) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
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
