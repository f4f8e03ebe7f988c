//! The auditor copies the log as static files and verifies the copy without the service.

use std::fs;
use std::path::Path;

use super::market::Market;
use crate::cli::exit::{Exit, Failure};
use crate::client::Request;
use crate::tlog::{Checkpoint, Note, TilePath, TreeHead, VerifierKey, tiles, verify_log};

/// Copies and verifies; the head that verified.
pub(super) async fn from_outside(market: &Market) -> Result<TreeHead, Failure> {
    let folder = market.folder.join("mirror");
    let key = market.instance.escrow.log_key();
    let auditor = &market.auditor;
    let note = auditor.verified_checkpoint().await?;
    let size = head(&note, key)?.size;
    for tile in tiles(size) {
        let answer = auditor.send(Request::get(format!("/log/{tile}"))).await?;
        let file = folder.join(tile.to_string());
        let parent = file.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).map_err(Failure::failed)?;
        fs::write(file, answer.body).map_err(Failure::failed)?;
    }
    fs::write(folder.join("checkpoint"), note.to_string()).map_err(Failure::failed)?;
    offline(&folder, key)
}

/// Verifies a static copy, from its files alone.
fn offline(folder: &Path, key: &VerifierKey) -> Result<TreeHead, Failure> {
    let text = fs::read_to_string(folder.join("checkpoint")).map_err(Failure::failed)?;
    let note: Note = text
        .parse()
        .map_err(|error| Failure::new(Exit::Unverified, error))?;
    let head = head(&note, key)?;
    let mut read = |tile: &TilePath| fs::read(folder.join(tile.to_string()));
    verify_log(head, &mut read, |_, _| {})
        .map_err(|error| Failure::new(Exit::Unverified, error))?;
    Ok(head)
}

fn head(note: &Note, key: &VerifierKey) -> Result<TreeHead, Failure> {
    Checkpoint::open(note, key)
        .map(|checkpoint| checkpoint.head)
        .map_err(|error| Failure::new(Exit::Unverified, error))
}
