//! `log monitor`: follows the log, proves that what it reads is all of it, and tells what somebody should look at.
//!
//! It replays every entry into a tree of its own, so that nothing is skipped or changed between two rounds. Tiles are
//! read without leaving entries; only what releases hide is asked for, once a round that has some.

mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::rules::{Alarm, Burst, Rule, Severity, Watch};
use super::verify::read_policy;
use crate::cli::connect::Session;
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::output::Output;
use crate::client::{Client, ClientError, Request};
use crate::tlog::{
    Checkpoint, EntryError, Frontier, OpenEntry, TileKind, TrustPolicy, VerifierKey,
    decode_entries, leaf_hash,
};
use crate::types::{Clock as _, SystemClock, Timestamp};

/// What to watch for, and where to say it.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Look once, and end with 5 if something is critical.
    #[arg(long)]
    once: bool,
    /// Seconds from one look to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// What was understood so far; by default in the state folder.
    #[arg(long, value_name = "FILE")]
    memory: Option<PathBuf>,
    /// A tlog-policy whose quorum the checkpoint must have.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Seconds without an entry that are too many.
    #[arg(long, value_name = "SECONDS", default_value_t = 93_600)]
    stale: u64,
    /// Refusals within a minute that are too many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    refusals: u64,
    /// Say it to syslog too.
    #[arg(long)]
    syslog: bool,
}

/// Looks, and tells, until it is ended.
pub(super) async fn run(
    session: &Session,
    key: &VerifierKey,
    arguments: &Arguments,
    output: &Output,
) -> Result<(), Failure> {
    let policy = arguments.policy.as_deref().map(read_policy).transpose()?;
    let memory = match &arguments.memory {
        Some(file) => file.clone(),
        None => session.settings.state.join("monitor.json"),
    };
    let mut monitor = Monitor {
        client: &session.client,
        key,
        policy,
        known: Known::read(&memory)?,
        burst: Burst {
            count: arguments.refusals,
            within: Duration::from_secs(60),
        },
        stale: Duration::from_secs(arguments.stale),
    };
    loop {
        let alarms = monitor.look().await;
        for alarm in &alarms {
            tell(alarm, arguments.syslog, output)?;
        }
        // ORDER: told before it is remembered. Cut off in between, it is told again.
        monitor.known.write(&memory)?;
        if arguments.once {
            let is_critical = alarms
                .iter()
                .any(|alarm| alarm.severity == Severity::Critical);
            return match is_critical {
                true => Err(Failure::new(Exit::Unverified, "something is critical")),
                false => Ok(()),
            };
        }
        tokio::time::sleep(Duration::from_secs(arguments.every)).await;
    }
}

struct Monitor<'a> {
    client: &'a Client,
    key: &'a VerifierKey,
    policy: Option<TrustPolicy>,
    known: Known,
    burst: Burst,
    stale: Duration,
}

/// What is remembered from one process to the next.
#[derive(Default)]
struct Known {
    tree: Frontier,
    newest_at: Timestamp,
    watch: Watch,
}

/// The same, in a file.
#[derive(Deserialize, Serialize)]
struct Memory {
    tree: String,
    newest_at: u64,
    watch: Watch,
}

impl Known {
    fn read(file: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(files::at(file, &error)),
        };
        let read = || {
            let memory: Memory = serde_json::from_str(&text).ok()?;
            let tree = BASE64_STANDARD.decode(memory.tree).ok()?;
            Some(Self {
                tree: Frontier::from_bytes(&tree).ok()?,
                newest_at: Timestamp::from_millis(memory.newest_at),
                watch: memory.watch,
            })
        };
        read().ok_or_else(|| {
            let message = format!("`{}` is not what a monitor remembers", file.display());
            Failure::new(Exit::Unverified, message).hint("move it away to begin at entry 0")
        })
    }

    fn write(&self, file: &Path) -> Result<(), Failure> {
        if let Some(folder) = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            files::private_folder(folder)?;
        }
        let memory = serde_json::json!({
            "tree": BASE64_STANDARD.encode(self.tree.to_bytes()),
            "newest_at": self.newest_at.as_millis(),
            "watch": self.watch,
        });
        files::replace(file, memory.to_string().as_bytes())
    }
}

impl Monitor<'_> {
    /// One round. Nothing is remembered of a log that does not verify.
    async fn look(&mut self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if let Err(alarm) = self.follow(&mut alarms).await {
            alarms.push(alarm);
        }
        let now = SystemClock.now();
        let silent = now.since(self.known.newest_at);
        if self.known.tree.size() > 0 && silent > self.stale {
            let detail = format!("no entry for {} s", silent.as_secs());
            alarms.push(general(Rule::Stale, Severity::Warning, detail));
        }
        alarms
    }

    async fn follow(&mut self, alarms: &mut Vec<Alarm>) -> Result<(), Alarm> {
        let note = self
            .client
            .cosigned_checkpoint()
            .await
            .map_err(|e| failed(&e))?;
        let wrong = |detail: String| general(Rule::Inconsistent, Severity::Critical, detail);
        let head = Checkpoint::open(&note, self.key)
            .map_err(|e| wrong(e.to_string()))?
            .head;
        if let Some(policy) = &self.policy
            && let Err(error) = policy.open(&note, Some(self.key))
        {
            alarms.push(general(Rule::Quorum, Severity::Warning, error.to_string()));
        }
        if head.size <= self.known.tree.size() {
            return Ok(());
        }
        let (tree, leaves) = self.read_to(head.size).await?;
        if tree.head() != head {
            let detail = format!(
                "the entries up to {} do not give the signed root",
                head.size
            );
            return Err(wrong(detail));
        }
        let releases = leaves
            .iter()
            .filter(|(_, leaf)| kind_of(leaf) == "release.granted");
        let hidden = match releases.map(|(index, _)| *index).min() {
            Some(first) => self
                .hidden_in_releases(first)
                .await
                .map_err(|e| failed(&e))?,
            None => BTreeMap::new(),
        };
        for (index, leaf) in &leaves {
            let opened = hidden.get(index).map(|hidden| opened(leaf, hidden));
            let opened = opened.transpose().unwrap_or_else(|error| {
                let detail = format!("what is disclosed of entry {index} is not its own: {error}");
                alarms.push(wrong(detail));
                None
            });
            let watch = &mut self.known.watch;
            alarms.extend(watch.see(*index, leaf, opened.as_ref(), self.burst));
        }
        if let Some((_, newest)) = leaves.last()
            && let Ok(entry) = OpenEntry::read(newest)
        {
            self.known.newest_at = entry.at();
        }
        self.known.tree = tree;
        Ok(())
    }

    /// The entries from where we are to this size, and the tree with them.
    async fn read_to(&self, size: u64) -> Result<(Frontier, Vec<(u64, Vec<u8>)>), Alarm> {
        let mut tree = self.known.tree.clone();
        let mut leaves = Vec::new();
        let torn =
            |detail: &str| general(Rule::Inconsistent, Severity::Critical, detail.to_owned());
        for tile in TileKind::Entries.tiles(size) {
            let first = tile.index() * 256;
            if first + u64::from(tile.width()) <= tree.size() {
                continue;
            }
            let bytes = self.client.tile(&tile).await.map_err(|e| failed(&e))?;
            let entries = decode_entries(&bytes, tile.width());
            let entries = entries.map_err(|_| torn("a tile of entries is torn"))?;
            for (index, leaf) in (first..).zip(entries) {
                if index == tree.size() {
                    tree.append(leaf_hash(leaf), |_, _| {});
                    leaves.push((index, leaf.to_vec()));
                }
            }
        }
        Ok((tree, leaves))
    }

    /// What the service discloses of releases from this entry on, by index; not yet opened.
    async fn hidden_in_releases(
        &self,
        first: u64,
    ) -> Result<BTreeMap<u64, Vec<String>>, ClientError> {
        let mut hidden = BTreeMap::new();
        let mut before = String::new();
        loop {
            let path = format!("/v1/log/entries?kind=release.granted&limit=1000{before}");
            let mut page: Value = self.client.send(Request::get(path)).await?.json()?;
            let entries = page["entries"]
                .as_array_mut()
                .map(std::mem::take)
                .unwrap_or_default();
            for mut entry in entries {
                match entry["index"].as_u64() {
                    Some(index) if index >= first => {
                        let disclosures = serde_json::from_value(entry["disclosures"].take());
                        // Erased, or kept from us: the watch says so.
                        if let Ok(disclosures) = disclosures {
                            hidden.insert(index, disclosures);
                        }
                    }
                    _ => return Ok(hidden),
                }
            }
            match page["next"].as_u64() {
                Some(next) => before = format!("&before={next}"),
                None => return Ok(hidden),
            }
        }
    }
}

/// What a leaf hides, if these disclosures are its own.
fn opened(leaf: &[u8], disclosures: &[String]) -> Result<Value, EntryError> {
    let entry = OpenEntry::read(leaf)?;
    entry.open(disclosures).map(Value::Object)
}

fn kind_of(leaf: &[u8]) -> String {
    OpenEntry::read(leaf).map_or(String::new(), |entry| entry.kind().to_owned())
}

fn failed(error: &ClientError) -> Alarm {
    match error {
        ClientError::Verification(_) => {
            general(Rule::Inconsistent, Severity::Critical, error.to_string())
        }
        error => general(Rule::Unreachable, Severity::Warning, error.to_string()),
    }
}

fn general(rule: Rule, severity: Severity, detail: String) -> Alarm {
    Alarm {
        at: SystemClock.now().to_string(),
        rule,
        severity,
        entry: None,
        detail,
    }
}

/// One line of JSON on stdout, whatever the format of other commands.
fn tell(alarm: &Alarm, syslog: bool, output: &Output) -> Result<(), Failure> {
    let line = serde_json::to_string(alarm).map_err(Failure::failed)?;
    output.print(&format!("{line}\n"))?;
    if syslog {
        // Facility 13, log audit (RFC 5424).
        let severity = match alarm.severity {
            Severity::Critical => 2,
            Severity::Warning => 4,
            Severity::Notice => 5,
        };
        let message = format!("<{}>cos-escrow-monitor: {line}", 13 * 8 + severity);
        let sent =
            UnixDatagram::unbound().and_then(|socket| socket.send_to(message.as_bytes(), SYSLOG));
        sent.map_err(|error| files::at(Path::new(SYSLOG), &error))?;
    }
    Ok(())
}

const SYSLOG: &str = "/dev/log";
