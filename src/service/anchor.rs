//! What the log's head was, kept outside the database: a restored backup contradicts it and is not served.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::Failure;
use crate::tlog::{Frontier, TreeHead};
use crate::types::Code;

/// A small file that holds the newest size and root whose receipts may have been sent.
///
/// Two lines of text are written in turn, each with its own check, so that a torn write leaves the other.
pub(super) struct Anchor {
    file: File,
    path: PathBuf,
    slot: u64,
}

impl Anchor {
    /// Opens the file, and says what was promised last: nothing if it was deleted or damaged. Even an empty log has
    /// promised that it is empty.
    pub(super) async fn open(path: &Path) -> Result<(Self, Option<TreeHead>), Failure> {
        Self::try_open(path)
            .await
            .map_err(|error| failed(path, &error))
    }

    async fn try_open(path: &Path) -> Result<(Self, Option<TreeHead>), std::io::Error> {
        let newest = match fs::read(path).await {
            Ok(bytes) => newest(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let file = options.open(path).await?;
        if let Some(folder) = path.parent() {
            File::open(folder).await?.sync_all().await?;
        }
        let anchor = Self {
            file,
            path: path.to_owned(),
            slot: newest.map_or(0, |(slot, _)| slot),
        };
        Ok((anchor, newest.map(|(_, promise)| promise)))
    }

    /// An anchor to which nothing can be written.
    #[cfg(test)]
    pub(super) async fn read_only(path: &Path) -> Self {
        Self {
            file: File::open(path).await.expect("it is there"),
            path: path.to_owned(),
            slot: 0,
        }
    }

    /// Records a new head, durably.
    pub(super) async fn advance(&mut self, head: TreeHead) -> Result<(), Failure> {
        let written = self.write(head).await;
        written.map_err(|error| failed(&self.path, &error))
    }

    async fn write(&mut self, head: TreeHead) -> Result<(), std::io::Error> {
        use tokio::io::AsyncSeekExt as _;
        let line = line(head);
        // The slot that does not hold the newest promise, so that a torn write leaves that one.
        self.slot = 1 - self.slot;
        let at = self.slot * LINE as u64;
        self.file.seek(std::io::SeekFrom::Start(at)).await?;
        self.file.write_all(line.as_bytes()).await?;
        self.file.flush().await?;
        self.file.sync_data().await
    }
}

/// Whether an empty database may become a log: only one that has never begun. Otherwise its entries were lost.
///
/// There has been no log where nothing is promised and there is no root key yet (`has_root_key`). That the log is empty
/// is promised then.
pub async fn may_begin(anchor: &Path, has_root_key: bool) -> Result<bool, Failure> {
    let (mut anchor, promise) = Anchor::open(anchor).await?;
    match promise {
        Some(promise) => Ok(promise.size == 0),
        None if has_root_key => Ok(false),
        None => {
            // ORDER: before there is a key, so that keys without a promise always mean that the anchor was lost.
            anchor.advance(Frontier::default().head()).await?;
            Ok(true)
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Unavailable(format!("anchor `{}`: {error}", path.display()))
}

/// `size` in 20 digits, the root, and a check over both.
fn line(head: TreeHead) -> String {
    let text = format!("{:020} {}", head.size, head.root);
    let check = crate::types::Digest::of(text.as_bytes());
    format!("{text} {check}\n")
}

/// The slot and content of the newest whole line.
fn newest(bytes: &[u8]) -> Option<(u64, TreeHead)> {
    (0..)
        .zip(bytes.chunks(LINE))
        .filter_map(|(slot, line)| Some((slot, parse(str::from_utf8(line).ok()?.trim_end())?)))
        .max_by_key(|(_, promise)| promise.size)
}

fn parse(text: &str) -> Option<TreeHead> {
    let mut words = text.split(' ');
    let promise = TreeHead {
        size: words.next()?.parse().ok()?,
        root: words.next()?.parse().ok()?,
    };
    let expected = line(promise);
    (expected.trim_end() == text).then_some(promise)
}

/// Whether the service may write. Once raised it stays up until the log has been recovered and the service started anew.
#[derive(Debug, Default)]
pub(super) struct Fence(RwLock<Option<String>>);

impl Fence {
    /// Stops all writing, for this reason.
    pub(super) fn raise(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(reason, "the service is fenced");
        let mut fence = self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        fence.get_or_insert(reason);
    }

    /// Why writing has stopped, if it has.
    pub(super) fn reason(&self) -> Option<String> {
        let fence = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        fence.clone()
    }

    /// As a start from a log that is in order does.
    #[cfg(test)]
    pub(super) fn lower(&self) {
        *self.0.write().expect("nobody panicked") = None;
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.reason() {
            None => Ok(()),
            Some(_) => Err(Failure::refused(Code::Fenced)),
        }
    }
}

/// Bytes of a line: 20 digits, 44 characters of root, 43 of check, two spaces, a line feed.
const LINE: usize = 20 + 1 + 44 + 1 + 43 + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::Hash;

    fn head(size: u64) -> TreeHead {
        let root = Hash([u8::try_from(size).unwrap(); 32]);
        TreeHead { size, root }
    }

    #[tokio::test]
    async fn the_newest_promise_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        assert!(may_begin(&path, false).await.unwrap());
        let (mut anchor, first) = Anchor::open(&path).await.unwrap();
        assert_eq!(first, Some(Frontier::default().head()));
        for size in 1..=5_u64 {
            anchor.advance(head(size)).await.unwrap();
        }
        let (_, found) = Anchor::open(&path).await.unwrap();
        assert_eq!(found, Some(head(5)));
    }

    #[tokio::test]
    async fn an_anchor_that_is_gone_or_damaged_promises_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        for content in [None, Some(""), Some("00000000000000000007 torn")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let (_, found) = Anchor::open(&path).await.unwrap();
            assert_eq!(found, None, "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_log_begins_where_there_was_none_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        // Cut off while the anchor was made: there are no keys yet.
        for content in ["", "0000000000000000"] {
            std::fs::write(&path, content).unwrap();
            assert!(!may_begin(&path, true).await.unwrap(), "{content:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert!(may_begin(&path, false).await.unwrap(), "{content:?}");
        }
        // Cut off while the keys were made.
        assert!(may_begin(&path, true).await.unwrap());
        let (mut anchor, _) = Anchor::open(&path).await.unwrap();
        anchor.advance(head(1)).await.unwrap();
        for has_root_key in [false, true] {
            assert!(!may_begin(&path, has_root_key).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_torn_write_leaves_the_promise_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("anchor");
        let (mut anchor, _) = Anchor::open(&path).await.unwrap();
        anchor.advance(head(1)).await.unwrap();
        anchor.advance(head(2)).await.unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let newest = bytes.windows(2).position(|w| w == b"2 ").unwrap();
        bytes[newest + 9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let (_, found) = Anchor::open(&path).await.unwrap();
        assert_eq!(found.map(|promise| promise.size), Some(1));
    }
}
