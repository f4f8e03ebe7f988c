//! What is seen of a running fleet: a bar with counts on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::Output;
use crate::meter::fleet::Counts;
use crate::meter::journal::State;

/// The display of one run.
pub(super) struct Board<'o> {
    output: &'o Output,
    total: usize,
    bar: Option<ProgressBar>,
    /// How many tenths were announced, where there is no bar.
    announced: AtomicUsize,
}

impl<'o> Board<'o> {
    /// Begins with so many meters.
    pub(super) fn start(output: &'o Output, total: usize) -> Self {
        let wants_bar = !output.quiet && io::stderr().is_terminal();
        let bar = wants_bar.then(|| {
            let template = "{bar:24} {human_pos}/{human_len} {eta} {wide_msg}";
            let style = ProgressStyle::with_template(template).expect("the template is constant");
            ProgressBar::new(total as u64).with_style(style)
        });
        Self {
            output,
            total,
            bar,
            announced: AtomicUsize::new(0),
        }
    }

    /// Shows how many meters are where.
    pub(super) fn show(&self, counts: &Counts) {
        let ended = counts.ended().min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_position(ended as u64);
            bar.set_message(described(counts));
            return;
        }
        let tenths = (ended * 10).checked_div(self.total).unwrap_or_default();
        if self.announced.fetch_max(tenths, Ordering::Relaxed) < tenths {
            let total = self.total;
            self.output
                .note(format!("{ended} of {total} meters: {}", described(counts)));
        }
    }
}

impl Drop for Board<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How runs ended, then how far the meters are that are not done.
fn described(counts: &Counts) -> String {
    let ended = [
        ("done", counts.done),
        ("waiting", counts.waiting),
        ("stopped", counts.stopped),
        ("busy", counts.busy),
        ("failed", counts.failed),
    ];
    let states = counts
        .states
        .iter()
        .filter(|(state, _)| **state != State::Reported);
    let states = states.map(|(state, count)| (state.as_str(), *count));
    let shown = ended
        .into_iter()
        .chain(states)
        .filter(|(_, count)| *count > 0);
    let shown: Vec<_> = shown
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_by_state_without_the_empty_ones() {
        let counts = Counts {
            states: [(State::Sent, 2), (State::Claimed, 0), (State::Reported, 7)].into(),
            done: 7,
            ..Counts::default()
        };
        assert_eq!(described(&counts), "7 done, 2 sent");
    }
}
