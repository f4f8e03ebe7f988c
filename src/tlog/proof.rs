//! Inclusion and consistency proofs: which nodes one is made of, and whether one holds.

use std::ops::Range;

use super::merkle::{
    Hash, MissingNode, NodeId, TreeHead, complete_subtrees, empty_root, join, node_hash,
};

/// What a proof is made of. Fetch [`ProofPlan::nodes`], then [`ProofPlan::assemble`] the proof.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProofPlan {
    // The leaves under each hash of the proof, in the order of the proof.
    subtrees: Vec<Range<u64>>,
}

impl ProofPlan {
    /// The proof that leaf `index` is in the tree of `size` leaves (RFC 6962 section 2.1.1).
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        if index >= size {
            return Err(ProofError::OutOfRange);
        }
        let (_, subtrees) = descend(
            size,
            |middle| index < middle,
            |leaf| leaf.end - leaf.start == 1,
        );
        Ok(Self { subtrees })
    }

    /// The proof that the tree of `to` leaves extends the one of `from` leaves (RFC 6962 section 2.1.2).
    pub fn consistency(from: u64, to: u64) -> Result<Self, ProofError> {
        if from > to {
            return Err(ProofError::OutOfRange);
        }
        if from == 0 || from == to {
            return Ok(Self {
                subtrees: Vec::new(),
            });
        }
        let (last, mut subtrees) = descend(to, |middle| from <= middle, |last| last.end == from);
        // The verifier knows the old root; if that is itself a node of the new tree, it is not sent.
        if last.start != 0 {
            subtrees.insert(0, last);
        }
        Ok(Self { subtrees })
    }

    /// The nodes that are needed, all of them complete subtrees of the larger tree.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.subtrees.iter().cloned().flat_map(complete_subtrees)
    }

    /// The hashes of the proof, the leaf's sibling first.
    pub fn assemble(
        &self,
        lookup: impl Fn(NodeId) -> Option<Hash>,
    ) -> Result<Vec<Hash>, MissingNode> {
        let hash = |leaves: &Range<u64>| {
            let nodes = complete_subtrees(leaves.clone())
                .map(|node| lookup(node).ok_or(MissingNode(node)))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(join(&nodes).expect("a sibling has at least one leaf"))
        };
        self.subtrees.iter().map(hash).collect()
    }
}

/// Walks from the root of a tree down to a subtree; returns it and the siblings that were passed, the nearest first.
fn descend(
    size: u64,
    is_left: impl Fn(u64) -> bool,
    is_found: impl Fn(&Range<u64>) -> bool,
) -> (Range<u64>, Vec<Range<u64>>) {
    let mut within = 0..size;
    let mut siblings = Vec::new();
    while !is_found(&within) {
        // RFC 6962 section 2.1: "let k be the largest power of two smaller than n".
        let k = 1 << (within.end - within.start - 1).ilog2();
        let middle = within.start + k;
        let (left, right) = (within.start..middle, middle..within.end);
        let (inside, sibling) = if is_left(middle) {
            (left, right)
        } else {
            (right, left)
        };
        siblings.push(sibling);
        within = inside;
    }
    siblings.reverse();
    (within, siblings)
}

/// Whether leaf `index` of the tree has this hash.
//= RFC 9162 section 2.1.3.2
pub fn verify_inclusion(
    leaf: Hash,
    index: u64,
    head: TreeHead,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if index >= head.size {
        return Err(ProofError::OutOfRange);
    }
    let mut path = Path::from(index, head.size - 1);
    let mut root = leaf;
    for sibling in proof {
        root = match path.step().ok_or(ProofError::Length)? {
            Side::Left => node_hash(*sibling, root),
            Side::Right => node_hash(root, *sibling),
        };
    }
    path.has_ended().then_some(()).ok_or(ProofError::Length)?;
    (root == head.root).then_some(()).ok_or(ProofError::Root)
}

/// Whether the tree `new` extends the tree `old`.
///
/// The empty tree is extended by every tree, and a tree by itself, with an empty proof.
//= RFC 9162 section 2.1.4.2
pub fn verify_consistency(old: TreeHead, new: TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::OutOfRange);
    }
    if old.size == 0 || old.size == new.size {
        return verify_without_proof(old, new, proof);
    }
    let (first, rest) = if old.size.is_power_of_two() {
        (old.root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(ProofError::Length)?;
        (*first, rest)
    };
    let mut path = Path::from(old.size - 1, new.size - 1);
    path.skip_right_children();
    let (mut old_root, mut new_root) = (first, first);
    for sibling in rest {
        match path.step().ok_or(ProofError::Length)? {
            Side::Left => {
                old_root = node_hash(*sibling, old_root);
                new_root = node_hash(*sibling, new_root);
            }
            Side::Right => new_root = node_hash(new_root, *sibling),
        }
    }
    path.has_ended().then_some(()).ok_or(ProofError::Length)?;
    let holds = old_root == old.root && new_root == new.root;
    holds.then_some(()).ok_or(ProofError::Root)
}

fn verify_without_proof(old: TreeHead, new: TreeHead, proof: &[Hash]) -> Result<(), ProofError> {
    if !proof.is_empty() {
        return Err(ProofError::Length);
    }
    let known = |head: TreeHead| head.size != 0 || head.root == empty_root();
    let holds = known(old) && known(new) && (old.size != new.size || old.root == new.root);
    holds.then_some(()).ok_or(ProofError::Root)
}

/// The way from a node up to the root: `fn` and `sn` of RFC 9162.
struct Path {
    node: u64,
    last: u64,
}

/// On which side of the path the next hash of a proof stands.
enum Side {
    Left,
    Right,
}

impl Path {
    fn from(node: u64, last: u64) -> Self {
        Self { node, last }
    }

    /// Goes up by one hash of the proof; nothing if the root has been reached already.
    fn step(&mut self) -> Option<Side> {
        if self.has_ended() {
            return None;
        }
        let side = if self.node % 2 == 1 || self.node == self.last {
            // The last node of a level that is a left child has no sibling: it is its own parent.
            while self.node.is_multiple_of(2) && self.node != 0 {
                self.rise();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.rise();
        Some(side)
    }

    fn skip_right_children(&mut self) {
        while self.node % 2 == 1 {
            self.rise();
        }
    }

    fn rise(&mut self) {
        self.node /= 2;
        self.last /= 2;
    }

    fn has_ended(&self) -> bool {
        self.last == 0
    }
}

/// Why a proof cannot be made or does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// The leaf or the older tree lies beyond the tree.
    #[error("the tree is smaller than what is to be proved")]
    OutOfRange,
    /// The proof is longer or shorter than one for these sizes.
    #[error("the proof has a wrong number of hashes")]
    Length,
    /// The proof leads to another root.
    #[error("the proof does not lead to the root")]
    Root,
}

#[cfg(test)]
mod tests {
    use super::super::fixture::TestLog;
    use super::*;

    /// RFC 6962 section 2.1, word by word.
    fn naive_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(naive_split(leaves.len()));
                node_hash(naive_root(left), naive_root(right))
            }
        }
    }

    /// RFC 6962 section 2.1.1, word by word.
    fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(naive_split(leaves.len()));
        let (mut path, sibling) = if index < left.len() {
            (naive_path(index, left), right)
        } else {
            (naive_path(index - left.len(), right), left)
        };
        path.push(naive_root(sibling));
        path
    }

    /// RFC 6962 section 2.1.2, word by word.
    fn naive_subproof(from: usize, leaves: &[Hash], is_known: bool) -> Vec<Hash> {
        if from == leaves.len() {
            return if is_known {
                Vec::new()
            } else {
                vec![naive_root(leaves)]
            };
        }
        let (left, right) = leaves.split_at(naive_split(leaves.len()));
        let (mut proof, sibling) = if from <= left.len() {
            (naive_subproof(from, left, is_known), right)
        } else {
            (naive_subproof(from - left.len(), right, false), left)
        };
        proof.push(naive_root(sibling));
        proof
    }

    fn naive_split(size: usize) -> usize {
        size.next_power_of_two() / 2
    }

    fn small_log() -> TestLog {
        TestLog::of((0..LARGEST).map(|leaf| vec![leaf]))
    }

    #[test]
    fn every_small_tree_has_the_root_of_the_definition() {
        let log = small_log();
        for (size, head) in log.heads.iter().enumerate() {
            assert_eq!(head.root, naive_root(&log.hashes()[..size]), "{size}");
        }
    }

    #[test]
    fn every_small_inclusion_proof_is_the_one_of_the_definition_and_holds() {
        let log = small_log();
        for size in 1..=LARGEST {
            let head = log.heads[usize::from(size)];
            let leaves = &log.hashes()[..usize::from(size)];
            for (index, leaf) in (0_u64..).zip(leaves) {
                let proof = log.prove(ProofPlan::inclusion(index, head.size));
                assert_eq!(proof, naive_path(index.try_into().unwrap(), leaves));
                assert_eq!(verify_inclusion(*leaf, index, head, &proof), Ok(()));
            }
        }
    }

    #[test]
    fn every_small_consistency_proof_is_the_one_of_the_definition_and_holds() {
        let log = small_log();
        for to in 0..=LARGEST {
            for from in 0..=to {
                let (old, new) = (log.heads[usize::from(from)], log.heads[usize::from(to)]);
                let proof = log.prove(ProofPlan::consistency(old.size, new.size));
                if from > 0 {
                    let leaves = &log.hashes()[..usize::from(to)];
                    assert_eq!(proof, naive_subproof(from.into(), leaves, true));
                }
                assert_eq!(verify_consistency(old, new, &proof), Ok(()), "{from} {to}");
            }
        }
    }

    #[test]
    fn an_inclusion_proof_holds_for_nothing_else() {
        let log = small_log();
        for size in 1..=33_usize {
            let head = log.heads[size];
            for index in 0..head.size {
                let leaf = log.hashes()[usize::try_from(index).unwrap()];
                let proof = log.prove(ProofPlan::inclusion(index, head.size));
                for other in (0..size as u64 + 2).filter(|other| *other != index) {
                    assert!(verify_inclusion(leaf, other, head, &proof).is_err());
                }
                assert!(verify_inclusion(empty_root(), index, head, &proof).is_err());
                for wrong in altered(&proof) {
                    assert!(verify_inclusion(leaf, index, head, &wrong).is_err());
                }
            }
        }
    }

    #[test]
    fn a_consistency_proof_holds_for_nothing_else() {
        let log = small_log();
        for to in 1..=33_usize {
            for from in 0..=to {
                let (old, new) = (log.heads[from], log.heads[to]);
                let proof = log.prove(ProofPlan::consistency(old.size, new.size));
                for wrong in altered(&proof) {
                    assert!(verify_consistency(old, new, &wrong).is_err(), "{from} {to}");
                }
                let forged = Hash([7; 32]);
                let old_forged = TreeHead {
                    root: forged,
                    ..old
                };
                assert!(verify_consistency(old_forged, new, &proof).is_err());
                if from > 0 {
                    let new_forged = TreeHead {
                        root: forged,
                        ..new
                    };
                    assert!(verify_consistency(old, new_forged, &proof).is_err());
                }
            }
        }
    }

    #[test]
    fn a_smaller_tree_does_not_extend_a_larger_one() {
        let log = small_log();
        let verdict = verify_consistency(log.heads[8], log.heads[4], &[]);
        assert_eq!(verdict, Err(ProofError::OutOfRange));
        assert_eq!(ProofPlan::consistency(8, 4), Err(ProofError::OutOfRange));
        assert_eq!(ProofPlan::inclusion(4, 4), Err(ProofError::OutOfRange));
    }

    #[test]
    fn a_plan_says_which_node_is_missing() {
        let plan = ProofPlan::inclusion(2, 7).unwrap();
        let wanted: Vec<_> = plan.nodes().collect();
        let id = |level, index| NodeId { level, index };
        assert_eq!(wanted, [id(0, 3), id(1, 0), id(1, 2), id(0, 6)]);
        let lookup = |node| (node != id(1, 2)).then_some(empty_root());
        assert_eq!(plan.assemble(lookup), Err(MissingNode(id(1, 2))));
    }

    #[test]
    fn the_largest_numbers_can_be_planned() {
        for index in [0, 1, u64::MAX / 2, u64::MAX - 1] {
            let inclusion = ProofPlan::inclusion(index, u64::MAX).unwrap();
            let consistency = ProofPlan::consistency(index, u64::MAX).unwrap();
            // A sibling is one node, but for the rightmost, which are made of up to 63.
            assert!(inclusion.nodes().count() < 128);
            assert!(consistency.nodes().count() < 128);
        }
    }

    /// The proof with one hash changed, one more at either end, one less, or two swapped.
    fn altered(proof: &[Hash]) -> Vec<Vec<Hash>> {
        let mut all = vec![
            [proof, &[empty_root()]].concat(),
            [&[empty_root()], proof].concat(),
        ];
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at].0[31] ^= 1;
            let mut shorter = proof.to_vec();
            shorter.remove(at);
            let mut swapped = proof.to_vec();
            swapped.swap(at, 0);
            all.extend([changed, shorter]);
            all.extend((at > 0).then_some(swapped));
        }
        all
    }

    const LARGEST: u8 = 130;
}
