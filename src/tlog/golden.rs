//! The golden vector: a log of 70,000 entries that other implementations, in Go, Python and JavaScript, made or accept.

use super::fixture::{TestLog, log_key, witness_key};
use super::*;
use crate::types::{Digest, Timestamp};

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

#[test]
fn the_policy_is_satisfied_by_every_checkpoint_and_the_receipt() {
    let policy: TrustPolicy = POLICY.parse().unwrap();
    for (size, text) in CHECKPOINTS {
        let note: Note = text.parse().unwrap();
        let trusted = policy.open(&note, None).unwrap();
        assert_eq!(trusted.checkpoint.head.size, size as u64);
        assert_eq!(trusted.witnesses[0].1, COSIGNED_AT);
    }
    let receipt: Receipt = RECEIPT.parse().unwrap();
    let leaf = TestLog::golden(23_334).leaves[23_333].clone();
    assert!(receipt.verify_by(&leaf, &policy).is_ok());
}

#[test]
fn a_witness_goes_from_one_checkpoint_of_the_vector_to_the_next() {
    let requests = [
        (0, String::new(), CHECKPOINTS[1].1),
        (
            46_666,
            CONSISTENCY.trim_end().to_owned() + "\n",
            CHECKPOINTS[2].1,
        ),
    ];
    let mut latest = None;
    for (old, proof, checkpoint) in requests {
        let request = format!("old {old}\n{proof}\n{checkpoint}");
        let request: AddCheckpoint = request.parse().unwrap();
        latest = Some(request.judge(&[LOG_VKEY.parse().unwrap()], latest).unwrap());
    }
    assert_eq!(latest.unwrap().size, 70_000);
}

/// One file a case, whose name says what is wrong with it.
#[test]
fn every_file_of_the_hostile_corpus_is_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/tlog/hostile");
    let mut kinds = std::collections::BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let kind = path.extension().unwrap().to_str().unwrap().to_owned();
        let is_read = std::fs::read_to_string(&path).is_ok_and(|text| match kind.as_str() {
            "policy" => text.parse::<TrustPolicy>().is_ok(),
            "add-checkpoint" => text.parse::<AddCheckpoint>().is_ok(),
            "note" => text.parse::<Note>().is_ok(),
            "tlog-proof" => text.parse::<Receipt>().is_ok(),
            _ => true,
        });
        assert!(!is_read, "{}", path.display());
        *kinds.entry(kind).or_insert(0) += 1;
    }
    assert!(
        kinds.len() == 4 && kinds.values().all(|count| *count > 8),
        "{kinds:?}"
    );
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
const POLICY: &str = include_str!("../../tests/vectors/tlog/witnesses.policy");
const CONSISTENCY: &str = include_str!("../../tests/vectors/tlog/consistency-46666-70000.txt");
const TILES: &str = include_str!("../../tests/vectors/tlog/tiles-70000.txt");
