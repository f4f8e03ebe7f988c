//! `log export`: a period of the log for somebody who has nothing of ours: the whole log as static files, what the
//! period's entries hide, keys and policy, a summary to read, and how to verify all of it with foreign tools.
//!
//! ```text
//! README.md           what is what, and the commands
//! log/                checkpoint and tiles of the whole log: without it nothing could be verified
//! log.vkey            the log's key
//! witnesses.policy    the tlog-policy that it was verified by, if one was given
//! entries.jsonl       the entries of the period, one a line, with what they hide
//! summary.html        how many of which kind, what was refused
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::folder::Folder;
use super::mirror::copy;
use super::search::{self, search};
use crate::cli::connect::{Session, wait};
use crate::cli::document::{Document, Shape};
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::output::Output;
use crate::client::Shown;
use crate::tlog::{TileKind, TilePath, TreeHead, VerifierKey};
use crate::types::Timestamp;

/// Which period, and where to.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// A folder that is not there yet.
    dir: PathBuf,
    /// Only entries at or after this instant.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only entries before this instant.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// A tlog-policy to put beside it.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Writes the folder. The README comes last: an export without one is not complete.
pub(super) fn run(
    session: &Session,
    key: &VerifierKey,
    arguments: &Arguments,
    output: &Output,
) -> Result<(), Failure> {
    let dir = &arguments.dir;
    if dir.exists() {
        let message = format!("`{}` is there already", dir.display());
        return Err(Failure::new(Exit::Refused, message).hint("name a new folder"));
    }
    let policy = arguments.policy.as_deref().map(files::read).transpose()?;
    files::private_folder(dir)?;
    let query = search::Arguments::of_period(arguments.from, arguments.until);
    let mut entries = wait(async { Ok(search(&session.client, &query, output).await?) })?;
    entries.reverse();
    // ORDER: after the search, so that the copy has every entry that the search has found.
    let (head, _) = copy(session, key, &dir.join("log"), output)?;
    let folder = Folder::at(&dir.join("log"));
    let found = entries.len();
    entries.retain(|entry| entry.index < head.size);
    if entries.len() < found {
        let newer = found - entries.len();
        output.note(format!(
            "{newer} entries are left out: no checkpoint with its cosignatures has them yet"
        ));
    }
    for entry in &entries {
        is_in(&folder, head, entry)?;
    }
    let entries: Vec<_> = entries.into_iter().map(|entry| entry.document).collect();

    let lines: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
    files::replace(&dir.join("entries.jsonl"), lines.as_bytes())?;
    files::replace(&dir.join("log.vkey"), format!("{key}\n").as_bytes())?;
    if let Some(policy) = &policy {
        files::replace(&dir.join("witnesses.policy"), policy)?;
    }
    let summary = Summary::of(&entries);
    let html = summary.html(key, head, arguments);
    files::replace(&dir.join("summary.html"), html.as_bytes())?;
    let policy = policy.map(|_| "witnesses.policy");
    files::replace(&dir.join("README.md"), readme(key, head, policy).as_bytes())?;
    output.row(&Document::<Exported>::of(json!({
        "origin": key.name().as_str(),
        "size": head.size,
        "entries": entries.len(),
        "dir": dir.display().to_string(),
    })))
}

/// An entry as the service shows it is the one that the verified copy has at its place.
fn is_in(folder: &Folder, head: TreeHead, entry: &Shown) -> Result<(), Failure> {
    let index = entry.index;
    let other = || {
        let message = format!("entry {index} is not the one that the log has there");
        Failure::new(Exit::Unverified, message)
    };
    let tile = TilePath::at(TileKind::Hashes { level: 0 }, index / 256, head.size);
    let hashes = folder.read(&tile.ok_or_else(other)?)?;
    let (hashes, _) = hashes.as_chunks::<32>();
    let at = usize::try_from(index % 256).map_err(|_| other())?;
    let hash = hashes.get(at).copied().map(crate::tlog::Hash);
    let holds = hash == Some(entry.leaf_hash);
    holds.then_some(()).ok_or_else(other)
}

/// What the period was about.
#[derive(Default)]
struct Summary {
    kinds: BTreeMap<String, u64>,
    codes: BTreeMap<String, u64>,
    between: Option<(String, String)>,
    erased: u64,
}

impl Summary {
    fn of(entries: &[Value]) -> Self {
        let mut summary = Self::default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for entry in entries {
            *summary.kinds.entry(text(&entry["kind"])).or_default() += 1;
            if let Some(code) = entry["leaf"]["code"].as_str() {
                *summary.codes.entry(code.to_owned()).or_default() += 1;
            }
            summary.erased += u64::from(entry["disclosed"].is_null());
            let at = text(&entry["at"]);
            summary.between = match summary.between.take() {
                Some((first, _)) => Some((first, at)),
                None => Some((at.clone(), at)),
            };
        }
        summary
    }

    fn html(&self, key: &VerifierKey, head: TreeHead, arguments: &Arguments) -> String {
        let limit = |at: Option<Timestamp>| at.map_or("open".to_owned(), |at| at.to_string());
        let (first, last) = self.between.clone().unwrap_or_default();
        let facts = [
            ("Log", key.name().to_string()),
            ("Key", key.to_string()),
            ("Entries in all", head.size.to_string()),
            ("Root", head.root.to_string()),
            (
                "Period asked for",
                format!("{} to {}", limit(arguments.from), limit(arguments.until)),
            ),
            ("First and last entry in it", format!("{first}, {last}")),
            (
                "Entries whose hidden fields are erased",
                self.erased.to_string(),
            ),
        ];
        let mut html = HEAD.to_owned();
        html.push_str("<table>");
        for (name, value) in facts {
            let _ = write!(html, "<tr><th>{}<td>{}", escaped(name), escaped(&value));
        }
        html.push_str("</table>");
        for (title, counts) in [
            ("Entries by kind", &self.kinds),
            ("Refusals by code", &self.codes),
        ] {
            let _ = write!(html, "<h2>{title}</h2><table>");
            for (name, count) in counts {
                let _ = write!(html, "<tr><td>{}<td class=n>{count}", escaped(name));
            }
            html.push_str("</table>");
        }
        html
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn readme(key: &VerifierKey, head: TreeHead, policy: Option<&str>) -> String {
    let by = match policy {
        Some(policy) => format!("--policy {policy}"),
        None => "--log-key log.vkey".to_owned(),
    };
    format!(
        "# An export of the log `{}`\n\n\
         {} entries, root `{}`. The log is C2SP tlog-tiles in `log/`; `entries.jsonl` has the entries of the period with\n\
         what they hide, as the service disclosed it to the auditor. Whoever gives this on gives that on.\n\n\
         Nothing in this folder has to be believed but the key, which should be compared with one from elsewhere:\n\n\
         ```\n{key}\n```\n\n\
         ## To verify it\n\
         With the program that made it:\n\n\
         ```sh\ncos-escrow log verify --dir log {by}\n```\n\n\
         With code that its makers did not write:\n\n\
         ```sh\n\
         pip install --ignore-requires-python aics-tlog==0.2.1\n\
         aics-tlog verify-checkpoint --tiles log --log-key \"$(cat log.vkey)\"\n\
         aics-tlog verify-inclusion --tiles log --log-key \"$(cat log.vkey)\" --index 0\n\
         ```\n\n\
         The hash of an entry is `SHA-256(0x00 ‖ its leaf)`, the leaf being the RFC 8785 form of `leaf` in `entries.jsonl`; it\n\
         is `leaf_hash` there, and hash `index mod 256` of tile `log/tile/0/<index div 256>`. What is `disclosed` of it is\n\
         bound to it by `disclosures`: the SHA-256 of each, as it stands there, is one of `_sd` in the leaf.\n",
        key.name(),
        head.size,
        head.root,
    )
}

struct Exported;

impl Shape for Exported {
    const COLUMNS: &'static [&'static str] = &["origin", "size", "entries", "dir"];
    const POINTERS: &'static [&'static str] = &["/origin", "/size", "/entries", "/dir"];
}

const HEAD: &str = "<!doctype html><meta charset=utf-8><title>Export of a release log</title>\
    <style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
    table{border-collapse:collapse}th,td{text-align:left;padding:.2em 1em .2em 0;border-bottom:1px solid #ccc;\
    overflow-wrap:anywhere}.n{text-align:right}</style><h1>Export of a release log</h1>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_and_escapes() {
        let entries = [
            json!({ "index": 1, "at": "2026-01-01T00:00:00.000Z", "kind": "release.granted", "leaf": {}, "disclosed": {} }),
            json!({ "index": 2, "at": "2026-01-02T00:00:00.000Z", "kind": "<b>&", "leaf": { "code": "meter_mismatch" } }),
        ];
        let summary = Summary::of(&entries);
        assert_eq!(
            (
                summary.kinds.len(),
                summary.codes["meter_mismatch"],
                summary.erased
            ),
            (2, 1, 1)
        );
        let (first, last) = summary.between.unwrap();
        assert!(first < last);
        assert_eq!(escaped("<b>&"), "&lt;b&gt;&amp;");
    }
}
