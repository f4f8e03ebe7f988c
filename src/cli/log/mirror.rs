//! Copying the log: tiles first, then verification, then the checkpoint. A copy that broke off is continued.

use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::folder::Folder;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::client::{Client, ClientError, Request};
use crate::tlog::{TilePath, tiles};

/// Fetches what a log of `size` entries has and the folder has not. Partial tiles are fetched again: they are small.
pub(super) async fn fetch(
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
        .map(|tile| async move { Ok((tile, fetch_tile(client, tile).await?)) })
        .buffer_unordered(AT_ONCE)
        .map_err(|error: ClientError| Failure::from(error));
    while let Some((tile, bytes)) = fetched.try_next().await? {
        folder.put(tile, &bytes)?;
        progress.advance();
    }
    Ok(missing.len())
}

/// One tile, not verified.
pub(super) async fn fetch_tile(client: &Client, tile: &TilePath) -> Result<Vec<u8>, ClientError> {
    let answer = client.send(Request::get(format!("/log/{tile}"))).await?;
    Ok(answer.body.to_vec())
}

/// Tiles that are fetched at a time.
const AT_ONCE: usize = 8;
