//! A real service's log, copied by `log mirror`, accepted by verifiers that nobody here wrote, and refused by each of
//! them after anything that could be done to it.

mod auditor;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use cos_escrow::client::Request;
use cos_escrow::custody::Custody;
use cos_escrow::tlog::{Checkpoint, LogKey, Note, TreeHead, encode_entries};
use cos_escrow::types::Secret;

use self::tools::copy_folder;
pub(crate) use self::tools::{Verifier, auditor, mirror, python};
use crate::live::{Live, Service, now};
use crate::tree::{read_entries, write_tiles};

/// What the verifiers are shown: a copy, with the checkpoint of an earlier one.
struct Case<'a> {
    dir: PathBuf,
    head: TreeHead,
    key: &'a LogKey,
}

type Tampering = fn(&Case<'_>);

/// What is done to a copy. Nothing in it is believed, so each of these must be noticed by all.
const TAMPERINGS: &[(&str, Tampering)] = &[
    ("a flipped byte in an entry", |case| {
        case.change("tile/entries/000", |bytes| bytes[100] ^= 1);
    }),
    ("a flipped byte in the newest entry", |case| {
        case.change(&case.newest_entries(), |bytes| {
            *bytes.last_mut().unwrap() ^= 1;
        });
    }),
    ("two entries swapped", |case| {
        case.change("tile/entries/000", |bytes| {
            let mut entries = read_entries(&case.dir, case.head.size);
            entries.truncate(256);
            entries.swap(17, 18);
            *bytes = encode_entries(entries.iter().map(Vec::as_slice)).unwrap();
        });
    }),
    ("the newest entry dropped", |case| {
        let newest = read_entries(&case.dir, case.head.size).pop().unwrap();
        case.change(&case.newest_entries(), |bytes| {
            bytes.truncate(bytes.len() - newest.len() - 2);
        });
    }),
    ("a flipped byte among the hashes", |case| {
        case.change("tile/0/000", |bytes| bytes[32 * 200] ^= 1);
    }),
    (
        "a forked checkpoint: another root of the same size",
        |case| {
            let mut forked = case.head;
            forked.root.0[31] ^= 1;
            case.sign(forked);
        },
    ),
    ("a checkpoint of more entries than there are", |case| {
        case.sign(TreeHead {
            size: case.head.size + 1,
            ..case.head
        });
    }),
    (
        "a checkpoint signed by another key of the same name",
        |case| {
            let name = case.key.verifier().name().clone();
            let other = LogKey::from_seed(name, &Secret::new(vec![7; 32])).unwrap();
            let note = Checkpoint::sign(case.head, &other).to_string();
            fs::write(case.dir.join("checkpoint"), note).unwrap();
        },
    ),
    ("an old entry rewritten, all above it made to fit", |case| {
        let mut entries = read_entries(&case.dir, case.head.size);
        entries[17] = b"{}".to_vec();
        case.rewrite(&entries);
    }),
    (
        "the newest entries dropped, all above them made to fit",
        |case| {
            let entries = read_entries(&case.dir, case.head.size);
            case.rewrite(&entries[..entries.len() / 2]);
        },
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_verifier_accepts_a_copy_and_refuses_it_after_any_tampering() {
    let World { live, service, old } = World::open().await;
    let dir = live.path("mirror");
    mirror(&live, &service, &dir).await;
    let vkey = live.path("log.vkey");
    let verifiers = Verifier::all();
    for verifier in &verifiers {
        let said = verifier.verify(&dir, &vkey, &old);
        assert_eq!(said, Ok(()), "{verifier:?} refuses an honest copy");
    }

    let head = head_of(&dir, &service);
    let key = log_key(&live, &service);
    assert!(service.stop().await.success());
    for (number, (name, tamper)) in TAMPERINGS.iter().enumerate() {
        let case = Case {
            dir: live.path(&format!("tampered-{number}")),
            head,
            key: &key,
        };
        copy_folder(&dir, &case.dir);
        tamper(&case);
        for verifier in &verifiers {
            let said = verifier.verify(&case.dir, &vkey, &old);
            assert!(said.is_err(), "{verifier:?} accepts {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verifier_refuses_the_log_of_a_rewound_database() {
    let World { live, service, old } = World::open().await;
    assert!(service.stop().await.success());
    let backup = live.path("backup");
    let restored = live
        .run(&["db", "restore", "--yes"], &[("--from", &backup)])
        .await;
    assert!(restored.status.success(), "{restored:?}");
    // Whoever may do this can hide it from everything on this side.
    fs::remove_file(live.path("anchor")).unwrap();
    let adopted = live.run(&["db", "anchor", "--yes"], &[]).await;
    assert!(adopted.status.success(), "{adopted:?}");
    let service = live.start().await;
    let registrar = live.staff("registrar", &service);
    // Something else happens, until the log is longer than the one of before.
    let events: Vec<_> = (1_000..1_000 + EVENTS + 20)
        .map(|n| live.event(n))
        .collect();
    live.register(&registrar, &events).await.unwrap();
    let dir = live.path("mirror");
    mirror(&live, &service, &dir).await;
    let before: Note = fs::read_to_string(&old).unwrap().parse().unwrap();
    let before: Checkpoint = before.text().parse().unwrap();
    assert!(head_of(&dir, &service).size > before.head.size);
    for verifier in Verifier::all() {
        let said = verifier.verify(&dir, &live.path("log.vkey"), &old);
        assert!(said.is_err(), "{verifier:?}");
        let alone = verifier.verify(&dir, &live.path("log.vkey"), &dir.join("checkpoint"));
        assert_eq!(alone, Ok(()), "{verifier:?}: by itself it is a good log");
    }
}

/// A service with a few hundred entries, a checkpoint from halfway, and a backup from before that.
struct World {
    live: Live,
    service: Service,
    old: PathBuf,
}

impl World {
    async fn open() -> Self {
        let (live, service) = Live::open().await;
        let auditor = live.issue("urn:cos-escrow:auditor:live", now());
        live.write_issued("auditor", &auditor);
        fs::write(live.path("log.vkey"), service.log_key.to_string()).unwrap();
        let backup = live.path("backup");
        let saved = live.run(&["db", "backup"], &[("--to", &backup)]).await;
        assert!(saved.status.success(), "{saved:?}");

        let registrar = live.staff("registrar", &service);
        let events: Vec<_> = (0..EVENTS).map(|n| live.event(n)).collect();
        live.register(&registrar, &events).await.unwrap();
        let reader = live.client(&auditor, &service);
        let checkpoint = reader.send(Request::get("/log/checkpoint")).await.unwrap();
        let old = live.path("old.checkpoint");
        fs::write(&old, checkpoint.body).unwrap();
        let events: Vec<_> = (EVENTS..EVENTS + 10).map(|n| live.event(n)).collect();
        live.register(&registrar, &events).await.unwrap();
        Self { live, service, old }
    }
}

impl Case<'_> {
    fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.dir.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let before = bytes.clone();
        change(&mut bytes);
        assert_ne!(bytes, before, "`{file}` was to be changed");
        fs::write(path, bytes).unwrap();
    }

    fn newest_entries(&self) -> String {
        let (full, rest) = (self.head.size / 256, self.head.size % 256);
        match rest {
            0 => format!("tile/entries/{:03}", full - 1),
            rest => format!("tile/entries/{full:03}.p/{rest}"),
        }
    }

    fn sign(&self, head: TreeHead) {
        let note = Checkpoint::sign(head, self.key).to_string();
        fs::write(self.dir.join("checkpoint"), note).unwrap();
    }

    /// Another history, as whoever holds the log's key could show it.
    fn rewrite(&self, entries: &[Vec<u8>]) {
        fs::remove_dir_all(self.dir.join("tile")).unwrap();
        self.sign(write_tiles(&self.dir, entries));
    }
}

fn head_of(dir: &Path, service: &Service) -> TreeHead {
    let note = fs::read_to_string(dir.join("checkpoint")).unwrap();
    let note: Note = note.parse().unwrap();
    Checkpoint::open(&note, &service.log_key).unwrap().head
}

/// The key that the service signs with, as somebody has it who took the host.
fn log_key(live: &Live, service: &Service) -> LogKey {
    let custody = Custody::open(&live.path("keys")).unwrap();
    let key = LogKey::from_pkcs8(service.log_key.name().clone(), custody.log_key()).unwrap();
    assert_eq!(*key.verifier(), service.log_key);
    key
}

/// Enough for a full tile and a partial one.
const EVENTS: u64 = 120;
