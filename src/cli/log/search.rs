//! `log search` and `log show`: entries as the service shows them, each proven to be what the log holds.

use serde_json::Value;

use crate::cli::document::with_query;
use crate::cli::output::Output;
use crate::client::{Client, ClientError, Request, Shown};
use crate::types::{SupplyPoint, Timestamp};

/// Which entries.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Only of this actor, as in its certificate.
    #[arg(long, value_name = "URN")]
    actor: Option<String>,
    /// Only about this supply point.
    #[arg(long, value_name = "MPXN")]
    supply_point: Option<SupplyPoint>,
    /// Only of this kind, such as `release.granted`.
    #[arg(long)]
    kind: Option<String>,
    /// Only refusals with this code.
    #[arg(long)]
    code: Option<String>,
    /// Only at or after this instant.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only before this instant.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only entries below this index: the last of the page before.
    #[arg(long, value_name = "INDEX")]
    before: Option<u64>,
    /// At most this many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Fetch all pages.
    #[arg(long)]
    all: bool,
}

impl Arguments {
    /// All entries of a period.
    pub(super) fn of_period(from: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self {
            actor: None,
            supply_point: None,
            kind: None,
            code: None,
            from,
            until,
            before: None,
            limit: 1_000,
            all: true,
        }
    }

    fn parameters(&self, before: Option<u64>) -> [(&'static str, Option<String>); 8] {
        [
            ("actor", self.actor.clone()),
            (
                "supply_point",
                self.supply_point.as_ref().map(ToString::to_string),
            ),
            ("kind", self.kind.clone()),
            ("code", self.code.clone()),
            ("from", self.from.as_ref().map(ToString::to_string)),
            ("until", self.until.as_ref().map(ToString::to_string)),
            ("before", before.map(|index| index.to_string())),
            ("limit", Some(self.limit.to_string())),
        ]
    }
}

/// One page, or all of them, opened and not yet proven.
pub(super) async fn search(
    client: &Client,
    query: &Arguments,
    output: &Output,
) -> Result<Vec<Shown>, ClientError> {
    let mut before = query.before;
    let mut entries = Vec::new();
    loop {
        let path = with_query("/v1/log/entries", &query.parameters(before));
        let mut page: Value = client.send(Request::get(path)).await?.json()?;
        if let Value::Array(shown) = page["entries"].take() {
            for entry in shown {
                entries.push(Shown::open(entry)?);
            }
        }
        before = page["next"].as_u64();
        match before {
            Some(next) if !query.all => {
                output.note(format!("there are more: `--before {next}`, or `--all`"));
                return Ok(entries);
            }
            Some(_) => {}
            None => return Ok(entries),
        }
    }
}

/// The same, proven to be what the log holds. That they are all is the service's word.
pub(super) async fn found(
    client: &Client,
    query: &Arguments,
    output: &Output,
) -> Result<Vec<Value>, ClientError> {
    let entries = search(client, query, output).await?;
    for portion in entries.chunks(PORTION) {
        client.prove(portion).await?;
    }
    Ok(entries.into_iter().map(|entry| entry.document).collect())
}

/// An entry with what it hides, proven to be the one that the log has at this place.
pub(super) async fn show(client: &Client, index: u64) -> Result<Value, ClientError> {
    let path = format!("/v1/log/entries/{index}");
    let entry = Shown::open(client.send(Request::get(path)).await?.json()?)?;
    if entry.index != index {
        let message = format!("entry {} was shown for entry {index}", entry.index);
        return Err(ClientError::Verification(message));
    }
    client.prove(std::slice::from_ref(&entry)).await?;
    Ok(entry.document)
}

/// Entries that are proven at a time: as many as there may be tiles in memory.
const PORTION: usize = 1_000;
