//! Copying the log: tiles first, then verification, then the checkpoint. A copy that broke off is continued.

use std::path::Path;

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::folder::{Folder, note_in};
use crate::cli::connect::{Session, wait};
use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::client::{Client, ClientError};
use crate::tlog::{Checkpoint, Note, TreeHead, VerifierKey, tiles};

/// Brings a copy up to date. Its checkpoint is replaced only when everything below it was verified. Returns its head, and
/// how many tiles were fetched.
pub(super) fn copy(
    session: &Session,
    key: &VerifierKey,
    dir: &Path,
    output: &Output,
) -> Result<(TreeHead, usize), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| files::at(dir, &error))?;
    let folder = Folder::at(dir);
    let former = match folder.checkpoint().exists() {
        true => Some(folder.head(key)?),
        false => None,
    };
    let (note, head, fetched) = wait(async {
        let note = session.client.cosigned_checkpoint().await?;
        let checkpoint =
            Checkpoint::open(&note, key).map_err(|error| Failure::new(Exit::Unverified, error))?;
        let size = checkpoint.head.size;
        let fetched = fetch(&session.client, &folder, size, output).await?;
        Ok((note, checkpoint.head, fetched))
    })?;
    folder.verify(head, former, output)?;
    let note = match former {
        Some(former) if former == head => with_earlier_cosignatures(note, &folder)?,
        _ => note,
    };
    // ORDER: the checkpoint last: a copy never claims what was not verified.
    folder.put_checkpoint(&note)?;
    Ok((head, fetched))
}

/// A checkpoint of the same head as the one in the folder keeps the cosignatures that this has collected.
fn with_earlier_cosignatures(mut note: Note, folder: &Folder) -> Result<Note, Failure> {
    let earlier = note_in(&folder.checkpoint())??;
    for signature in earlier.signatures() {
        note.add_once(signature.clone()).map_err(Failure::failed)?;
    }
    Ok(note)
}

/// Fetches what a log of `size` entries has and the folder has not. Partial tiles are fetched again: they are small.
async fn fetch(
    client: &Client,
    folder: &Folder,
    size: u64,
    output: &Output,
) -> Result<usize, Failure> {
    let missing: Vec<_> = tiles(size)
        .filter(|tile| !tile.is_full() || !folder.has(tile))
        .collect();
    let progress = Progress::start(output, "tiles", missing.len() as u64);
    let mut fetched = stream::iter(&missing)
        .map(|tile| async move { Ok((tile, client.tile(tile).await?)) })
        .buffer_unordered(AT_ONCE)
        .map_err(|error: ClientError| Failure::from(error));
    while let Some((tile, bytes)) = fetched.try_next().await? {
        folder.put(tile, &bytes)?;
        progress.advance();
    }
    Ok(missing.len())
}

/// Tiles that are fetched at a time.
const AT_ONCE: usize = 8;
