//! Every answer of C2SP tlog-witness, of the real process, over a real connection.

use cos_escrow::tlog::{
    AddCheckpoint, Checkpoint, Frontier, Hash, LogKey, NodeId, Note, ProofPlan, TreeHead,
    VerifierKey, empty_root, leaf_hash,
};
use cos_escrow::types::{Digest, Secret};
use std::collections::HashMap;

use super::process::{Kind, Running};

/// A log in memory.
struct Log {
    nodes: HashMap<NodeId, Hash>,
    heads: Vec<TreeHead>,
    key: LogKey,
}

impl Log {
    fn of(name: &str, size: u32, salt: u8) -> Self {
        let (mut nodes, mut tree) = (HashMap::new(), Frontier::default());
        let mut heads = vec![tree.head()];
        for leaf in 0..size {
            let leaf = [&leaf.to_be_bytes()[..], &[salt]].concat();
            tree.append(leaf_hash(&leaf), |node, hash| {
                nodes.insert(node, hash);
            });
            heads.push(tree.head());
        }
        let key = LogKey::from_seed(name.parse().unwrap(), &Secret::new(vec![7; 32])).unwrap();
        Self { nodes, heads, key }
    }

    fn checkpoint(&self, size: usize) -> Note {
        Checkpoint::sign(self.heads[size], &self.key)
    }

    fn request(&self, old: u64, new: usize) -> AddCheckpoint {
        let plan = ProofPlan::consistency(old, new as u64).unwrap();
        AddCheckpoint {
            old_size: old,
            proof: plan
                .assemble(|node| self.nodes.get(&node).copied())
                .unwrap(),
            checkpoint: self.checkpoint(new),
        }
    }
}

async fn is(witness: &Running, request: impl ToString, status: u16) -> String {
    let answer = witness.post(request.to_string().as_bytes()).await;
    assert_eq!(answer.status, status, "{answer:?}");
    answer.body
}

const ORIGIN: &str = "protocol.example/log";

#[tokio::test]
async fn a_witness_gives_every_answer_of_the_specification() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::of(ORIGIN, 300, 0);
    let fork = Log::of(ORIGIN, 300, 1);
    let vkey = log.key.verifier().to_string();
    let prepared = Kind::Ours.prepare(folder.path(), &vkey).await;
    let witness = prepared.serve("127.0.0.1:0").await;
    let hash = Digest::of(ORIGIN.as_bytes());
    let hash: String = hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let shown = format!("/{hash}/checkpoint");
    assert_eq!(
        witness.get(&shown).await.status,
        404,
        "nothing is cosigned yet"
    );

    // 200, and the cosignature verifies; what is shown has both signatures.
    let cosigned = is(&witness, log.request(0, 100), 200).await;
    let note: Note = format!("{}{cosigned}", log.checkpoint(100))
        .parse()
        .unwrap();
    let keys: [VerifierKey; 2] = [vkey.parse().unwrap(), prepared.vkey.parse().unwrap()];
    assert_eq!(note.verify(&keys).unwrap().len(), 2);
    let latest = witness.get(&shown).await;
    assert_eq!((latest.status, latest.body), (200, note.to_string()));

    // 400: no request at all, or an old size above the new one.
    for body in ["", "old 100\n", "old 0100\n\nx\n1\n\n"] {
        is(&witness, body, 400).await;
    }
    let above = AddCheckpoint {
        old_size: 101,
        ..log.request(100, 100)
    };
    is(&witness, above, 400).await;
    // 403: the log's key has not signed.
    let stranger = LogKey::from_seed(ORIGIN.parse().unwrap(), &Secret::new(vec![8; 32])).unwrap();
    let forged = AddCheckpoint {
        checkpoint: Checkpoint::sign(log.heads[200], &stranger),
        ..log.request(100, 200)
    };
    is(&witness, forged, 403).await;
    // 404: nobody told it of that log.
    is(
        &witness,
        Log::of("other.example/log", 5, 0).request(0, 5),
        404,
    )
    .await;
    // 409, with the size that was cosigned last.
    let stale = witness
        .post(log.request(50, 200).to_string().as_bytes())
        .await;
    assert_eq!((stale.status, stale.body.as_str()), (409, "100\n"));
    assert!(
        stale.head.contains("content-type: text/x.tlog.size"),
        "{stale:?}"
    );
    // 422: a proof that fails, one where none belongs, another history, another root of the same size.
    let bare = AddCheckpoint {
        proof: Vec::new(),
        ..log.request(100, 200)
    };
    is(&witness, bare, 422).await;
    let surplus = AddCheckpoint {
        proof: vec![empty_root()],
        ..log.request(100, 100)
    };
    is(&witness, surplus, 422).await;
    is(&witness, fork.request(100, 200), 422).await;
    is(&witness, fork.request(100, 100), 422).await;
    // 413: more than any request has.
    assert_eq!(witness.announce(600 * 1024).await.status, 413);

    // None of that has moved it; it goes on where it was, over a kill, too.
    is(&witness, log.request(100, 200), 200).await;
    witness.kill().await;
    let witness = prepared.serve("127.0.0.1:0").await;
    is(&witness, log.request(100, 300), 409).await;
    is(&witness, log.request(200, 200), 200).await;
    is(&witness, log.request(200, 300), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_that_race_only_those_that_continue_one_another_are_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::of(ORIGIN, 60, 0);
    let fork = Log::of(ORIGIN, 60, 1);
    let vkey = log.key.verifier().to_string();
    let prepared = Kind::Ours.prepare(folder.path(), &vkey).await;
    let witness = prepared.serve("127.0.0.1:0").await;
    // Both histories are signed by the log. Whichever comes first wins, and the other is never cosigned.
    let requests = (1..=30).flat_map(|size| [log.request(0, size), fork.request(0, size)]);
    let requests: Vec<_> = requests.map(|request| request.to_string()).collect();
    let racing = requests
        .iter()
        .map(|request| witness.post(request.as_bytes()));
    let answers = futures_util::future::join_all(racing).await;
    let cosigned = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(cosigned, 1, "{answers:?}");
    assert!(
        answers
            .iter()
            .all(|answer| [200, 409].contains(&answer.status))
    );
}
