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
#[cfg(test)]
mod tests {
    use super::super::fixture::TestLog;
    use super::super::tile::encode_entries;
    use super::*;

    /// Verifies a log whose tiles are as `change` leaves them.
    fn audit(
        log: &TestLog,
        change: impl Fn(&str, &mut Vec<u8>),
    ) -> Result<(), AuditError<&'static str>> {
        let mut source = |tile: &TilePath| {
            let mut bytes = log.tile(tile);
            change(&tile.to_string(), &mut bytes);
            if bytes == GONE {
                Err("gone")
            } else {
                Ok(bytes)
            }
        };
        verify_log(log.head(), &mut source, |_, _| {})
    }

    /// Verifies a log that shows `entries` in its first tile of entries.
    fn audit_with(log: &TestLog, entries: &[Vec<u8>]) -> Result<(), AuditError<&'static str>> {
        let shown = encode_entries(entries.iter().map(|entry| &entry[..])).unwrap();
        audit(log, |path, bytes| {
            if path.starts_with("tile/entries/000") {
                bytes.clone_from(&shown);
            }
        })
    }

    fn wrong_entry(index: u64, tile: &str) -> Result<(), AuditError<&'static str>> {
        let tile = tile.parse().unwrap();
        Err(AuditError::Entry { index, tile })
    }

    #[test]
    fn a_log_of_any_size_verifies() {
        let log = TestLog::golden(1030);
        for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1024, 1030] {
            let mut seen = Vec::new();
            let mut source = |tile: &TilePath| Ok::<_, ()>(log.tile(tile));
            let verdict = verify_log(log.heads[size], &mut source, |index, entry| {
                assert_eq!(seen.len() as u64, index);
                seen.push(entry.to_vec());
            });
            assert_eq!(verdict, Ok(()), "{size}");
            assert_eq!(seen, log.leaves[..size]);
        }
    }

    #[test]
    fn every_tile_that_a_static_copy_has_is_read_once() {
        let log = TestLog::golden(600);
        let mut read = Vec::new();
        let mut source = |tile: &TilePath| {
            read.push(*tile);
            Ok::<_, ()>(log.tile(tile))
        };
        assert_eq!(verify_log(log.head(), &mut source, |_, _| {}), Ok(()));
        read.sort_unstable();
        let mut expected: Vec<_> = super::super::tiles(600).collect();
        expected.sort_unstable();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_changed_entry_is_named() {
        let log = TestLog::golden(300);
        for index in [0, 1, 100, 255] {
            let mut entries = log.leaves[..256].to_vec();
            *entries[index].last_mut().unwrap() ^= 1;
            assert_eq!(
                audit_with(&log, &entries),
                wrong_entry(index as u64, "tile/0/000")
            );
        }
    }

    #[test]
    fn the_first_of_swapped_entries_is_named() {
        let log = TestLog::golden(300);
        let mut entries = log.leaves[..256].to_vec();
        entries.swap(17, 200);
        assert_eq!(audit_with(&log, &entries), wrong_entry(17, "tile/0/000"));
    }

    #[test]
    fn a_dropped_entry_is_named() {
        let log = TestLog::golden(40);
        for index in [0, 20, 39] {
            let mut entries = log.leaves.clone();
            entries.remove(index);
            let expected = match index {
                39 => Err(AuditError::MissingEntry { index: 39 }),
                _ => wrong_entry(index as u64, "tile/0/000.p/40"),
            };
            assert_eq!(audit_with(&log, &entries), expected);
        }
    }

    #[test]
    fn an_inserted_entry_is_named() {
        let log = TestLog::golden(40);
        let mut entries = log.leaves.clone();
        entries.insert(12, b"inserted".to_vec());
        assert_eq!(
            audit_with(&log, &entries),
            wrong_entry(12, "tile/0/000.p/40")
        );
        entries.remove(12);
        entries.push(b"appended".to_vec());
        let tile = "tile/entries/000.p/40".parse().unwrap();
        assert_eq!(
            audit_with(&log, &entries),
            Err(AuditError::Surplus { tile })
        );
    }

    #[test]
    fn a_torn_tile_of_entries_names_the_entry_that_is_cut_off() {
        let log = TestLog::golden(40);
        let verdict = audit(&log, |path, bytes| {
            if path.starts_with("tile/entries") {
                bytes.pop();
            }
        });
        assert_eq!(verdict, Err(AuditError::MissingEntry { index: 39 }));
    }

    #[test]
    fn a_changed_upper_tile_is_named() {
        let log = TestLog::golden(66_000);
        for path in ["tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"] {
            let verdict = audit(&log, |read, bytes| {
                if read == path {
                    *bytes.last_mut().unwrap() ^= 1;
                }
            });
            let tile = path.parse().unwrap();
            assert_eq!(verdict, Err(AuditError::Tile { tile }));
        }
    }

    #[test]
    fn a_tile_of_another_length_is_named() {
        let log = TestLog::golden(300);
        for path in ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"] {
            for change in [
                |bytes: &mut Vec<u8>| bytes.truncate(31),
                |bytes: &mut Vec<u8>| bytes.extend([0; 32]),
            ] {
                let verdict = audit(&log, |read, bytes| {
                    if read == path {
                        change(bytes);
                    }
                });
                let tile = path.parse().unwrap();
                assert_eq!(verdict, Err(AuditError::Tile { tile }));
            }
        }
    }

    #[test]
    fn a_tile_that_cannot_be_read_is_named() {
        let log = TestLog::golden(300);
        let verdict = audit(&log, |path, bytes| {
            if path == "tile/0/001.p/44" {
                *bytes = GONE.to_vec();
            }
        });
        let tile = "tile/0/001.p/44".parse().unwrap();
        assert_eq!(
            verdict,
            Err(AuditError::Unreadable {
                tile,
                source: "gone"
            })
        );
    }

    #[test]
    fn another_history_does_not_have_the_root() {
        let log = TestLog::golden(40);
        let mut leaves = log.leaves.clone();
        leaves[3] = b"rewritten".to_vec();
        let rewritten = TestLog::of(leaves.into_iter());
        let mut source = |tile: &TilePath| Ok::<_, ()>(rewritten.tile(tile));
        assert_eq!(
            verify_log(log.head(), &mut source, |_, _| {}),
            Err(AuditError::Root)
        );
    }

    const GONE: &[u8] = b"gone";
}
