//! What decisions rest on: rules, MPIDs, registrations, meters, epochs; and that changes of them are told.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::handover::{Change, RegistrationEvent};
use crate::tlog::OpenEntry;

/// Says again what was said in entry 0, and appends nothing.
struct Again;

impl Command for Again {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, _: &Caller, _: &mut Ledger<'_>) -> Verdict {
        Verdict::Done {
            answer: json!("again"),
            entry: Some(0),
        }
    }
}

fn caller(identity: &str) -> Caller {
    Caller {
        identity: format!("urn:cos-escrow:{identity}").parse().unwrap(),
        ..Caller::service()
    }
}

/// An escrow with the suppliers LOSE and GAIN.
async fn market() -> (Escrow, ManualClock, TempDir) {
    let (escrow, clock, folder) = World::open().await.into_escrow();
    escrow.begin_log().await.unwrap();
    for (id, mpid) in [("lose", "LOSE"), ("gain", "GAIN")] {
        let party = serde_json::from_value(json!({ "id": id, "name": id })).unwrap();
        let added = escrow.add_party(caller("operator:ops"), None, party).await;
        added.unwrap();
        let id = id.parse().unwrap();
        let change = mpid_from(mpid, "2020-01-01T00:00:00Z");
        let added = escrow.add_mpid(caller("operator:ops"), id, change).await;
        added.unwrap();
    }
    (escrow, clock, folder)
}

fn mpid_from(mpid: &str, at: &str) -> MpidChange {
    serde_json::from_value(json!({ "mpid": mpid, "role": "X", "at": at })).unwrap()
}

fn event(id: &str, name: &str, change: Change) -> RegistrationEvent {
    RegistrationEvent {
        source: "test".to_owned(),
        event_id: name.to_owned(),
        occurred_at: Timestamp::from_seconds(1_799_999_000),
        registration_id: id.parse().unwrap(),
        supply_point: supply_point(0),
        change,
    }
}

fn supplied(supplier: &str, date: &str) -> Change {
    Change::Snapshot {
        supplier: supplier.parse().unwrap(),
        supply_start_date: date.parse().unwrap(),
        supply_end_date: None,
        meter: None,
    }
}

async fn record(escrow: &Escrow, events: Vec<RegistrationEvent>) -> Vec<RecordResult> {
    let registrar = caller("registrar:css");
    escrow
        .record_registrations(registrar, events)
        .await
        .unwrap()
}

async fn point(escrow: &Escrow) -> crate::store::SupplyPointFacts {
    let facts = escrow.shared.facts(|needs| {
        needs.supply_points.insert(supply_point(0));
    });
    facts
        .await
        .unwrap()
        .supply_points
        .remove(&supply_point(0))
        .unwrap()
}

async fn size(escrow: &Escrow) -> u64 {
    escrow.shared.store.head().await.unwrap().size
}

async fn newest(escrow: &Escrow, kind: &str) -> OpenEntry {
    escrow.shared.newest_of(kind).await.unwrap().unwrap()
}

#[tokio::test]
async fn rules_that_changed_while_the_service_was_stopped_are_an_entry() {
    let (escrow, _, _folder) = market().await;
    let before = size(&escrow).await;
    escrow.announce_rules().await.unwrap();
    assert_eq!(size(&escrow).await, before, "the first entry names them");

    let shared = &escrow.shared;
    let anchors = Arc::clone(&shared.rules.load().anchors);
    let forbid = "@id(\"closed\") forbid (principal, action, resource);".to_owned();
    let rules = |operator: &[(String, String)], grace, seal_server| Rules {
        policy: Engine::with_operator(operator).unwrap(),
        terms: Terms {
            grace_hours: grace,
            ..Terms::default()
        },
        anchors: Arc::clone(&anchors),
        seal_server,
    };
    for (name, rules) in [
        ("terms", rules(&[], 48, SealServer::Allowed)),
        ("sealing", rules(&[], 48, SealServer::Forbidden)),
        (
            "policies",
            rules(&[("own".to_owned(), forbid)], 48, SealServer::Forbidden),
        ),
    ] {
        let known = size(&escrow).await;
        shared.rules.store(Arc::new(rules));
        for _ in 0..2 {
            escrow.announce_rules().await.unwrap();
            assert_eq!(size(&escrow).await, known + 1, "{name}: once");
        }
        let told = newest(&escrow, "policy.changed").await;
        let rules = shared.rules.load();
        assert_eq!(told.shown()["after"], rules.in_force(), "{name}");
        assert_ne!(told.shown()["before"], told.shown()["after"], "{name}");
    }
}

#[tokio::test]
async fn the_planned_end_of_an_mpid_can_be_taken_back_but_not_over_its_next_holder() {
    let (escrow, _, _folder) = market().await;
    let later = Timestamp::from_seconds(1_900_000_000);
    let operator = || caller("operator:ops");
    let lose: crate::types::PartyId = "lose".parse().unwrap();
    let holder = async || {
        let directory = escrow.shared.store.directory().await.unwrap();
        directory
            .holder("LOSE".parse().unwrap(), Role::Supplier, later)
            .cloned()
    };
    let add = |party: &str, at: &str| {
        escrow.add_mpid(operator(), party.parse().unwrap(), mpid_from("LOSE", at))
    };
    let end = mpid_from("LOSE", "2029-01-01T00:00:00Z");
    escrow
        .end_mpid(operator(), lose.clone(), end.clone())
        .await
        .unwrap();
    assert_eq!(holder().await, None);
    let taken_back = add("lose", "2028-01-01T00:00:00Z").await.unwrap();
    assert!(taken_back.receipt.is_some(), "an entry");
    assert_eq!(holder().await, Some(lose.clone()));
    let again = add("lose", "2028-01-01T00:00:00Z").await.unwrap();
    assert!(again.receipt.is_none(), "nothing changed");

    escrow.end_mpid(operator(), lose, end).await.unwrap();
    add("gain", "2029-06-01T00:00:00Z").await.unwrap();
    let refused = add("lose", "2028-01-01T00:00:00Z").await.unwrap_err();
    assert_eq!(refused.blames(), Some(Code::WrongState));
}

#[tokio::test]
async fn the_meter_in_force_is_the_one_that_is_there_now() {
    let (escrow, _, _folder) = market().await;
    record(
        &escrow,
        vec![event("r1", "e1", supplied("LOSE", "2021-01-01"))],
    )
    .await;
    let state = |serial: &str, from: &str| {
        let said = json!({ "smart": true, "serial": serial, "effective_from": from });
        let statement = serde_json::from_value(said).unwrap();
        escrow.put_meter(caller("party:lose"), supply_point(0), statement)
    };
    let serial = async || {
        point(&escrow)
            .await
            .meter
            .unwrap()
            .serial
            .normalised()
            .to_owned()
    };
    state("NOW1", "2026-01-01").await.unwrap();
    let planned = state("SOON1", "2030-01-01").await.unwrap_err();
    assert_eq!(planned.blames(), Some(Code::MalformedRequest));
    let history = state("OLD1", "2022-01-01").await.unwrap();
    assert_eq!(history.body["in_force"], json!(false));
    assert_eq!(
        (serial().await.as_str(), point(&escrow).await.meter_versions),
        ("NOW1", 2)
    );
    let corrected = state("NOW2", "2026-01-01").await.unwrap();
    assert_eq!(corrected.body["in_force"], json!(true));
    assert_eq!(
        (serial().await.as_str(), point(&escrow).await.meter_versions),
        ("NOW2", 3)
    );
}

#[tokio::test]
async fn a_loser_whose_registration_was_void_is_no_loser() {
    let (escrow, _, _folder) = market().await;
    let pending = Change::Pending {
        supplier: "GAIN".parse().unwrap(),
        supply_start_date: "2027-02-01".parse().unwrap(),
        erroneous_return: false,
    };
    let events = vec![
        event("r1", "e1", supplied("LOSE", "2021-01-01")),
        event("r2", "e2", pending),
    ];
    record(&escrow, events).await;
    let loser = async || point(&escrow).await.handovers[0].losing_party.clone();
    assert_eq!(loser().await, Some("lose".parse().unwrap()));
    record(&escrow, vec![event("r1", "e3", Change::Annulled)]).await;
    assert_eq!(loser().await, None);
}

#[tokio::test]
async fn a_feed_that_names_one_supply_point_again_and_again_is_stopped() {
    let (escrow, _, _folder) = market().await;
    let events = (0..201).map(|n| {
        let name = format!("r{n}");
        event(&name, &name, supplied("LOSE", "2021-01-01"))
    });
    let results = record(&escrow, events.collect()).await;
    let (last, others) = results.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|result| *result == RecordResult::Recorded)
    );
    assert_eq!(*last, RecordResult::Refused(Code::RegistrationInvalid));
}

#[tokio::test]
async fn an_idempotency_key_is_remembered_though_nothing_was_appended() {
    let (escrow, _, _folder) = market().await;
    let submit = |request: &[u8]| {
        let idempotency = Idempotency {
            key: "k".to_owned(),
            request: Digest::of(request),
            repeat: Repeat::Answer,
        };
        escrow.submit(Caller::service(), Some(idempotency), Again)
    };
    submit(b"one").await.unwrap();
    submit(b"one").await.unwrap();
    let reused = submit(b"another").await.unwrap_err();
    assert_eq!(reused.blames(), Some(Code::IdempotencyKeyReused));
}

#[tokio::test]
async fn an_epoch_that_began_unnoticed_is_noted_in_the_next_round() {
    let (escrow, clock, _folder) = market().await;
    let shared = &escrow.shared;
    shared
        .custody
        .begin_epoch(clock.now(), &SystemRandom)
        .unwrap();
    escrow.roll_epochs().await.unwrap();
    let noted = newest(&escrow, "epoch.begun").await;
    assert_eq!(noted.shown()["epoch"], json!(2));
    let known = size(&escrow).await;
    escrow.roll_epochs().await.unwrap();
    assert_eq!(size(&escrow).await, known);
}

#[tokio::test]
async fn what_was_counted_when_the_service_stops_is_written() {
    let (escrow, _, _folder) = market().await;
    let party: Identity = "urn:cos-escrow:party:lose".parse().unwrap();
    escrow.count_refusal(&party, Code::CheckDigit);
    escrow.write_summaries().await.unwrap();
    assert!(
        escrow
            .shared
            .newest_of("refusals.summary")
            .await
            .unwrap()
            .is_none()
    );
    escrow.write_last_summaries().await.unwrap();
    let summary = newest(&escrow, "refusals.summary").await;
    assert_eq!(summary.shown()["count"], json!(1));
}

#[tokio::test]
async fn database_and_backup_are_for_their_owner_alone() {
    let (escrow, _, folder) = market().await;
    let backup = folder.path().join("backup.db");
    escrow.store().backup(&backup).await.unwrap();
    for name in ["escrow.db", "escrow.db-wal", "escrow.db-shm", "backup.db"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
