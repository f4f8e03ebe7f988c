//! Our tree beside the one of the crate `ct-merkle`: the same roots and proofs, and each verifies what the other proves.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use proptest::prelude::*;
use sha2::Sha256;

use super::fixture::TestLog;
use super::*;

type Theirs = MemoryBackedTree<Sha256, Vec<u8>>;

fn both(leaves: &[Vec<u8>]) -> (TestLog, Theirs) {
    let mut theirs = Theirs::new();
    leaves.iter().for_each(|leaf| theirs.push(leaf.clone()));
    (TestLog::of(leaves.iter().cloned()), theirs)
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, rest) = bytes.as_chunks();
    assert!(rest.is_empty());
    hashes.iter().copied().map(Hash).collect()
}

fn root(head: TreeHead) -> RootHash<Sha256> {
    RootHash::new(head.root.0.into(), head.size)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn roots_and_proofs_are_the_same_and_verify_there_and_here(
        leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 1..600),
        (at, from) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let (ours, theirs) = both(&leaves);
        let head = ours.head();
        let their_root = theirs.root();
        prop_assert_eq!(their_root.as_bytes().as_slice(), head.root.as_bytes());

        let index = at.index(leaves.len());
        let proof = ours.prove(ProofPlan::inclusion(index as u64, head.size));
        let by_them = theirs.prove_inclusion(index);
        prop_assert_eq!(by_them.as_bytes(), &bytes(&proof)[..]);
        let leaf = leaf_hash(&leaves[index]);
        prop_assert_eq!(verify_inclusion(leaf, index as u64, head, &hashes(by_them.as_bytes())), Ok(()));
        let shown = InclusionProof::from_bytes(bytes(&proof));
        prop_assert!(root(head).verify_inclusion(&leaves[index], index as u64, &shown).is_ok());

        let size = from.index(leaves.len()) + 1;
        let old = ours.heads[size];
        let proof = ours.prove(ProofPlan::consistency(old.size, head.size));
        // They have no empty proof between equal sizes.
        if size < leaves.len() {
            let by_them = theirs.prove_consistency(leaves.len() - size);
            prop_assert_eq!(by_them.as_bytes(), &bytes(&proof)[..]);
            prop_assert_eq!(verify_consistency(old, head, &hashes(by_them.as_bytes())), Ok(()));
            let shown = ConsistencyProof::try_from_bytes(bytes(&proof)).unwrap();
            prop_assert!(root(head).verify_consistency(&root(old), &shown).is_ok());
        }
    }

    #[test]
    fn what_one_refuses_the_other_refuses(
        size in 2_u32..200, at in any::<prop::sample::Index>(), bit in 0_usize..256,
        hash in any::<prop::sample::Index>(),
    ) {
        let leaves: Vec<_> = (0..size).map(|leaf| leaf.to_be_bytes().to_vec()).collect();
        let (ours, _) = both(&leaves);
        let (head, index) = (ours.head(), at.index(leaves.len()));
        let mut proof = ours.prove(ProofPlan::inclusion(index as u64, head.size));
        let hash = hash.index(proof.len());
        proof[hash].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(leaf_hash(&leaves[index]), index as u64, head, &proof).is_err());
        let shown = InclusionProof::from_bytes(bytes(&proof));
        prop_assert!(root(head).verify_inclusion(&leaves[index], index as u64, &shown).is_err());
    }
}
