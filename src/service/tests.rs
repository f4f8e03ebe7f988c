//! One request of a batch does what cannot be stored, or panics: the others are committed all the same.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::anchor::Anchor;
use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Settled, Submission, Verdict, Worker};
use super::*;
use crate::identity::{Anchors, Authority};
use crate::store::{PartyMpid, StoreOptions};
use crate::types::{ManualClock, Role, SystemRandom, Timestamp};

/// Appends one entry.
struct Note;

/// Appends one entry, and gives an MPID to a party that does not exist.
struct Impossible;

/// Appends one entry, and finds that what must hold does not.
struct Defect;

impl Command for Note {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let entry = ledger.append(Act::of("test.noted", caller));
        Verdict::Done {
            answer: json!(entry),
            entry: Some(entry),
        }
    }
}

impl Command for Impossible {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        ledger.changes.mpids.push(PartyMpid {
            mpid: "LOST".parse().unwrap(),
            role: Role::Supplier,
            party: "nobody".parse().unwrap(),
            from_at: ledger.now,
            until_at: None,
        });
        Note.decide(caller, ledger)
    }
}

impl Command for Defect {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        Note.decide(caller, ledger);
        panic!("the test wants a panic")
    }
}

struct World {
    worker: Worker,
    _folder: TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_seconds(1_800_000_000);
        let authority = Authority::create("test", now).unwrap();
        let roots = [authority.root().clone()];
        let lists = authority.lists(now, now.after(DAY)).unwrap();
        let options = StoreOptions {
            path: folder.path().join("escrow.db"),
            readers: 1,
        };
        let keys = folder.path().join("keys");
        let custody = Custody::open_or_create(&keys, now, &SystemRandom).unwrap();
        let origin = "test.example/log".parse().unwrap();
        let shared = Shared {
            log_key: LogKey::from_pkcs8(origin, custody.log_key()).unwrap(),
            store: Store::open(&options).await.unwrap(),
            custody,
            rules: ArcSwap::from_pointee(Rules {
                policy: Engine::with_operator(&[]).unwrap(),
                terms: Terms::default(),
                anchors: Arc::new(Anchors::new(&roots, &lists, now).unwrap()),
                seal_server: SealServer::Allowed,
            }),
            clock: Arc::new(ManualClock::at(now)),
            random: Arc::new(SystemRandom),
            fence: Fence::default(),
            quota: Quota::default(),
        };
        let head = shared.store.head().await.unwrap().tree();
        let path = folder.path().join("anchor");
        let (anchor, _) = Anchor::open(&path, head).await.unwrap();
        Self {
            worker: Worker {
                shared: Arc::new(shared),
                anchor,
            },
            _folder: folder,
        }
    }

    /// What becomes of each of a batch: the answer, or the failure as text.
    async fn settle(&mut self, commands: Vec<Box<dyn Command>>) -> Vec<Result<Value, String>> {
        let submissions: Vec<_> = commands
            .into_iter()
            .map(|command| Submission {
                caller: Caller::service(),
                idempotency: None,
                command,
            })
            .collect();
        let results = self.worker.settle_each(&submissions).await;
        let said = results.into_iter().map(|result| match result {
            Ok(Settled::Answer(answer)) => Ok(answer.body),
            Ok(Settled::Stale) => Err("stale".to_owned()),
            Err(failure) => Err(failure.to_string()),
        });
        said.collect()
    }

    async fn log_size(&self) -> u64 {
        self.worker.shared.store.head().await.unwrap().size
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_stored_does_not_sink_its_batch() {
    let mut world = World::open().await;
    let batch: Vec<Box<dyn Command>> = vec![Box::new(Note), Box::new(Impossible), Box::new(Note)];
    let results = world.settle(batch).await;
    assert_eq!(results[0], Ok(json!(0)));
    let refused = results[1].as_ref().unwrap_err();
    assert!(refused.starts_with("broken: database:"), "{refused}");
    assert_eq!(results[2], Ok(json!(1)));
    assert_eq!(world.log_size().await, 2);
}

#[tokio::test]
async fn a_request_that_panics_does_not_sink_its_batch_or_the_task() {
    let mut world = World::open().await;
    let batch: Vec<Box<dyn Command>> = vec![Box::new(Defect), Box::new(Note)];
    let results = world.settle(batch).await;
    assert_eq!(results[0], Err("broken: deciding panicked".to_owned()));
    assert_eq!(results[1], Ok(json!(0)));
    assert_eq!(world.settle(vec![Box::new(Note)]).await, [Ok(json!(1))]);
    assert_eq!(world.log_size().await, 2);
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
