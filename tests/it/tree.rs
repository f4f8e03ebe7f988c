//! Logs as static files, written from their entries.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use cos_escrow::tlog::{
    Frontier, NodeId, TileKind, TreeHead, decode_entries, encode_entries, leaf_hash, tiles,
};

/// Writes the tiles of a log of these entries.
pub(crate) fn write_tiles(folder: &Path, entries: &[Vec<u8>]) -> TreeHead {
    let mut nodes = HashMap::new();
    let mut frontier = Frontier::default();
    for entry in entries {
        frontier.append(leaf_hash(entry), |node, hash| {
            nodes.insert(node, hash);
        });
    }
    for tile in tiles(frontier.size()) {
        let first = tile.first_node().unwrap();
        let indices = first.index..first.index + u64::from(tile.width());
        let bytes = match tile.kind() {
            TileKind::Entries => {
                let entry = |index| entries[usize::try_from(index).unwrap()].as_slice();
                encode_entries(indices.map(entry)).unwrap()
            }
            TileKind::Hashes { .. } => indices
                .flat_map(|index| nodes[&NodeId { index, ..first }].0)
                .collect(),
        };
        let path = folder.join(tile.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    frontier.head()
}

/// The entries of a copy of this size, not verified.
pub(crate) fn read_entries(folder: &Path, size: u64) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    for tile in TileKind::Entries.tiles(size) {
        let bytes = fs::read(folder.join(tile.to_string())).unwrap();
        let decoded = decode_entries(&bytes, tile.width()).unwrap();
        entries.extend(decoded.into_iter().map(<[u8]>::to_vec));
    }
    entries
}
