//! What auditors, parties and witnesses read of the log, and the entries that the service makes for itself.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::ledger::{Act, Ledger, open_disclosures};
use super::quota::{Finished, Summary};
use super::sequencer::{Command, Verdict};
use super::{Caller, Escrow, Failure, Idempotency, Repeat, Shared};
use crate::identity::{Identity, Kind};
use crate::store::{EntryFilter, LogEntry, Needs, Page};
use crate::tlog::{OpenEntry, ProofPlan, TileKind, TilePath, encode_entries};
use crate::types::{Code, Digest, SupplyPoint, Timestamp};

/// What an auditor searches for.
#[derive(Clone, Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Only of this actor: an identity such as `urn:cos-escrow:party:gainer`.
    pub actor: Option<String>,
    /// Only about this supply point.
    #[param(value_type = Option<String>)]
    pub supply_point: Option<SupplyPoint>,
    /// Only of this kind, such as `release.granted`.
    pub kind: Option<String>,
    /// Only refusals with this code.
    pub code: Option<String>,
    /// Only at or after this instant.
    #[param(value_type = Option<String>)]
    pub from: Option<Timestamp>,
    /// Only before this instant.
    #[param(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// Only entries below this index: the `next` of the page before.
    pub before: Option<u64>,
    /// At most this many, up to 1,000; 100 if not given.
    pub limit: Option<u32>,
}

/// An entry as its reader may see it.
#[derive(Clone, Debug, Serialize)]
pub struct EntryView {
    /// Its index.
    pub index: u64,
    /// Hash of its leaf, in base64.
    pub leaf_hash: String,
    /// What kind of entry.
    pub kind: String,
    /// When.
    pub at: String,
    /// The leaf as it stands in the log.
    pub leaf: Value,
    /// What it hides, where the reader may see it and it has not been erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disclosed: Option<Value>,
    /// The same with the salts that bind it to the leaf, so that nobody need believe it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disclosures: Option<Vec<String>>,
}

impl Escrow {
    /// The newest signed checkpoint; none behind the fence.
    pub fn checkpoint(&self) -> Result<String, Failure> {
        Ok(self.shared.checkpoint()?.to_string())
    }

    /// The hashes that prove that the log of `to` entries continues that of `from`, in base64.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<String>, Failure> {
        let head = self.shared.store.head().await?;
        if from > to || to > head.size {
            return Err(Failure::because(
                Code::MalformedRequest,
                format!("`from` <= `to` <= {} is needed", head.size),
            ));
        }
        let hashes = self.shared.proof(ProofPlan::consistency(from, to)).await?;
        Ok(hashes.iter().map(ToString::to_string).collect())
    }

    /// Entries that match, newest first, and where the next page begins. The search itself is an entry.
    pub async fn search_log(
        &self,
        caller: Caller,
        mut query: LogQuery,
    ) -> Result<(Vec<EntryView>, Option<u64>), Failure> {
        caller.require(Kind::Auditor)?;
        query.before = query.before.map(|before| before.min(MAX_INDEX));
        let limit = query.limit.unwrap_or(100).clamp(1, MAX_PAGE);
        let custody = &self.shared.custody;
        let filter = EntryFilter {
            party: query.actor.clone(),
            subject: query
                .supply_point
                .as_ref()
                .map(|point| custody.index_of(point.as_str())),
            kind: query.kind.clone(),
            code: query.code.clone(),
            from_at: query.from,
            until_at: query.until,
            page: Page {
                after: query.before,
                limit,
            },
        };
        let entries = self.shared.store.search(&filter).await?;
        self.submit(caller, None, Searched { query }).await?;
        let next = (entries.len() == limit as usize)
            .then(|| entries.last().map(|entry| entry.index))
            .flatten();
        Ok((self.shared.views(&entries).await?, next))
    }

    /// One entry with what it hides. Opening it is an entry.
    pub async fn show_entry(&self, caller: Caller, index: u64) -> Result<EntryView, Failure> {
        caller.require(Kind::Auditor)?;
        let entries = self
            .shared
            .store
            .entries(index, index.saturating_add(1))
            .await?;
        if entries.is_empty() {
            return Err(Failure::refused(Code::NotFound));
        }
        self.submit(caller, None, Opened { index }).await?;
        let view = self.shared.views(&entries).await?.pop();
        view.ok_or_else(|| Failure::refused(Code::NotFound))
    }

    /// A tile or entry bundle of the log, as tlog-tiles has it. Reading tiles is no entry.
    pub async fn tile(&self, caller: &Caller, path: &TilePath) -> Result<Vec<u8>, Failure> {
        if !matches!(caller.identity.kind, Kind::Auditor | Kind::Witness) {
            return Err(Failure::refused(Code::WrongRole));
        }
        self.shared.tile(path).await
    }

    /// Writes the refusals that were only counted, for minutes that are over.
    pub async fn write_summaries(&self) -> Result<(), Failure> {
        self.write_summaries_as_of(self.shared.clock.now()).await
    }

    /// Writes all refusals that were only counted, those of the running minute too: for when no more come.
    pub async fn write_last_summaries(&self) -> Result<(), Failure> {
        if self.fenced().is_some() {
            return Ok(());
        }
        let minute_over = self.shared.clock.now().after(Duration::from_mins(1));
        // First what was under way already.
        self.write_summaries_as_of(minute_over).await?;
        self.write_summaries_as_of(minute_over).await
    }

    async fn write_summaries_as_of(&self, now: Timestamp) -> Result<(), Failure> {
        let quota = &self.shared.quota;
        let Some(Finished { key, summaries }) = quota.finished(now, &*self.shared.random) else {
            return Ok(());
        };
        let idempotency = Idempotency {
            request: Digest::of(key.as_bytes()),
            key,
            repeat: Repeat::Answer,
        };
        let command = Summaries { summaries };
        self.submit(Caller::service(), Some(idempotency), command)
            .await?;
        quota.written(now);
        Ok(())
    }

    /// Makes the first entry of an empty log.
    pub(super) async fn begin_log(&self) -> Result<(), Failure> {
        if self.shared.store.head().await?.size > 0 || self.fenced().is_some() {
            return Ok(());
        }
        let sealing_keys = self.shared.custody.sealing_keys();
        let genesis = Genesis {
            origin: self.log_key().name().to_string(),
            log_key: self.log_key().to_string(),
            rules: self.shared.rules.load().in_force(),
            sealing_keys: sealing_keys
                .iter()
                .map(|pair| json!({ "kem": pair.public().kem().id(), "key_id": pair.id() }))
                .collect(),
        };
        self.submit(Caller::service(), None, genesis)
            .await
            .map(drop)
    }
}

impl Caller {
    /// The service itself, for entries that nobody asked for.
    pub fn service() -> Self {
        Self {
            identity: Identity {
                kind: Kind::Service,
                id: "cos-escrow".parse().expect("a valid id"),
            },
            certificate: Digest([0; 32]),
            request_id: "service".to_owned(),
        }
    }
}

impl Shared {
    /// Refuses keys or an origin that are not those that the log began with: what they sign would be another log, and
    /// they open nothing that is stored.
    pub(super) async fn check_origin(&self) -> Result<(), Failure> {
        let first = self.store.entries(0, 1).await?;
        let Some(first) = first.first() else {
            return Ok(());
        };
        let first = opened(first)?;
        let began_with = first.shown().get("log_key").and_then(Value::as_str);
        let ours = self.log_key.verifier().to_string();
        match began_with {
            Some(theirs) if theirs != ours => Err(Failure::Unavailable(format!(
                "the log began with the key `{theirs}`; keys and origin make `{ours}`"
            ))),
            _ => Ok(()),
        }
    }

    /// The newest entry of a kind.
    pub(super) async fn newest_of(&self, kind: &str) -> Result<Option<OpenEntry>, Failure> {
        let filter = EntryFilter {
            party: None,
            subject: None,
            kind: Some(kind.to_owned()),
            code: None,
            from_at: None,
            until_at: None,
            page: Page {
                after: None,
                limit: 1,
            },
        };
        let newest = self.store.search(&filter).await?.pop();
        newest.map(|entry| opened(&entry)).transpose()
    }

    /// What an entry hides, unless it was erased.
    pub(super) async fn disclosures(
        &self,
        entry: &LogEntry,
    ) -> Result<Option<Vec<String>>, Failure> {
        let Some(sealed) = &entry.disclosures else {
            return Ok(None);
        };
        let keys = self
            .store
            .disclosure_keys(std::slice::from_ref(&entry.scope))
            .await?;
        Ok(keys.get(&entry.scope).and_then(|wrapped| {
            open_disclosures(&self.custody, &entry.scope, wrapped, entry.index, sealed)
        }))
    }

    async fn views(&self, entries: &[LogEntry]) -> Result<Vec<EntryView>, Failure> {
        let mut views = Vec::with_capacity(entries.len());
        for entry in entries {
            let disclosures = self.disclosures(entry).await?;
            views.push(view(entry, disclosures)?);
        }
        Ok(views)
    }

    async fn tile(&self, path: &TilePath) -> Result<Vec<u8>, Failure> {
        let head = self.store.head().await?;
        if !path.exists_at(head.size) {
            return Err(Failure::refused(Code::NotFound));
        }
        let from = path.index() * 256;
        let until = from + u64::from(path.width());
        Ok(match path.kind() {
            TileKind::Entries => {
                let entries = self.store.entries(from, until).await?;
                let leaves = entries.iter().map(|entry| entry.leaf.as_slice());
                encode_entries(leaves).map_err(|error| Failure::Broken(error.to_string()))?
            }
            TileKind::Hashes { level: 0 } => self.store.leaf_hashes(from, until).await?.concat(),
            TileKind::Hashes { level } => self.store.nodes(level * 8, from, until).await?.concat(),
        })
    }
}

fn opened(entry: &LogEntry) -> Result<OpenEntry, Failure> {
    OpenEntry::read(&entry.leaf)
        .map_err(|error| Failure::Broken(format!("entry {} does not read: {error}", entry.index)))
}

fn view(entry: &LogEntry, disclosures: Option<Vec<String>>) -> Result<EntryView, Failure> {
    let broken = |reason: &dyn std::fmt::Display| {
        Failure::Broken(format!("entry {} does not read: {reason}", entry.index))
    };
    let open = opened(entry)?;
    let hidden = disclosures.as_ref().map(|hidden| open.open(hidden));
    let disclosed = hidden.transpose().map_err(|error| broken(&error))?;
    Ok(EntryView {
        index: entry.index,
        leaf_hash: crate::tlog::leaf_hash(&entry.leaf).to_string(),
        kind: open.kind().to_owned(),
        at: open.at().to_string(),
        leaf: serde_json::from_slice(&entry.leaf).map_err(|error| broken(&error))?,
        disclosed: disclosed.map(Value::Object),
        disclosures,
    })
}

struct Genesis {
    origin: String,
    log_key: String,
    rules: Value,
    sealing_keys: Vec<Value>,
}

impl Command for Genesis {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        if ledger.facts.head.size > 0 {
            return Verdict::Done {
                answer: Value::Null,
                entry: None,
            };
        }
        done(
            ledger.append(
                Act::of("log.genesis", caller)
                    .shows("origin", self.origin.as_str())
                    .shows("log_key", self.log_key.as_str())
                    .shows("rules", self.rules.clone())
                    .shows("sealing_keys", self.sealing_keys.clone()),
            ),
        )
    }
}

struct Searched {
    query: LogQuery,
}

impl Command for Searched {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let query = &self.query;
        let filter = json!({
            "actor": query.actor, "supply_point": query.supply_point, "kind": query.kind,
            "code": query.code, "from": query.from, "until": query.until,
            "before": query.before, "limit": query.limit,
        });
        done(ledger.append(Act::of("log.searched", caller).hides("filter", filter)))
    }
}

struct Opened {
    index: u64,
}

impl Command for Opened {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        done(ledger.append(Act::of("log.opened", caller).hides("index", self.index)))
    }
}

struct Summaries {
    summaries: Vec<Summary>,
}

impl Command for Summaries {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let mut last = None;
        for summary in &self.summaries {
            last = Some(
                ledger.append(
                    Act::of("refusals.summary", caller)
                        .refused(summary.code)
                        .shows("count", summary.count)
                        .shows("minute", summary.minute.to_string())
                        .hides("party", summary.party.as_str()),
                ),
            );
        }
        Verdict::Done {
            answer: Value::Null,
            entry: last,
        }
    }
}

fn done(entry: u64) -> Verdict {
    Verdict::Done {
        answer: Value::Null,
        entry: Some(entry),
    }
}

/// No log comes near it, and entries cannot hold greater numbers: JSON's are exact to 53 bits.
const MAX_INDEX: u64 = (1 << 53) - 1;
/// Entries on one page.
const MAX_PAGE: u32 = 1_000;
