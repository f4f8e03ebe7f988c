//! A copy of the log in a folder, as C2SP tlog-tiles lays it out, and its verification without anybody's help.
//!
//! ```text
//! checkpoint              the signed head that the tiles below were verified against
//! tile/0/000              and so on, see `tlog::TilePath`
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::cli::exit::Failure;
use crate::cli::files;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::tlog::{
    Checkpoint, Frontier, Note, NoteError, TilePath, TreeHead, VerifierKey, leaf_hash, verify_log,
};

/// A copy of the log.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Whether a tile is there.
    pub(super) fn has(&self, tile: &TilePath) -> bool {
        self.tile(tile).is_file()
    }

    /// The bytes of a tile.
    pub(super) fn read(&self, tile: &TilePath) -> Result<Vec<u8>, Failure> {
        let path = self.tile(tile);
        fs::read(&path).map_err(|error| files::at(&path, &error))
    }

    /// Puts a tile in its place.
    pub(super) fn put(&self, tile: &TilePath, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.tile(tile);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| files::at(folder, &error))?;
        }
        files::replace(&path, bytes)
    }

    /// Puts a checkpoint in the place of the former.
    pub(super) fn put_checkpoint(&self, note: &Note) -> Result<(), Failure> {
        files::replace(&self.checkpoint(), note.to_string().as_bytes())
    }

    /// The head that the folder claims, if the log's key signed it.
    pub(super) fn head(&self, key: &VerifierKey) -> Result<TreeHead, Failure> {
        Ok(head_in(&self.checkpoint(), key)??)
    }

    /// Reads every tile and derives the tree again; it must have this head, and have had the `former` one.
    pub(super) fn verify(
        &self,
        head: TreeHead,
        former: Option<TreeHead>,
        output: &Output,
    ) -> Result<(), Finding> {
        let progress = Progress::start(output, "entries", head.size);
        let mut past = Past::of(former);
        let mut source = |tile: &TilePath| fs::read(self.tile(tile));
        let audit = verify_log(head, &mut source, |_, leaf| {
            past.see(leaf);
            progress.advance();
        });
        drop(progress);
        audit.map_err(|error| Finding::of_audit(&error))?;
        past.verify(head)
    }

    /// Where the checkpoint is.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    fn tile(&self, tile: &TilePath) -> PathBuf {
        self.path.join(tile.to_string())
    }
}

/// The note in a file. A file that cannot be read is a failure, one that is no note a finding.
pub(super) fn note_in(path: &Path) -> Result<Result<Note, Finding>, Failure> {
    let bytes = fs::read(path).map_err(|error| files::at(path, &error))?;
    let wrong = |error: NoteError| Finding::of_checkpoint(path, error.into());
    let text = String::from_utf8(bytes).map_err(|_| wrong(NoteError::Form));
    Ok(text.and_then(|text| text.parse().map_err(wrong)))
}

/// The head of a checkpoint in a file, if the log's key signed it.
pub(super) fn head_in(
    path: &Path,
    key: &VerifierKey,
) -> Result<Result<TreeHead, Finding>, Failure> {
    let wrong = |error| Finding::of_checkpoint(path, error);
    let head = |note| {
        let checkpoint = Checkpoint::open(&note, key).map_err(wrong)?;
        Ok(checkpoint.head)
    };
    Ok(note_in(path)?.and_then(head))
}

/// Whether the entries, up to an earlier size, are those of an earlier head.
struct Past {
    former: Option<TreeHead>,
    frontier: Frontier,
}

impl Past {
    fn of(former: Option<TreeHead>) -> Self {
        Self {
            former,
            frontier: Frontier::default(),
        }
    }

    fn see(&mut self, leaf: &[u8]) {
        if self
            .former
            .is_some_and(|former| self.frontier.size() < former.size)
        {
            self.frontier.append(leaf_hash(leaf), |_, _| {});
        }
    }

    fn verify(&self, head: TreeHead) -> Result<(), Finding> {
        match self.former {
            Some(former) if former.size > head.size => Err(Finding::unverifiable(format!(
                "the log had {} entries before, and this copy has {}",
                former.size, head.size
            ))
            .hint("an older copy is no alarm: `cos-escrow log mirror` brings it up to date")),
            Some(former) if self.frontier.head() != former => Err(Finding::invalid(format!(
                "the first {} entries are not those of before",
                former.size
            ))),
            _ => Ok(()),
        }
    }
}
