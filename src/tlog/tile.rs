//! Tiles (C2SP tlog-tiles): how a log is cut into static files, what they are called and what they hold.
//!
//! ```text
//! tile/0/x001/x234/067          leaf hashes 1234067 * 256 …, 256 * 32 bytes
//! tile/1/001.p/17               17 hashes, each over 256 leaves
//! tile/entries/273.p/112        112 entries, each behind its length (u16, big-endian)
//! ```

use std::fmt;
use std::iter;
use std::str::FromStr;

use super::merkle::NodeId;

/// What a tile holds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TileKind {
    /// Nodes of this level times eight.
    Hashes {
        /// 0 for the hashes of leaves, 1 for those over 256 leaves each, and so on.
        level: u8,
    },
    /// The entries themselves.
    Entries,
}

impl TileKind {
    /// The tiles of this kind that a log of `size` entries consists of, left to right.
    pub fn tiles(self, size: u64) -> impl Iterator<Item = TilePath> {
        let count = self.count(size);
        (0..count.div_ceil(FULL_WIDTH)).map_while(move |index| TilePath::at(self, index, size))
    }

    /// How many hashes or entries of this kind a log of `size` entries has.
    fn count(self, size: u64) -> u64 {
        match self {
            Self::Hashes { level } => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
            Self::Entries => size,
        }
    }
}

/// Every tile, of hashes and of entries, that a static copy of a log of `size` entries consists of.
pub fn tiles(size: u64) -> impl Iterator<Item = TilePath> {
    let levels = (0..TREE_LEVELS).map(|level| TileKind::Hashes { level });
    levels
        .chain([TileKind::Entries])
        .flat_map(move |kind| kind.tiles(size))
}

/// The path of a tile below the prefix of its log. As text, what stands in a URL, without a leading slash.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TilePath {
    // INVARIANT: the level is at most 63, the width 1 to 256.
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// The tile with these coordinates.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Result<Self, InvalidTilePath> {
        let has_level = !matches!(kind, TileKind::Hashes { level } if level > MAX_LEVEL);
        let has_width = (1..=FULL_WIDTH).contains(&u64::from(width));
        (has_level && has_width)
            .then_some(Self { kind, index, width })
            .ok_or(InvalidTilePath)
    }

    /// The tile, as wide as it is in a log of `size` entries; nothing if that log does not have it.
    pub fn at(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let before = index.checked_mul(FULL_WIDTH)?;
        let width = kind.count(size).checked_sub(before)?.min(FULL_WIDTH);
        Self::new(kind, index, u16::try_from(width).ok()?).ok()
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its position among the tiles of its kind.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it will never change.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == FULL_WIDTH
    }

    /// Whether a log of `size` entries has all of it.
    pub fn exists_at(&self, size: u64) -> bool {
        Self::at(self.kind, self.index, size).is_some_and(|widest| self.width <= widest.width)
    }

    /// The first of the [`TilePath::width`] neighbouring nodes whose hashes or, of entries, whose leaves it holds.
    ///
    /// Nothing for a tile that lies beyond every log.
    pub fn first_node(&self) -> Option<NodeId> {
        let level = match self.kind {
            TileKind::Hashes { level } if level < TREE_LEVELS => level * 8,
            TileKind::Hashes { .. } => return None,
            TileKind::Entries => 0,
        };
        let index = self.index.checked_mul(FULL_WIDTH)?;
        Some(NodeId { level, index })
    }

    /// The tile with the leaf hashes of the entries in this tile.
    pub(super) fn hashes_of_entries(self) -> Self {
        let kind = TileKind::Hashes { level: 0 };
        Self { kind, ..self }
    }

    /// The tile of this log of `size` entries that holds this node; nothing if it is in none.
    pub fn holding(node: NodeId, size: u64) -> Option<Self> {
        let kind = TileKind::Hashes {
            level: node.level / 8,
        };
        let tile = Self::at(kind, node.index / FULL_WIDTH, size)?;
        let is_within = node.index % FULL_WIDTH < u64::from(tile.width);
        (node.is_in_tile() && is_within).then_some(tile)
    }
}

impl FromStr for TilePath {
    type Err = InvalidTilePath;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        if path.len() > MAX_PATH_BYTES {
            return Err(InvalidTilePath);
        }
        let rest = path.strip_prefix("tile/").ok_or(InvalidTilePath)?;
        let (kind, rest) = rest.split_once('/').ok_or(InvalidTilePath)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes {
                level: level.parse().map_err(|_| InvalidTilePath)?,
            },
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| InvalidTilePath)?),
            None => (rest, u16::try_from(FULL_WIDTH).expect("256 fits")),
        };
        let index = parse_index(index).ok_or(InvalidTilePath)?;
        let tile = Self::new(kind, index, width)?;
        // Printing again leaves one way to write each number, and none to write `.p/256`.
        (tile.to_string() == path)
            .then_some(tile)
            .ok_or(InvalidTilePath)
    }
}

/// The number in these groups of three digits. Whether they are written as they should be is for the caller to see.
fn parse_index(groups: &str) -> Option<u64> {
    groups.split('/').try_fold(0_u64, |index, group| {
        let group = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
        index.checked_mul(1000)?.checked_add(group)
    })
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let thousands = iter::successors(Some(self.index), |index| Some(index / 1000));
        let groups: Vec<_> = thousands
            .take_while(|index| *index > 0)
            .map(|index| index % 1000)
            .collect();
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups.first().unwrap_or(&0))?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// The content of a tile of entries: each behind its length.
pub fn encode_entries<'e>(
    entries: impl IntoIterator<Item = &'e [u8]>,
) -> Result<Vec<u8>, InvalidEntries> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| InvalidEntries)?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(entry);
    }
    Ok(bytes)
}

/// The entries in a tile of this width, and nothing behind them.
pub fn decode_entries(mut bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, InvalidEntries> {
    let entries = (0..width)
        .map(|_| split_entry(&mut bytes).ok_or(InvalidEntries))
        .collect::<Result<_, _>>()?;
    bytes.is_empty().then_some(entries).ok_or(InvalidEntries)
}

/// Takes the first entry off; nothing if there is no whole one.
pub(super) fn split_entry<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    *bytes = rest;
    Some(entry)
}

/// The text or the coordinates are not those of a tile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct InvalidTilePath;

/// The entries do not fit a tile, or the bytes are not a tile of entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a tile of entries of at most 65535 bytes each")]
pub struct InvalidEntries;

pub(super) const FULL_WIDTH: u64 = 256;
/// A tree of 2^64 leaves needs no more levels of tiles; paths may name more.
pub(super) const TREE_LEVELS: u8 = 8;
const MAX_LEVEL: u8 = 63;
/// `tile/entries/x018/x446/x744/x073/x709/x551/615.p/255`
const MAX_PATH_BYTES: usize = 52;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_prints_what_it_parses() {
        for (path, index, width) in [
            ("tile/0/000", 0, 256),
            ("tile/0/000.p/1", 0, 1),
            ("tile/63/001.p/255", 1, 255),
            ("tile/entries/999", 999, 256),
            ("tile/entries/x001/000", 1000, 256),
            ("tile/0/x001/x234/067", 1_234_067, 256),
            ("tile/0/x001/x000/000.p/7", 1_000_000, 7),
            (
                "tile/entries/x018/x446/x744/x073/x709/x551/615.p/255",
                u64::MAX,
                255,
            ),
        ] {
            let tile: TilePath = path.parse().unwrap();
            assert_eq!((tile.index(), tile.width()), (index, width), "{path}");
            assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "/tile/0/000",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/1000",
            "tile/0/x000/000",
            "tile/0/x000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/x001/00",
            "tile/0/xx01/000",
            "tile/0/x001//000",
            "tile/0/-01",
            "tile/0/+01",
            "tile/00/000",
            "tile/01/000",
            "tile/+1/000",
            "tile/64/000",
            "tile/255/000",
            "tile/256/000",
            "tile/8/0/000",
            "tile/data/000",
            "tile/Entries/000",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/000.p/256",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/000/",
            "tile/0/../000",
            "tile/0/000\n",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/entries/x001/x018/x446/x744/x073/x709/x551/615",
        ] {
            assert_eq!(path.parse::<TilePath>(), Err(InvalidTilePath), "{path:?}");
        }
    }

    #[test]
    fn coordinates_out_of_range_are_refused() {
        for (level, width) in [(64, 1), (0, 0), (0, 257)] {
            let tile = TilePath::new(TileKind::Hashes { level }, 0, width);
            assert_eq!(tile, Err(InvalidTilePath));
        }
    }

    #[test]
    fn a_tile_exists_once_the_log_is_as_wide() {
        let tile: TilePath = "tile/1/001.p/17".parse().unwrap();
        let size = (256 + 17) * 256;
        assert!(!tile.exists_at(size - 1));
        assert!(tile.exists_at(size));
        assert!(tile.exists_at(1_000_000), "a past size stays servable");
        let beyond: TilePath = "tile/8/000.p/1".parse().unwrap();
        assert!(!beyond.exists_at(u64::MAX));
        assert_eq!(beyond.first_node(), None);
    }

    #[test]
    fn a_node_is_found_in_its_tile() {
        let node = NodeId {
            level: 8,
            index: 257,
        };
        let tile = TilePath::holding(node, 70_000).unwrap();
        assert_eq!(tile.to_string(), "tile/1/001.p/17");
        assert_eq!(
            tile.first_node(),
            Some(NodeId {
                level: 8,
                index: 256
            })
        );
        for (level, index) in [(8, 273), (9, 0), (24, 0), (0, 70_000), (0, u64::MAX)] {
            assert_eq!(TilePath::holding(NodeId { level, index }, 70_000), None);
        }
    }

    #[test]
    fn a_static_copy_has_these_tiles() {
        let of = |size| -> Vec<_> { tiles(size).map(|tile| tile.to_string()).collect() };
        assert!(of(0).is_empty());
        assert_eq!(of(1), ["tile/0/000.p/1", "tile/entries/000.p/1"]);
        assert_eq!(
            of(256),
            ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]
        );
        let large = of(70_000);
        assert_eq!(large.len(), 277 + 274);
        for path in [
            "tile/0/273.p/112",
            "tile/1/001.p/17",
            "tile/2/000.p/1",
            "tile/entries/273.p/112",
        ] {
            assert!(large.contains(&path.to_owned()), "{path}");
        }
    }

    #[test]
    fn entries_decode_only_as_they_were_encoded() {
        let long = vec![b'x'; 65_535];
        let entries = [&b"one"[..], b"", &long];
        let bytes = encode_entries(entries).unwrap();
        assert_eq!(decode_entries(&bytes, 3).unwrap(), entries);
        for (bytes, width) in [
            (&bytes[..], 2),
            (&bytes, 4),
            (&bytes[..bytes.len() - 1], 3),
            (&[0], 1),
            (&[], 1),
        ] {
            assert_eq!(decode_entries(bytes, width), Err(InvalidEntries));
        }
        let too_long = vec![b'x'; 65_536];
        assert_eq!(encode_entries([&too_long[..]]), Err(InvalidEntries));
    }

    proptest! {
        #[test]
        fn a_tile_parses_what_it_prints(level in 0..=MAX_LEVEL, index: u64, width in 1..=256_u16) {
            for kind in [TileKind::Hashes { level }, TileKind::Entries] {
                let tile = TilePath::new(kind, index, width).unwrap();
                prop_assert_eq!(tile.to_string().parse(), Ok(tile));
                let _ = (tile.exists_at(u64::MAX), tile.first_node());
            }
        }

        #[test]
        fn whatever_parses_prints_the_same(path in "tile/([0-9]{1,3}|entries)/(x?[0-9]{1,4}/?){0,8}(\\.p/[0-9]{0,3})?|\\PC*") {
            if let Ok(tile) = path.parse::<TilePath>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>, width in 0..300_u16) {
            if let Ok(entries) = decode_entries(&bytes, width) {
                prop_assert_eq!(encode_entries(entries), Ok(bytes));
            }
        }
    }
}
