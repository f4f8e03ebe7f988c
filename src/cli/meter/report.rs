//! The report of a night: every meter for those who go on with it, and what it comes to for whoever reads on a terminal.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::ending::{Ending, Need, Verdict};
use crate::cli::exit::Failure;
use crate::cli::files;
use crate::cli::output::{Format, Output, Row};
use crate::types::Timestamp;

/// Meters that ended alike.
#[derive(Debug, Serialize)]
struct Group {
    needs: Need,
    outcome: Verdict,
    reason: String,
    meters: usize,
    /// When the first of them may be tried again.
    wait_until: Option<Timestamp>,
}

impl Row for Group {
    const COLUMNS: &'static [&'static str] =
        &["needs", "outcome", "meters", "wait_until", "reason"];

    fn cells(&self) -> Vec<String> {
        let wait_until = self.wait_until.map(|until| until.to_string());
        vec![
            self.needs.to_string(),
            self.outcome.as_str().to_owned(),
            self.meters.to_string(),
            wait_until.unwrap_or_default(),
            self.reason.clone(),
        ]
    }
}

/// Prints how every meter ended, what needs people first; or, with a file for that, only what it comes to.
pub(super) fn hand_in(
    mut endings: Vec<Ending>,
    file: Option<&Path>,
    output: &Output,
) -> Result<Vec<Ending>, Failure> {
    // Within that, in the order of the handovers, as the journal lists them.
    endings.sort_by_key(|ending| ending.needs);
    let Some(file) = file else {
        output.rows(&endings)?;
        return Ok(endings);
    };
    let extension = file.extension().and_then(|extension| extension.to_str());
    let format = match extension {
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        _ => output.format,
    };
    files::replace(file, Output::text(&endings, format)?.as_bytes())?;
    output.rows(&groups(&endings))?;
    output.note(format!("every meter is in `{}`", file.display()));
    Ok(endings)
}

fn groups(endings: &[Ending]) -> Vec<Group> {
    let mut groups: BTreeMap<(Need, &str, &str), Group> = BTreeMap::new();
    for ending in endings {
        let key = (
            ending.needs,
            ending.outcome.as_str(),
            ending.reason.as_str(),
        );
        let group = groups.entry(key).or_insert_with(|| Group {
            needs: ending.needs,
            outcome: ending.outcome,
            reason: ending.reason.clone(),
            meters: 0,
            wait_until: None,
        });
        group.meters += 1;
        group.wait_until = match (group.wait_until, ending.wait_until) {
            (Some(first), Some(other)) => Some(first.min(other)),
            (first, other) => first.or(other),
        };
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn meters_that_ended_alike_are_one_line_and_people_come_first() {
        let failure = |exit, what: &str| Ending::of_failure(None, &Failure::new(exit, what));
        let endings = [
            failure(Exit::TryAgain, "busy"),
            failure(Exit::Refused, "torn"),
            failure(Exit::TryAgain, "busy"),
        ];
        let groups = groups(&endings);
        let told: Vec<_> = groups.iter().map(|g| (g.needs, g.meters)).collect();
        assert_eq!(told, [(Need::Review, 1), (Need::Retry, 2)]);
    }
}
