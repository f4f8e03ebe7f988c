//! The golden vector: a log of 70,000 entries that other implementations, in Go, Python and JavaScript, made or accept.

use super::fixture::{TestLog, log_key};
use super::*;
use crate::types::{Digest, Secret, Timestamp};

#[test]
fn the_keys_are_those_of_the_vector() {
    assert_eq!(log_key().verifier().to_string(), LOG_VKEY);
    assert_eq!(witness_key().verifier().to_string(), WITNESS_VKEY);
}

#[test]
fn every_root_is_the_one_of_the_vector() {
    let log = TestLog::golden(70_000);
    for line in ROOTS.lines() {
        let (size, root) = line.split_once(' ').unwrap();
        let size: usize = size.parse().unwrap();
        assert_eq!(log.heads[size].root.to_string(), root, "{size}");
    }
}

#[test]
fn every_small_proof_is_the_one_of_the_vector() {
    let log = TestLog::golden(8);
    for line in SMALL_PROOFS.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        let [from, to] = [(); 2].map(|()| words.next().unwrap().parse().unwrap());
        let plan = match kind {
            "inclusion" => ProofPlan::inclusion(from, to),
            _ => ProofPlan::consistency(from, to),
        };
        let hashes: Vec<Hash> = words.map(|word| word.parse().unwrap()).collect();
        assert_eq!(log.prove(plan), hashes, "{line}");
    }
}

#[test]
fn every_checkpoint_is_signed_and_cosigned_as_in_the_vector() {
    let log = TestLog::golden(70_000);
    let keys = [LOG_VKEY, WITNESS_VKEY].map(|vkey| vkey.parse::<VerifierKey>().unwrap());
    for (size, text) in CHECKPOINTS {
        let mut note = Checkpoint::sign(log.heads[size], &log_key());
        let cosignature = witness_key().cosign(note.text(), COSIGNED_AT);
        note.add(cosignature).unwrap();
        assert_eq!(note.to_string(), text);

        let note: Note = text.parse().unwrap();
        let checkpoint = Checkpoint::open(&note, &keys[0]).unwrap();
        assert_eq!(checkpoint.head, log.heads[size]);
        let signed_at: Vec<_> = note
            .verify(&keys)
            .unwrap()
            .iter()
            .map(|v| v.signed_at)
            .collect();
        assert_eq!(signed_at, [None, Some(COSIGNED_AT)]);
    }
}

#[test]
fn the_receipt_is_the_one_of_the_vector() {
    let log = TestLog::golden(70_000);
    let hashes = log.prove(ProofPlan::inclusion(23_333, 70_000));
    let checkpoint = CHECKPOINTS[2].1.parse().unwrap();
    assert_eq!(
        Receipt::new(23_333, hashes, checkpoint).to_string(),
        RECEIPT
    );

    let receipt: Receipt = RECEIPT.parse().unwrap();
    let checkpoint = receipt.verify(&log.leaves[23_333], &LOG_VKEY.parse().unwrap());
    assert_eq!(checkpoint.map(|c| c.head), Ok(log.head()));
}

#[test]
fn the_consistency_proof_is_the_one_of_the_vector() {
    let log = TestLog::golden(70_000);
    let expected: Vec<Hash> = CONSISTENCY
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let (old, new) = (log.heads[46_666], log.head());
    assert_eq!(
        log.prove(ProofPlan::consistency(old.size, new.size)),
        expected
    );
    assert_eq!(verify_consistency(old, new, &expected), Ok(()));
}

#[test]
fn every_tile_is_the_one_of_the_vector() {
    let log = TestLog::golden(70_000);
    for line in TILES.lines() {
        let [path, length, digest] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let tile: TilePath = path.parse().unwrap();
        let bytes = log.tile(&tile);
        assert_eq!(bytes.len().to_string(), length, "{path}");
        assert_eq!(hex(&bytes), digest, "{path}");
        assert!(tiles(70_000).any(|listed| listed == tile), "{path}");
    }
}

#[test]
fn the_whole_log_verifies() {
    let log = TestLog::golden(70_000);
    let mut seen = 0;
    let verdict = verify_log(
        log.head(),
        &mut |tile| Ok::<_, ()>(log.tile(tile)),
        |index, entry| {
            assert_eq!(
                (index, entry),
                (seen, &log.leaves[usize::try_from(seen).unwrap()][..])
            );
            seen += 1;
        },
    );
    assert_eq!((verdict, seen), (Ok(()), 70_000));
}

fn witness_key() -> CosignerKey {
    let name = "witness.example/w1".parse().unwrap();
    CosignerKey::from_seed(name, &Secret::new(vec![9; 32])).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let digest = Digest::of(bytes);
    digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const LOG_VKEY: &str = "escrow.example/log/1+f7571521+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
const WITNESS_VKEY: &str =
    "witness.example/w1+24b5d9fe+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY";
const COSIGNED_AT: Timestamp = Timestamp::from_seconds(1_790_000_000);
const ROOTS: &str = include_str!("../../tests/vectors/tlog/roots.txt");
const SMALL_PROOFS: &str = include_str!("../../tests/vectors/tlog/small-proofs.txt");
const CHECKPOINTS: [(usize, &str); 3] = [
    (
        1,
        include_str!("../../tests/vectors/tlog/checkpoint-1.note"),
    ),
    (
        46_666,
        include_str!("../../tests/vectors/tlog/checkpoint-46666.note"),
    ),
    (
        70_000,
        include_str!("../../tests/vectors/tlog/checkpoint-70000.note"),
    ),
];
const RECEIPT: &str = include_str!("../../tests/vectors/tlog/receipt-23333.tlog-proof");
const CONSISTENCY: &str = include_str!("../../tests/vectors/tlog/consistency-46666-70000.txt");
const TILES: &str = include_str!("../../tests/vectors/tlog/tiles-70000.txt");
