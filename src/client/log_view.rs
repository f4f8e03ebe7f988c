//! What this side has seen of the log: the newest checkpoint that verified, kept so that no older or other log is
//! ever taken for it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use super::{Client, ClientError, ReceiptDocument, Request};
use crate::lock::Lock;
use crate::tlog::{Checkpoint, Hash, Note, Receipt, TreeHead, VerifierKey, verify_consistency};

/// The log's key, and the newest head that was verified with it.
pub struct LogView {
    key: VerifierKey,
    file: Option<PathBuf>,
    pinned: Mutex<Option<TreeHead>>,
}

impl LogView {
    /// A view that forgets when it is dropped.
    pub fn fresh(key: VerifierKey) -> Self {
        Self {
            key,
            file: None,
            pinned: Mutex::new(None),
        }
    }

    /// A view that is kept in a file, which several processes may share.
    pub fn kept(key: VerifierKey, file: &Path) -> Result<Self, ClientError> {
        let pinned = kept_in(file, &key)?;
        Ok(Self {
            key,
            file: Some(file.to_owned()),
            pinned: Mutex::new(pinned),
        })
    }

    /// The log's key.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Keeps a head in the place of `seen`, unless another process has kept one there meanwhile; returns that.
    fn keep(&self, note: &Note, seen: Option<TreeHead>) -> Result<Option<TreeHead>, ClientError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let failed =
            |error: std::io::Error| ClientError::Local(format!("{}: {error}", file.display()));
        let folder = file.parent().unwrap_or(Path::new("."));
        let _alone =
            Lock::waited_for(file).map_err(|error| ClientError::Local(error.to_string()))?;
        let kept = kept_in(file, &self.key)?;
        if kept.is_some() && kept != seen {
            return Ok(kept);
        }
        let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        new.write_all(note.to_string().as_bytes()).map_err(failed)?;
        new.as_file().sync_all().map_err(failed)?;
        new.persist(file).map_err(|error| failed(error.error))?;
        Ok(None)
    }
}

fn kept_in(file: &Path, key: &VerifierKey) -> Result<Option<TreeHead>, ClientError> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let note: Note = text.parse().map_err(|_| damaged(file))?;
            let checkpoint = Checkpoint::open(&note, key).map_err(|_| damaged(file))?;
            Ok(Some(checkpoint.head))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ClientError::Local(format!("{}: {error}", file.display()))),
    }
}

fn damaged(file: &Path) -> ClientError {
    ClientError::Verification(format!(
        "`{}` does not hold a checkpoint of this log",
        file.display()
    ))
}

impl Client {
    /// Verifies a receipt, and that its log continues the one seen before.
    pub async fn verify_receipt(&self, document: &ReceiptDocument) -> Result<(), ClientError> {
        let Some(view) = &self.log else {
            return Ok(());
        };
        let wrong = |error: &dyn std::fmt::Display| ClientError::Verification(error.to_string());
        let receipt: Receipt = document.proof.parse().map_err(|error| wrong(&error))?;
        let checkpoint = receipt
            .verify(&document.leaf, &view.key)
            .map_err(|error| wrong(&error))?;
        if receipt.index() != document.index {
            return Err(wrong(&"the receipt is for another entry"));
        }
        self.advance(view, checkpoint.head, receipt.checkpoint())
            .await
    }

    /// Fetches the newest checkpoint and verifies that it continues the one seen before.
    pub async fn verified_checkpoint(&self) -> Result<Note, ClientError> {
        self.verified("/v1/log/checkpoint").await
    }

    /// Fetches the newest checkpoint that the service's witnesses have cosigned, and verifies that it is of the log seen
    /// before. Where there are no witnesses it is the newest of all. Its cosignatures are not verified.
    pub async fn cosigned_checkpoint(&self) -> Result<Note, ClientError> {
        self.verified("/log/checkpoint").await
    }

    async fn verified(&self, path: &str) -> Result<Note, ClientError> {
        let answer = self.send(Request::get(path)).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let wrong = |error: &dyn std::fmt::Display| ClientError::Verification(error.to_string());
        let note: Note = text.parse().map_err(|error| wrong(&error))?;
        if let Some(view) = &self.log {
            let checkpoint = Checkpoint::open(&note, &view.key).map_err(|error| wrong(&error))?;
            self.advance(view, checkpoint.head, &note).await?;
        }
        Ok(note)
    }

    /// Proves the seen and the shown head consistent, in either order, and keeps the newer one.
    ///
    /// An older head than the one seen is no alarm: answers overtake each other. Only a failed proof is.
    async fn advance(
        &self,
        view: &LogView,
        shown: TreeHead,
        note: &Note,
    ) -> Result<(), ClientError> {
        let mut pinned = view.pinned.lock().await;
        loop {
            if let Some(seen) = *pinned {
                self.prove_continued(seen, shown).await?;
                if shown.size <= seen.size {
                    return Ok(());
                }
            }
            match view.keep(note, *pinned)? {
                // Another process has seen more: ours must be of the same log.
                Some(theirs) => *pinned = Some(theirs),
                None => {
                    *pinned = Some(shown);
                    return Ok(());
                }
            }
        }
    }

    async fn prove_continued(&self, seen: TreeHead, shown: TreeHead) -> Result<(), ClientError> {
        let (old, new) = match seen.size <= shown.size {
            true => (seen, shown),
            false => (shown, seen),
        };
        let proof = self.consistency(old.size, new.size).await?;
        verify_consistency(old, new, &proof).map_err(|_| {
            ClientError::Verification(format!(
                "the log of {} entries does not continue the one of {} that was seen before",
                new.size, old.size
            ))
        })
    }

    async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ClientError> {
        if from == to {
            return Ok(Vec::new());
        }
        #[derive(serde::Deserialize)]
        struct Proof {
            hashes: Vec<String>,
        }
        let path = format!("/v1/log/consistency?from={from}&to={to}");
        let proof: Proof = match self.send(Request::get(path)).await {
            Ok(answer) => answer.json()?,
            // A log that ends before what it signed for cannot prove anything: that is the alarm.
            Err(ClientError::Refused { status: 400, .. }) => {
                return Err(ClientError::Verification(format!(
                    "the service cannot show that its log continues from {from} to {to} entries"
                )));
            }
            Err(error) => return Err(error),
        };
        proof
            .hashes
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| ClientError::Verification("a hash of a proof does not read".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::LogKey;
    use crate::types::Secret;

    #[test]
    fn of_two_processes_neither_overwrites_what_the_other_saw_later() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkpoint");
        let seed = Secret::new(vec![7; 32]);
        let key = LogKey::from_seed("escrow.example/log".parse().unwrap(), &seed).unwrap();
        let head = |size| TreeHead {
            size,
            root: Hash([3; 32]),
        };
        let note = |size| Checkpoint::sign(head(size), &key);
        let view = || LogView::kept(key.verifier().clone(), &file).unwrap();
        let (one, other) = (view(), view());
        assert_eq!(one.keep(&note(5), None).unwrap(), None);
        assert_eq!(other.keep(&note(3), None).unwrap(), Some(head(5)));
        assert_eq!(*view().pinned.blocking_lock(), Some(head(5)));
        assert_eq!(other.keep(&note(9), Some(head(5))).unwrap(), None);
        assert_eq!(one.keep(&note(7), Some(head(5))).unwrap(), Some(head(9)));
        assert_eq!(*view().pinned.blocking_lock(), Some(head(9)));
    }
}
