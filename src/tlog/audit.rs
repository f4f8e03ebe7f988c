//! Verification of a whole log: its tree is derived again from its entries and compared with every tile and the root.

use std::mem;

use super::merkle::{Frontier, Hash, TreeHead, leaf_hash};
use super::tile::{FULL_WIDTH, TREE_LEVELS, TileKind, TilePath, split_entry};

/// Reads a whole log through `source` and compares it with `head`, which a checkpoint authenticates.
///
/// `on_entry` sees each entry with its index, in order, before the root is known: what it gathers counts only if the
/// result is `Ok`.
pub fn verify_log<E>(
    head: TreeHead,
    source: &mut impl FnMut(&TilePath) -> Result<Vec<u8>, E>,
    mut on_entry: impl FnMut(u64, &[u8]),
) -> Result<(), AuditError<E>> {
    let mut audit = Audit {
        size: head.size,
        source,
        frontier: Frontier::default(),
        levels: vec![Vec::new(); usize::from(TREE_LEVELS)],
    };
    for tile in TileKind::Entries.tiles(head.size) {
        audit.compare_entries(tile, &mut on_entry)?;
        audit.compare_levels()?;
    }
    let root = audit.frontier.root();
    (root == head.root).then_some(()).ok_or(AuditError::Root)
}

struct Audit<'s, S> {
    size: u64,
    source: &'s mut S,
    frontier: Frontier,
    /// For each level of tiles the hashes that were derived and are not compared yet. Level 0 is compared at once.
    levels: Vec<Vec<Hash>>,
}

impl<E, S: FnMut(&TilePath) -> Result<Vec<u8>, E>> Audit<'_, S> {
    /// Compares the entries of a tile with their hashes, and grows the tree by them.
    fn compare_entries(
        &mut self,
        tile: TilePath,
        on_entry: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), AuditError<E>> {
        let bytes = self.read(tile)?;
        let mut rest = &bytes[..];
        let hash_tile = tile.hashes_of_entries();
        for hash in self.read_hashes(hash_tile)? {
            let index = self.frontier.size();
            let entry = split_entry(&mut rest).ok_or(AuditError::MissingEntry { index })?;
            let leaf = leaf_hash(entry);
            if leaf != hash {
                return Err(AuditError::Entry {
                    index,
                    tile: hash_tile,
                });
            }
            on_entry(index, entry);
            let levels = &mut self.levels;
            self.frontier.append(leaf, |node, hash| {
                if node.level > 0 && node.is_in_tile() {
                    levels[usize::from(node.level / 8)].push(hash);
                }
            });
        }
        if !rest.is_empty() {
            return Err(AuditError::Surplus { tile });
        }
        Ok(())
    }

    /// Compares the derived hashes of each upper level, if they fill the tile that this log has there.
    fn compare_levels(&mut self) -> Result<(), AuditError<E>> {
        for (level, slot) in (1..TREE_LEVELS).zip(1..) {
            let derived = self.levels[slot].len() as u64;
            let before = (self.frontier.size() >> (8 * level)) - derived;
            let kind = TileKind::Hashes { level };
            let tile = TilePath::at(kind, before / FULL_WIDTH, self.size);
            let Some(tile) = tile.filter(|tile| derived == u64::from(tile.width())) else {
                continue;
            };
            if self.read_hashes(tile)? != mem::take(&mut self.levels[slot]) {
                return Err(AuditError::Tile { tile });
            }
        }
        Ok(())
    }

    fn read_hashes(&mut self, tile: TilePath) -> Result<Vec<Hash>, AuditError<E>> {
        let bytes = self.read(tile)?;
        let (hashes, rest) = bytes.as_chunks();
        if !rest.is_empty() || hashes.len() != usize::from(tile.width()) {
            return Err(AuditError::Tile { tile });
        }
        Ok(hashes.iter().copied().map(Hash).collect())
    }

    fn read(&mut self, tile: TilePath) -> Result<Vec<u8>, AuditError<E>> {
        (self.source)(&tile).map_err(|source| AuditError::Unreadable { tile, source })
    }
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuditError<E> {
    /// A tile that a log of this size has cannot be read.
    #[error("`{tile}` cannot be read")]
    Unreadable {
        /// The tile.
        tile: TilePath,
        /// What its source says.
        source: E,
    },
    /// The first entry that is not the one in the tree: changed, swapped, or moved up because one before was dropped.
    #[error("entry {index} is not the one whose hash is in `{tile}`")]
    Entry {
        /// The index of the entry.
        index: u64,
        /// The tile that has another hash.
        tile: TilePath,
    },
    /// The entries of a tile end before this one.
    #[error("entry {index} is missing or cut off")]
    MissingEntry {
        /// The index of the entry.
        index: u64,
    },
    /// A tile of entries goes on behind its last entry.
    #[error("`{tile}` has more than its entries")]
    Surplus {
        /// The tile.
        tile: TilePath,
    },
    /// A tile of hashes is not what the entries below it give.
    #[error("`{tile}` is not what the entries below it give")]
    Tile {
        /// The tile.
        tile: TilePath,
    },
    /// Entries and tiles agree, but are not those of the checkpoint.
    #[error("the entries do not give the root of the checkpoint")]
    Root,
}
