//! The Merkle tree of RFC 6962 section 2.1 over SHA-256, grown leaf by leaf with O(log n) state.

use std::fmt;
use std::iter;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{Context, Digest, SHA256, digest};

use super::MAX_SIZE;

/// The hash of a leaf or of an inner node. As text: standard base64 with padding.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// A hash read back from storage: exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidHash> {
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(bytes: &[u8]) -> Self {
        Self::from_ring(&digest(&SHA256, bytes))
    }

    fn from_ring(digest: &Digest) -> Self {
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| InvalidHash)?;
        Self::from_slice(&bytes)
    }
}

/// The hash of a leaf: `SHA-256(00 ‖ leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0x00]);
    context.update(leaf);
    Hash::from_ring(&context.finish())
}

/// The hash of an inner node: `SHA-256(01 ‖ left ‖ right)`.
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    let mut bytes = [0x01; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash::of(&bytes)
}

/// The root of the tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// The root over these leaf hashes. Over 2ⁿ hashes of one level it is the node n levels above them.
pub fn root_of(hashes: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.append(hash, |_, _| {});
    }
    frontier.root()
}

/// The size and the root of a tree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TreeHead {
    /// The number of leaves.
    pub size: u64,
    /// The root over all of them.
    pub root: Hash,
}

/// A complete subtree: the one over leaves `index * 2^level .. (index + 1) * 2^level`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId {
    /// The height above the leaves, which have level 0.
    pub level: u8,
    /// The position among the nodes of this level, from the left.
    pub index: u64,
}

impl NodeId {
    /// Whether tiles hold this node: its level is 0, 8, 16, … A store needs to keep no other node.
    pub fn is_in_tile(self) -> bool {
        self.level.is_multiple_of(LEVELS_PER_TILE)
    }

    /// The first of the nodes, and how many there are, that tiles hold and whose [`root_of`] is this node.
    pub fn from_tile(self) -> (Self, u64) {
        let above = self.level % LEVELS_PER_TILE;
        let first = Self {
            level: self.level - above,
            index: self.index << above,
        };
        (first, 1 << above)
    }

    fn parent(self) -> Self {
        Self {
            level: self.level + 1,
            index: self.index / 2,
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of level {}", self.index, self.level)
    }
}

/// The roots of the largest complete subtrees of a tree, which is all that is needed to append to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frontier {
    size: u64,
    // INVARIANT: one hash for each one bit of `size`, the largest subtree first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        join(&self.peaks).unwrap_or_else(empty_root)
    }

    /// The size and the root.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.size,
            root: self.root(),
        }
    }

    /// Appends a leaf; tells every node that it completes, the leaf itself first; returns the leaf's index.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(NodeId, Hash)) -> u64 {
        let index = self.size;
        let mut node = NodeId { level: 0, index };
        let mut hash = leaf;
        completed(node, hash);
        while node.index % 2 == 1 {
            let left = self.peaks.pop().expect("a right child has a left sibling");
            hash = node_hash(left, hash);
            node = node.parent();
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
        index
    }

    /// The subtrees whose roots these are, with their hashes, the largest first.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Hash)> {
        Self::node_ids(self.size).zip(self.peaks.iter().copied())
    }

    /// The nodes that [`Frontier::assemble`] asks for at `size`, the largest first.
    pub fn node_ids(size: u64) -> impl Iterator<Item = NodeId> {
        complete_subtrees(0..size)
    }

    /// The frontier, and so the root, that a log had at `size`.
    pub fn assemble(
        size: u64,
        lookup: impl Fn(NodeId) -> Option<Hash>,
    ) -> Result<Self, MissingNode> {
        let peaks = Self::node_ids(size)
            .map(|node| lookup(node).ok_or(MissingNode(node)))
            .collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// For storage: the size (u64, big-endian), then the hashes of [`Frontier::nodes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let hashes = self.peaks.iter().flat_map(|hash| hash.0);
        self.size.to_be_bytes().into_iter().chain(hashes).collect()
    }

    /// Reads back what [`Frontier::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidFrontier> {
        let (size, hashes) = bytes.split_first_chunk().ok_or(InvalidFrontier)?;
        let size = u64::from_be_bytes(*size);
        let (peaks, rest) = hashes.as_chunks();
        let fits = rest.is_empty() && peaks.len() == Self::node_ids(size).count();
        (fits && size <= MAX_SIZE)
            .then(|| Self {
                size,
                peaks: peaks.iter().copied().map(Hash).collect(),
            })
            .ok_or(InvalidFrontier)
    }
}

/// The largest complete subtrees that make up these leaves, left to right.
///
/// The leaves are a subtree of RFC 6962: they start at a multiple of a power of two not less than their number.
pub(super) fn complete_subtrees(leaves: Range<u64>) -> impl Iterator<Item = NodeId> {
    let Range { mut start, end } = leaves;
    iter::from_fn(move || {
        let level = (end - start).checked_ilog2()?;
        let index = start >> level;
        start += 1 << level;
        Some(NodeId {
            level: u8::try_from(level).expect("a u64 has 64 bits"),
            index,
        })
    })
}

/// The root over neighbouring complete subtrees, given left to right, the largest first.
pub(super) fn join(subtrees: &[Hash]) -> Option<Hash> {
    let from_right = subtrees.iter().copied().rev();
    from_right.reduce(|right, left| node_hash(left, right))
}

/// The text or bytes are not a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a hash is 32 bytes in standard base64")]
pub struct InvalidHash;

/// The bytes are not a stored frontier.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a frontier is its size and one hash for each one bit of it")]
pub struct InvalidFrontier;

/// A node that was planned for has no hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("node {0} is missing")]
pub struct MissingNode(pub NodeId);

const LEVELS_PER_TILE: u8 = 8;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(
            Frontier::default().root().to_string(),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn a_hash_parses_only_as_canonical_base64() {
        let text = empty_root().to_string();
        assert_eq!(text.parse(), Ok(empty_root()));
        let padless = text.trim_end_matches('=');
        let other_bits = text.replace("U=", "V=");
        let url_safe = text.replace('+', "-");
        for wrong in ["", "AAAA", padless, &other_bits, &url_safe] {
            assert_eq!(wrong.parse::<Hash>(), Err(InvalidHash), "{wrong}");
        }
    }

    #[test]
    fn a_frontier_reads_what_it_writes() {
        let mut frontier = Frontier::default();
        for size in 0..130 {
            assert_eq!(
                Frontier::from_bytes(&frontier.to_bytes()),
                Ok(frontier.clone())
            );
            assert_eq!(
                frontier.append(leaf_hash(&[size]), |_, _| {}),
                u64::from(size)
            );
        }
    }

    #[test]
    fn a_stored_frontier_of_another_length_is_refused() {
        let mut frontier = Frontier::default();
        for leaf in 0..7 {
            frontier.append(leaf_hash(&[leaf]), |_, _| {});
        }
        let bytes = frontier.to_bytes();
        for length in [0, 7, 8, 40, bytes.len() - 1] {
            assert_eq!(
                Frontier::from_bytes(&bytes[..length]),
                Err(InvalidFrontier),
                "{length}"
            );
        }
        for surplus in [1, 31, 32] {
            let longer = [&bytes[..], &vec![0; surplus]].concat();
            assert_eq!(Frontier::from_bytes(&longer), Err(InvalidFrontier));
        }
    }

    #[test]
    fn a_frontier_larger_than_any_log_is_refused() {
        let mut bytes = (1_u64 << 63).to_be_bytes().to_vec();
        bytes.extend([0; 32]);
        assert_eq!(Frontier::from_bytes(&bytes), Err(InvalidFrontier));
    }

    #[test]
    fn every_older_frontier_can_be_assembled() {
        let mut nodes = HashMap::new();
        let mut frontier = Frontier::default();
        let mut history = vec![frontier.clone()];
        for leaf in 0..130 {
            frontier.append(leaf_hash(&[leaf]), |node, hash| {
                assert_eq!(nodes.insert(node, hash), None, "{node} completes once");
            });
            history.push(frontier.clone());
        }
        for (size, frontier) in (0..).zip(history) {
            let assembled = Frontier::assemble(size, |node| nodes.get(&node).copied());
            assert_eq!(assembled.as_ref(), Ok(&frontier));
            assert!(frontier.nodes().all(|(node, hash)| nodes[&node] == hash));
        }
        let missing = Frontier::assemble(131, |node| nodes.get(&node).copied());
        let last = NodeId {
            level: 0,
            index: 130,
        };
        assert_eq!(missing, Err(MissingNode(last)));
    }

    #[test]
    fn every_node_is_the_root_over_what_tiles_hold() {
        let mut nodes = HashMap::new();
        let mut frontier = Frontier::default();
        for leaf in 0..600_u32 {
            frontier.append(leaf_hash(&leaf.to_be_bytes()), |node, hash| {
                nodes.insert(node, hash);
            });
        }
        for (node, hash) in &nodes {
            let (first, count) = node.from_tile();
            assert!(first.is_in_tile());
            let held =
                (first.index..first.index + count).map(|index| nodes[&NodeId { index, ..first }]);
            assert_eq!(root_of(held), *hash, "{node}");
        }
    }
}
