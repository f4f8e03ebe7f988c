//! One request of a batch does what cannot be stored, or panics; one handover cannot be closed; the anchor fails: the
//! others are committed all the same, and nothing twice.

mod facts;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::anchor::Anchor;
use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Settled, Submission, Verdict, Worker};
use super::*;
use crate::envelope::Dek;
use crate::handover::{GenerationStatus, State, Terms};
use crate::identity::{Anchors, Authority, Identity};
use crate::policy::Engine;
use crate::store::{
    Attribution, Ground, Handover, Held, Origin, PartyMpid, ReadState, StoreOptions,
    StoredEnvelope, WrappedKey,
};
use crate::types::{
    Code, Component, Digest, EnvelopeId, GrantId, HandoverId, ManualClock, Role, SupplyPoint,
    SystemRandom, Timestamp,
};

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

/// Puts confirmed handovers at supply points of these numbers, each with so many retired envelopes.
struct Confirmed {
    points: std::ops::Range<u32>,
    retired: u32,
}

impl Command for Confirmed {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        for point in self.points.clone().map(supply_point) {
            for generation in 1..=self.retired {
                let key = WrappedKey {
                    epoch: 1,
                    bytes: vec![0],
                };
                ledger.put_envelope(retired(&point, generation), key, vec![0]);
            }
            ledger.put_handover(confirmed(&point, ledger.now));
        }
        Note.decide(caller, ledger)
    }
}

/// Puts handovers without a package at supply points of these numbers, which started long ago.
struct Expected(std::ops::Range<u32>);

impl Command for Expected {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        for point in self.0.clone().map(supply_point) {
            let handover = Handover {
                state: State::Expected,
                ..confirmed(&point, ledger.now)
            };
            let late = "2026-12-01".parse().unwrap();
            ledger.put_handover(Handover {
                supply_start_date: late,
                ..handover
            });
        }
        Note.decide(caller, ledger)
    }
}

/// Puts envelopes with their wrapped keys.
struct Kept(Vec<(StoredEnvelope, WrappedKey)>);

impl Command for Kept {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        for (envelope, key) in &self.0 {
            ledger.put_envelope(envelope.clone(), key.clone(), vec![0]);
        }
        Note.decide(caller, ledger)
    }
}

/// Gives an envelope another status, as a confirmation does.
struct Becomes(StoredEnvelope, GenerationStatus);

impl Command for Becomes {
    fn needs(&self, needs: &mut Needs) {
        needs.supply_points.insert(self.0.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        ledger.change_status(StoredEnvelope {
            status: self.1,
            ..self.0.clone()
        });
        Note.decide(caller, ledger)
    }
}

fn supply_point(number: u32) -> SupplyPoint {
    let fitting = (0..10).find_map(|check| {
        let text = format!("{:012}{check}", 960_000_000_000_u64 + u64::from(number));
        text.parse().ok()
    });
    fitting.expect("one digit fits")
}

fn retired(point: &SupplyPoint, generation: u32) -> StoredEnvelope {
    StoredEnvelope {
        id: EnvelopeId::random(&SystemRandom),
        supply_point: point.clone(),
        component: Component::Credentials,
        generation,
        status: GenerationStatus::Retired,
        handover: None,
        depositor: "lose".parse().unwrap(),
        deposited_at: Timestamp::default(),
        ground: Ground::Grant(GrantId::random(&SystemRandom)),
        origin: Origin::Standing,
        attribution: Attribution::Signed,
        serial: "E19B762798".parse().unwrap(),
        gaps: Vec::new(),
        header: Digest([0; 32]),
        body: Digest([0; 32]),
        read_commitment: None,
        held: Held::DataKey,
        sealed_to: Vec::new(),
    }
}

fn confirmed(point: &SupplyPoint, now: Timestamp) -> Handover {
    let registration_id = "R1".parse().unwrap();
    Handover {
        id: HandoverId::of(point, &registration_id),
        supply_point: point.clone(),
        registration_id,
        supply_start_date: "2027-01-01".parse().unwrap(),
        effective_at: Timestamp::default(),
        losing_party: None,
        losing_mpid: None,
        losing_registration: None,
        gaining_party: None,
        gaining_mpid: "GAIN".parse().unwrap(),
        state: State::Confirmed,
        version: 0,
        opened_at: Timestamp::default(),
        deposited_at: None,
        released_at: None,
        confirmed_at: Some(now),
        outcome: Some("rotated".to_owned()),
        confirmed_generation: Some(1),
        confirmed_entry: Some(0),
        rejected_entry: None,
        erased_after: Some(now),
        read: ReadState::Open,
        read_entry: None,
        erroneous_return: false,
    }
}

struct World {
    worker: Worker,
    clock: ManualClock,
    folder: TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
        let now = clock.now();
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
        let store = Store::open(&options).await.unwrap();
        let head = store.head().await.unwrap().tree();
        let (heads, anchored) = watch::channel(head);
        let shared = Shared {
            log_key: LogKey::from_pkcs8(origin, custody.log_key()).unwrap(),
            store,
            custody,
            rules: ArcSwap::from_pointee(Rules {
                policy: Engine::with_operator(&[]).unwrap(),
                terms: Terms::default(),
                anchors: Arc::new(Anchors::new(&roots, &lists, now).unwrap()),
                seal_server: SealServer::Allowed,
            }),
            clock: Arc::new(clock.clone()),
            random: Arc::new(SystemRandom),
            fence: Fence::default(),
            quota: Quota::default(),
            allowances: Allowances::default(),
            anchored,
            witnessing: None,
            cosigned: watch::Sender::default(),
        };
        let path = folder.path().join("anchor");
        let (anchor, _) = Anchor::open(&path).await.unwrap();
        Self {
            worker: Worker {
                shared: Arc::new(shared),
                anchor,
                heads,
            },
            clock,
            folder,
        }
    }

    /// From now on, what is written to the anchor fails, after the commit.
    async fn spoil_anchor(&mut self) {
        let anchor = self.folder.path().join("anchor");
        self.worker.anchor = Anchor::read_only(&anchor).await;
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

    /// The use cases, once nothing is settled by hand any more.
    fn into_escrow(self) -> (Escrow, ManualClock, TempDir) {
        let Worker {
            shared,
            anchor,
            heads,
        } = self.worker;
        let sequencer = Sequencer::start(Arc::clone(&shared), anchor, heads);
        (Escrow { shared, sequencer }, self.clock, self.folder)
    }

    async fn add_party(&mut self) {
        let party = serde_json::from_value(json!({ "id": "lose", "name": "Lose" })).unwrap();
        let added = self.settle(vec![Box::new(party::AddParty { party })]).await;
        added[0].as_ref().unwrap();
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

#[tokio::test]
async fn every_confirmed_handover_is_closed_in_one_round_but_the_one_that_cannot_be() {
    let mut world = World::open().await;
    world.add_party().await;
    for (points, retired) in [(0..1_200, 0), (1_200..1_201, 1)] {
        let put: Box<dyn Command> = Box::new(Confirmed { points, retired });
        world.settle(vec![put]).await[0].as_ref().unwrap();
    }
    // The one with an envelope no longer reads.
    let store = &world.worker.shared.store;
    let spoilt = store.execute("UPDATE envelope SET facts = '{}'").await;
    assert_eq!(spoilt.unwrap(), 1);

    let (escrow, _, _folder) = world.into_escrow();
    assert_eq!(escrow.close_confirmed().await.unwrap(), 1_200);
    assert_eq!(escrow.close_confirmed().await.unwrap(), 0, "one is left");
}

#[tokio::test]
async fn every_late_handover_is_marked_in_one_call_however_many_there_are() {
    let mut world = World::open().await;
    let put: Box<dyn Command> = Box::new(Expected(0..450));
    world.settle(vec![put]).await[0].as_ref().unwrap();
    let (escrow, _, _folder) = world.into_escrow();
    assert_eq!(escrow.mark_overdue().await.unwrap(), 450);
    assert_eq!(escrow.mark_overdue().await.unwrap(), 0, "none is left");
    let size = escrow.shared.store.head().await.unwrap().size;
    assert_eq!(size, 451, "an entry each");
}

#[tokio::test]
async fn what_does_not_fit_into_one_entry_is_erased_in_the_next_round() {
    let mut world = World::open().await;
    world.add_party().await;
    let put: Box<dyn Command> = Box::new(Confirmed {
        points: 0..1,
        retired: 501,
    });
    world.settle(vec![put]).await[0].as_ref().unwrap();
    let (escrow, _, _folder) = world.into_escrow();
    for (retired, state) in [(1, State::Confirmed), (0, State::Closed)] {
        assert_eq!(escrow.close_confirmed().await.unwrap(), 1);
        let facts = escrow.shared.facts(|needs| {
            needs.supply_points.insert(supply_point(0));
        });
        let facts = facts.await.unwrap();
        let point = &facts.supply_points[&supply_point(0)];
        assert_eq!(point.envelopes.len(), retired);
        assert_eq!(point.handovers[0].state, state);
        assert_eq!(point.numbered[&Component::Credentials], 501);
    }
}

#[tokio::test]
async fn nothing_is_signed_that_is_not_anchored_and_the_service_is_fenced() {
    let mut world = World::open().await;
    world.settle(vec![Box::new(Note)]).await[0]
        .as_ref()
        .unwrap();
    world.spoil_anchor().await;
    let (escrow, _, _folder) = world.into_escrow();
    let signed = escrow.checkpoint().unwrap();
    let shared = &escrow.shared;
    assert_eq!(shared.size_of(&signed.parse().unwrap()).unwrap(), 1);

    let failed = escrow.submit(Caller::service(), None, Note).await;
    assert!(matches!(failed, Err(Failure::Unavailable(_))), "{failed:?}");
    let size = async || shared.store.head().await.unwrap().size;
    assert_eq!(size().await, 2, "committed");
    let reason = escrow.fenced().unwrap();
    assert!(reason.starts_with("the anchor cannot be written"));
    let refused = escrow.submit(Caller::service(), None, Note).await;
    let fenced = Failure::refused(Code::Fenced).to_string();
    assert_eq!(refused.unwrap_err().to_string(), fenced);
    for unsigned in [escrow.checkpoint(), escrow.cosigned_checkpoint()] {
        assert_eq!(unsigned.unwrap_err().to_string(), fenced);
    }
    let keys = escrow.sealing_keys("escrow").await;
    assert_eq!(keys.unwrap_err().to_string(), fenced, "no receipt either");
    assert_eq!(size().await, 2, "nothing more is committed");
}

#[tokio::test]
async fn a_damaged_key_keeps_its_epoch_and_holds_up_no_other() {
    let mut world = World::open().await;
    world.add_party().await;
    let epoch = world.worker.shared.custody.current_epoch();
    let kept = [0, 1, 2, 3, 3].into_iter().zip(1..);
    let kept = kept.map(|(point, generation)| {
        let envelope = retired(&supply_point(point), generation);
        let dek = Dek::random(&SystemRandom);
        let context = envelope.wrap_context("1");
        let bytes = match point {
            1 => vec![0],
            _ => epoch.kek.wrap_dek(&context, &dek, &SystemRandom),
        };
        (envelope, WrappedKey { epoch: 1, bytes })
    });
    let put: Box<dyn Command> = Box::new(Kept(kept.collect()));
    world.settle(vec![put]).await[0].as_ref().unwrap();
    // One no longer reads at a point of its own, and one at a point where another does.
    let store = &world.worker.shared.store;
    let spoil = "UPDATE envelope SET facts = '{}' WHERE generation IN (3, 4)";
    assert_eq!(store.execute(spoil).await.unwrap(), 2);

    let (escrow, clock, _folder) = world.into_escrow();
    clock.advance(28 * DAY);
    let rolled = escrow.roll_epochs().await.unwrap();
    assert_eq!((rolled.rewrapped, rolled.damaged), (1, 4));
    clock.advance(28 * DAY);
    let rolled = escrow.roll_epochs().await.unwrap();
    assert_eq!((rolled.rewrapped, rolled.damaged), (1, 4));
    assert_eq!(rolled.destroyed, 0);

    let store = &escrow.shared.store;
    let given_up = "UPDATE envelope SET epoch = NULL WHERE epoch = 1";
    let removed = store.execute(given_up).await;
    assert_eq!(removed.unwrap(), 4);
    let rolled = escrow.roll_epochs().await.unwrap();
    assert_eq!((rolled.damaged, rolled.destroyed), (0, 1));
}

#[tokio::test]
async fn a_key_that_is_wrapped_anew_beside_a_change_of_status_opens_when_its_old_epoch_is_gone() {
    let mut world = World::open().await;
    world.add_party().await;
    let shared = Arc::clone(&world.worker.shared);
    let envelope = retired(&supply_point(0), 1);
    let old = shared.custody.current_epoch();
    let dek = Dek::random(&SystemRandom);
    let key = WrappedKey {
        epoch: old.number,
        bytes: old
            .kek
            .wrap_dek(&envelope.wrap_context("1"), &dek, &SystemRandom),
    };
    let put: Box<dyn Command> = Box::new(Kept(vec![(envelope.clone(), key.clone())]));
    world.settle(vec![put]).await[0].as_ref().unwrap();

    let begun = shared
        .custody
        .begin_epoch(world.clock.now(), &SystemRandom)
        .unwrap();
    let rewrapped = shared.rewrap(envelope.clone(), &key).unwrap();
    let becomes = |status| Box::new(Becomes(envelope.clone(), status)) as Box<dyn Command>;
    let batch = vec![
        becomes(GenerationStatus::Prepared),
        Box::new(epochs::Rewrap {
            rewrapped: vec![rewrapped],
        }),
        becomes(GenerationStatus::Current),
    ];
    for settled in world.settle(batch).await {
        settled.unwrap();
    }

    let left = shared.store.wrapped_before(begun.number, (0, 0), 1).await;
    assert!(
        left.unwrap().is_empty(),
        "nothing is left under the old one"
    );
    shared.custody.destroy_epoch(old.number).unwrap();
    let needs = |needs: &mut Needs| {
        needs.supply_points.insert(supply_point(0));
    };
    let facts = shared.facts(needs).await.unwrap();
    let known = &facts.supply_points[&supply_point(0)].envelopes[0];
    assert_eq!(known.status, GenerationStatus::Current);
    let sealed = shared.store.sealed(known.id).await.unwrap().unwrap();
    assert_eq!(sealed.key.epoch, begun.number);
    let unwrapped = shared.unwrap(known, &sealed.key).unwrap();
    assert_eq!(unwrapped.expose(), dek.expose());
}

#[tokio::test]
async fn counted_refusals_are_written_once_though_the_answer_is_lost() {
    let mut world = World::open().await;
    world.spoil_anchor().await;
    let shared = Arc::clone(&world.worker.shared);
    let (escrow, clock, folder) = world.into_escrow();
    let party: Identity = "urn:cos-escrow:party:a".parse().unwrap();
    escrow.count_refusal(&party, Code::CheckDigit);
    clock.advance(DAY);
    assert!(escrow.write_summaries().await.is_err());
    assert_eq!(shared.store.head().await.unwrap().size, 1, "committed");

    shared.fence.lower();
    let head = shared.store.head().await.unwrap();
    let path = folder.path().join("anchor");
    let (anchor, _) = Anchor::open(&path).await.unwrap();
    let heads = watch::channel(head.tree()).0;
    let sequencer = Sequencer::start(Arc::clone(&shared), anchor, heads);
    let escrow = Escrow { shared, sequencer };
    escrow.write_summaries().await.unwrap();
    escrow.write_summaries().await.unwrap();
    assert_eq!(escrow.shared.store.head().await.unwrap().size, 1);
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
