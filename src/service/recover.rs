//! The way out of the fence: what a restored database has lost of its log comes back from a mirror.
//!
//! Only the log comes back. The rows that its entries speak of were in the database alone, so every recovered entry
//! says what somebody has to do again. What the entries hide, and whom they are about, comes back for those of which
//! somebody has kept the receipt; the others are found by kind, code and time alone. Nobody knows whose numbers those
//! others used: but in a log of so many entries nobody's number is greater, so everybody goes on above that. The gap
//! is explained by `log.recovered`, which shows where it ends.

use std::collections::BTreeMap;
use std::io;

use super::anchor::Anchor;
use super::ledger::{Act, Ledger};
use super::{Caller, Failure, Foundation};
use crate::store::{Changes, EntryRow, Facts, Head, Needs, NodeRow};
use crate::tlog::{
    AuditError, Checkpoint, CheckpointError, EntryError, Frontier, Hash, LogKey, Note, OpenEntry,
    TilePath, TreeHead, leaf_hash, verify_log,
};
use crate::types::{Code, Timestamp};

/// What was put back.
#[derive(Debug)]
pub struct Recovery {
    /// The entries, oldest first.
    pub entries: Vec<RecoveredEntry>,
    /// The entry that records the recovery; the anchor covers it.
    pub recorded_at: u64,
}

/// An entry that the mirror had and the database had lost.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RecoveredEntry {
    /// Its index.
    pub index: u64,
    /// What kind of entry.
    pub kind: String,
    /// When it was made.
    pub at: Timestamp,
    /// Whether a receipt disclosed what it hides: only then is it found by actor and supply point.
    pub disclosed: bool,
    /// What somebody has to do, since only the entry came back.
    pub again: &'static str,
}

/// Puts back what a restored database has lost, as the mirror has it, so that the next start is not fenced.
///
/// `tiles` reads a file of the mirror; `disclosures` are those of receipts, by index of their entry. The service must
/// be stopped.
pub async fn recover(
    foundation: Foundation,
    mirror: &Note,
    tiles: impl FnMut(&TilePath) -> io::Result<Vec<u8>>,
    disclosures: &BTreeMap<u64, Vec<String>>,
) -> Result<Recovery, RecoverError> {
    let log_key = LogKey::from_pkcs8(foundation.origin.clone(), foundation.custody.log_key())
        .map_err(|error| Failure::Broken(error.to_string()))?;
    let mirrored = Checkpoint::open(mirror, log_key.verifier())?.head;
    let head = foundation.store.head().await.map_err(Failure::from)?;
    let (mut anchor, promise) = Anchor::open(&foundation.anchor).await?;
    let missing = Missing::read(&head, mirrored, promise, tiles)?;
    let (entries, rows) = missing.listed(disclosures)?;
    let last_at = rows
        .iter()
        .map(|found| found.row.at)
        .max()
        .unwrap_or_default();
    let are_numbered = rows.iter().all(|found| {
        let hidden = found.hidden.as_ref();
        hidden.is_some_and(|hidden| hidden.sequence.is_some())
    });
    let recovered = missing.head(&head, last_at);
    let below = Below {
        head: Head {
            numbered_above: match are_numbered {
                true => head.numbered_above,
                false => recovered.size,
            },
            ..recovered
        },
        entries: rows,
        nodes: missing.nodes,
    };
    let shown = [
        ("from", head.size.into()),
        ("until", below.head.size.into()),
    ];
    let grown = append(&foundation, &head, below, "log.recovered", shown).await?;
    // ORDER: a crash here leaves an older promise, which the recovered log keeps.
    anchor.advance(grown).await?;
    Ok(Recovery {
        entries,
        recorded_at: grown.size - 1,
    })
}

/// What an operator says of a database that is adopted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Adopt {
    /// It has the log.
    Log,
    /// It has nothing, and the log begins anew.
    Nothing,
}

/// Takes the database as it stands for what was promised, where the anchor was lost; an entry says so.
///
/// Nothing shows that the database is not an old one: whoever does this has to compare its root with what auditors have
/// seen. Nothing is released before the feed of registrations has spoken again. An empty log is adopted only as such: to
/// whoever has seen an entry, what follows is a fork. The service must be stopped. Returns the head that was adopted.
pub async fn adopt(foundation: Foundation, said: Adopt) -> Result<TreeHead, RecoverError> {
    let head = foundation.store.head().await.map_err(Failure::from)?;
    let (mut anchor, promise) = Anchor::open(&foundation.anchor).await?;
    if let Some(promise) = promise {
        return Err(RecoverError::Promised { size: promise.size });
    }
    match (said, head.size) {
        (Adopt::Log, 0) => return Err(RecoverError::Empty),
        (Adopt::Nothing, 0) => {
            anchor.advance(head.tree()).await?;
            return Ok(head.tree());
        }
        (Adopt::Nothing, size) => return Err(RecoverError::NotEmpty { size }),
        (Adopt::Log, _) => {}
    }
    let below = Below {
        head: Head {
            feed_at: UNHEARD,
            ..head.clone()
        },
        entries: Vec::new(),
        nodes: Vec::new(),
    };
    let shown = [("size", head.size.into())];
    let grown = append(&foundation, &head, below, "anchor.adopted", shown).await?;
    // ORDER: a crash here leaves no promise: the service is still fenced, and this is done again.
    anchor.advance(grown).await?;
    Ok(head.tree())
}

/// What the entry that is appended stands on.
struct Below {
    head: Head,
    entries: Vec<Found>,
    nodes: Vec<NodeRow>,
}

/// An entry that comes back.
struct Found {
    row: EntryRow,
    hidden: Option<Hidden>,
}

/// What a receipt discloses of an entry.
struct Hidden {
    disclosures: Vec<String>,
    supply_point: Option<String>,
    /// The number of the entry among its actor's.
    sequence: Option<u64>,
}

impl Hidden {
    /// Opens the disclosures of an entry, with its actor; none where they do not say whom it is of.
    fn open(
        entry: &OpenEntry,
        disclosures: &[String],
    ) -> Result<Option<(String, Self)>, EntryError> {
        let fields = entry.open(disclosures)?;
        let text = |name| {
            fields
                .get(name)
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
        let hidden = Self {
            disclosures: disclosures.to_vec(),
            supply_point: text("supply_point"),
            sequence: fields
                .get("actor_sequence")
                .and_then(|value| value.as_u64()),
        };
        Ok(text("actor").map(|actor| (actor, hidden)))
    }
}

/// Commits an entry of the service itself together with what comes below it. Returns the new head.
async fn append<const N: usize>(
    foundation: &Foundation,
    before: &Head,
    below: Below,
    kind: &'static str,
    shown: [(&'static str, serde_json::Value); N],
) -> Result<TreeHead, RecoverError> {
    let caller = Caller::service();
    let actor = caller.identity.to_string();
    let mut needs = Needs::default();
    needs.actors.insert(actor.clone());
    needs.scopes.insert(actor);
    let scopes = below.entries.iter().map(|found| found.row.scope.clone());
    needs
        .scopes
        .extend(scopes.filter(|scope| !scope.is_empty()));
    let now = foundation.clock.now();
    let decide = |facts: Facts| {
        if facts.head != *before {
            let unchanged = Changes {
                head: facts.head,
                ..Changes::default()
            };
            return (unchanged, None);
        }
        let root = below.head.tree().root.to_string();
        let facts = Facts {
            head: below.head,
            ..facts
        };
        let (rules, custody) = (&foundation.rules, &foundation.custody);
        let mut ledger = Ledger::new(facts, now, rules, custody, &*foundation.random);
        for Found { row, hidden } in &below.entries {
            let sequence = hidden.as_ref().and_then(|hidden| hidden.sequence);
            if let (Some(actor), Some(sequence)) = (&row.party, sequence) {
                ledger.number(actor, sequence, row.index);
            }
        }
        let mut act = Act::of(kind, &caller).shows("root", root);
        for (name, value) in shown {
            act = act.shows(name, value);
        }
        ledger.append(act);
        let found = below.entries.into_iter().map(|Found { mut row, hidden }| {
            if let Some(hidden) = hidden {
                row.disclosures =
                    ledger.seal_disclosures(&row.scope, row.index, &hidden.disclosures);
                row.subject = hidden.supply_point.map(|point| custody.index_of(&point));
            }
            row
        });
        let found: Vec<_> = found.collect();
        let (mut changes, growth) = ledger.finish();
        changes.entries.splice(0..0, found);
        changes.nodes.splice(0..0, below.nodes);
        (changes, Some(growth.head))
    };
    let grown = foundation.store.commit_batch(&needs, decide).await;
    grown.map_err(Failure::from)?.ok_or(RecoverError::Moved)
}

/// What the mirror has and the database has not.
struct Missing {
    first: u64,
    /// The mirror's tree.
    frontier: Frontier,
    leaves: Vec<Vec<u8>>,
    /// The subtrees that the missing entries complete, of the levels that are stored.
    nodes: Vec<NodeRow>,
    /// The mirror's roots at the sizes that are compared.
    roots: BTreeMap<u64, Hash>,
}

impl Missing {
    /// Verifies the whole mirror, that it continues the database, and that it covers what was promised.
    fn read(
        head: &Head,
        mirrored: TreeHead,
        promise: Option<TreeHead>,
        mut tiles: impl FnMut(&TilePath) -> io::Result<Vec<u8>>,
    ) -> Result<Self, RecoverError> {
        let promised = promise.map_or(0, |promise| promise.size);
        if mirrored.size < promised && head.size < promised {
            return Err(RecoverError::Behind {
                has: mirrored.size.max(head.size),
                promised,
            });
        }
        if mirrored.size <= head.size {
            return Err(RecoverError::NothingMissing { has: head.size });
        }
        let mut missing = Self {
            first: head.size,
            frontier: Frontier::default(),
            leaves: Vec::new(),
            nodes: Vec::new(),
            roots: BTreeMap::new(),
        };
        verify_log(mirrored, &mut tiles, |index, leaf| {
            missing.see(index, leaf, promised);
        })
        .map_err(RecoverError::Mirror)?;
        let known = missing.roots.get(&head.size);
        if known.is_some_and(|root| root.0 != head.root) {
            return Err(RecoverError::AnotherHistory { size: head.size });
        }
        match promise {
            Some(TreeHead { size, root })
                if size > 0 && missing.roots.get(&size) != Some(&root) =>
            {
                Err(RecoverError::BrokenPromise { size })
            }
            _ => Ok(missing),
        }
    }

    fn see(&mut self, index: u64, leaf: &[u8], promised: u64) {
        let is_missing = index >= self.first;
        let nodes = &mut self.nodes;
        self.frontier.append(leaf_hash(leaf), |node, hash| {
            if is_missing && node.level > 0 && node.is_in_tile() {
                nodes.push(NodeRow {
                    level: node.level,
                    index: node.index,
                    hash: hash.0,
                });
            }
        });
        if is_missing {
            self.leaves.push(leaf.to_vec());
        }
        let size = self.frontier.size();
        if size == self.first || size == promised {
            self.roots.insert(size, self.frontier.root());
        }
    }

    /// The missing entries, for people and as rows.
    fn listed(
        &self,
        disclosures: &BTreeMap<u64, Vec<String>>,
    ) -> Result<(Vec<RecoveredEntry>, Vec<Found>), RecoverError> {
        let listed = (self.first..).zip(&self.leaves).map(|(index, leaf)| {
            let wrong = |source| RecoverError::Entry { index, source };
            let open = OpenEntry::read(leaf).map_err(wrong)?;
            let known = disclosures.get(&index);
            let known = known.map(|known| Hidden::open(&open, known)).transpose();
            let (party, hidden) = known.map_err(wrong)?.flatten().unzip();
            let scope = hidden
                .as_ref()
                .and_then(|h: &Hidden| h.supply_point.clone());
            let code = open.shown().get("code").and_then(|code| code.as_str());
            let code = Code::ALL.iter().find(|known| Some(known.as_str()) == code);
            let row = EntryRow {
                index,
                leaf: leaf.clone(),
                hash: leaf_hash(leaf).0,
                scope: scope.or_else(|| party.clone()).unwrap_or_default(),
                disclosures: Vec::new(),
                at: open.at(),
                kind: open.kind().to_owned(),
                party,
                subject: None,
                code: code.map(|code| code.as_str()),
            };
            let entry = RecoveredEntry {
                index,
                kind: open.kind().to_owned(),
                at: open.at(),
                disclosed: hidden.is_some(),
                again: again(open.kind()),
            };
            Ok((entry, Found { row, hidden }))
        });
        listed.collect()
    }

    /// The head with the missing entries.
    fn head(&self, before: &Head, last_at: Timestamp) -> Head {
        Head {
            size: self.frontier.size(),
            root: self.frontier.root().0,
            frontier: self.frontier.to_bytes(),
            last_at: before.last_at.max(last_at),
            feed_at: UNHEARD,
            directory_epoch: before.directory_epoch,
            numbered_above: before.numbered_above,
        }
    }
}

/// When the feed of registrations has spoken last, for a database that may be an old one: registrations that it lacks
/// could release to the wrong supplier, so nothing is released before the feed has spoken again.
pub(super) const UNHEARD: Timestamp = Timestamp::from_seconds(0);

/// What somebody has to do so that what an entry speaks of is true again.
fn again(kind: &str) -> &'static str {
    match kind {
        "package.deposited" => "the depositor deposits again",
        "release.granted" | "release.delivered" => {
            "the gaining supplier asks again if it has no release"
        }
        "handover.confirmed" | "handover.rejected" => "the gaining supplier says so again",
        "handover.closed" | "generations.erased" => {
            "nothing: it is closed, and they are erased, again when its grace is over"
        }
        "read.accepted" | "read.disputed" => "the gaining supplier accepts or disputes again",
        "registration.recorded" => "the registrar imports again, before anything is released",
        "meter.stated" => "the registered supplier states it again",
        "sealing_key.published" | "sealing_key.retired" => {
            "the party publishes or retires the key again"
        }
        "party.suspended" => "the operator suspends the party again, before it is served",
        "party.added" | "party.resumed" | "party.mpid_added" | "party.mpid_ended" => {
            "the operator changes the directory again"
        }
        _ => "nothing",
    }
}

/// Why the log was not recovered; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The mirror's checkpoint is not one of this log.
    #[error("the mirror's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Neither the mirror nor the database has all that receipts were given for.
    #[error(
        "the mirror is behind what was promised: entries {has} to {} are missing", promised - 1
    )]
    Behind {
        /// How many entries there are.
        has: u64,
        /// How many were promised.
        promised: u64,
    },
    /// The database has all that the mirror has.
    #[error("nothing is missing: the database has {has} entries, the mirror has no more")]
    NothingMissing {
        /// How many entries the database has.
        has: u64,
    },
    /// The mirror is damaged or was tampered with.
    #[error("the mirror does not verify: {}", audit(.0))]
    Mirror(AuditError<io::Error>),
    /// The mirror is of this log, but the database is not its past.
    #[error("the mirror does not continue the database: their roots at {size} entries differ")]
    AnotherHistory {
        /// The database's size.
        size: u64,
    },
    /// The mirror's log is not the one that receipts were given for.
    #[error("the mirror's root at {size} entries is not the one that was promised")]
    BrokenPromise {
        /// The size that the anchor remembers.
        size: u64,
    },
    /// An entry of the mirror is none that this service writes.
    #[error("entry {index} does not read: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: EntryError,
    },
    /// The anchor is there: only a log that continues it is accepted.
    #[error("the anchor still promises {size} entries; nothing is adopted instead")]
    Promised {
        /// The size that the anchor remembers.
        size: u64,
    },
    /// There is nothing that could be adopted.
    #[error("the log is empty: its entries were lost together with the anchor")]
    Empty,
    /// There is something, though the operator says that there is not.
    #[error("the log has {size} entries")]
    NotEmpty {
        /// How many.
        size: u64,
    },
    /// Somebody else wrote the database meanwhile.
    #[error("the database was changed meanwhile: is the service still running")]
    Moved,
    /// The database, the keys or the anchor failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

fn audit(error: &AuditError<io::Error>) -> String {
    match error {
        AuditError::Unreadable { tile, source } => format!("`{tile}` cannot be read: {source}"),
        error => error.to_string(),
    }
}
