//! A backup is put back after further operations: fenced, recovered from a mirror, at work again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cos_escrow::cli::demo::events::Event;
use cos_escrow::cli::demo::play::handover;
use cos_escrow::client::{ClientError, Request};
use cos_escrow::envelope::Kem;
use cos_escrow::tlog::OpenEntry;
use serde_json::{Value, json};

use crate::live::{
    Acknowledged, Live, Log, Mirror, Service, What, confirmation, deposit_of, now, release_of,
    release_request,
};
use crate::verifiers;

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_fenced_until_its_log_is_recovered() {
    let (live, service) = Live::open().await;
    let events: Vec<_> = (0..334).map(|number| live.event(number)).collect();
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &events).await.unwrap();
    let auditor = live.issue("urn:cos-escrow:auditor:live", now());

    let (backup, mirror, old_mirror) = (live.path("backup"), live.path("mirror"), live.path("old"));
    succeeds(&live.run(&["db", "backup"], &[("--to", &backup)]).await);
    let (deposits, others) = operations(&live, &service, &events[..167]).await;
    let mut tiles = Mirror::default();
    let reader = live.client(&auditor, &service);
    let half = tiles.fetch(&reader, &service.log_key).await;
    tiles.write(&half, &old_mirror);
    let (more_deposits, more_others) = operations(&live, &service, &events[167..]).await;
    let acknowledged: Vec<_> = [others, more_others].into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), 1_000);
    let log = tiles.fetch(&reader, &service.log_key).await;
    tiles.write(&log, &mirror);
    let pinned = live.pinned(&live.loser.tls, &service, "pinned");
    pinned.verified_checkpoint().await.unwrap();
    assert!(service.stop().await.success());

    succeeds(
        &live
            .run(&["db", "restore", "--yes"], &[("--from", &backup)])
            .await,
    );
    let service = live.start().await;
    let restored = is_fenced(&live, &service, &deposits[0]).await;
    assert!(service.stop().await.success());

    let behind = recover(&live, &old_mirror).await;
    assert_eq!(behind.status.code(), Some(5));
    let missing = format!(
        "entries {} to {} are missing",
        half.head.size,
        log.head.size - 1
    );
    let said = String::from_utf8_lossy(&behind.stderr).into_owned();
    assert!(said.contains(&missing), "{said}");

    let tampered = recover(&live, &tampered_copy(&tiles, &log, &live)).await;
    assert_eq!(tampered.status.code(), Some(5));
    let said = String::from_utf8_lossy(&tampered.stderr).into_owned();
    assert!(said.contains("entry 300 is not the one"), "{said}");

    // Of the releases, the gaining supplier has kept the receipts.
    let receipts = live.path("receipts.jsonl");
    let kept = acknowledged
        .iter()
        .filter(|receipt| receipt.what == What::Release);
    let kept: Vec<_> = kept.map(|receipt| receipt.document.clone()).collect();
    let mut foreign = kept.clone();
    foreign.last_mut().unwrap()["disclosures"] = kept[0]["disclosures"].clone();
    write_lines(&receipts, &foreign);
    let foreign = recover_with(&live, &mirror, &receipts).await;
    assert_eq!(foreign.status.code(), Some(5));

    write_lines(&receipts, &kept);
    let recovered = recover_with(&live, &mirror, &receipts).await;
    succeeds(&recovered);
    is_listed(&recovered, restored..log.head.size, &acknowledged);
    assert_eq!(recover(&live, &mirror).await.status.code(), Some(1));

    let service = live.start().await;
    let pinned = live.pinned(&live.loser.tls, &service, "pinned");
    pinned.verified_checkpoint().await.unwrap();
    let loser = live.client(&live.loser.tls, &service);
    let again = [
        (&events[0], &deposits[0]),
        (&events[333], &more_deposits[166]),
    ];
    for (_, deposit) in again {
        loser.acknowledged(deposit.clone()).await.unwrap();
    }
    is_found(&live, &service, &events[300]).await;
    waits_for_the_feed(&live, &service, &events[0]).await;
    for (event, _) in again {
        is_released(&live, &service, event).await;
    }
    let reader = live.client(&auditor, &service);
    let log = Mirror::default().fetch(&reader, &service.log_key).await;
    for receipt in &acknowledged {
        assert!(receipt.is_in(&log, &service.log_key), "{}", receipt.index);
    }
}

/// Whose numbers the lost entries used is known only from receipts; without them everybody goes on above all of them.
#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_an_actor_is_used_twice_after_a_recovery() {
    for are_kept in [false, true] {
        let (live, service) = Live::open().await;
        let events: Vec<_> = (0..2).map(|number| live.event(number)).collect();
        let registrar = live.staff("registrar", &service);
        live.register(&registrar, &events).await.unwrap();
        let (_, before) = operations(&live, &service, &events[..1]).await;
        let (backup, mirror) = (live.path("backup"), live.path("mirror"));
        succeeds(&live.run(&["db", "backup"], &[("--to", &backup)]).await);
        let (deposits, lost) = operations(&live, &service, &events[1..]).await;
        let mut tiles = Mirror::default();
        let auditor = live.staff("auditor", &service);
        let log = tiles.fetch(&auditor, &service.log_key).await;
        tiles.write(&log, &mirror);
        assert!(service.stop().await.success());

        let from = [("--from", backup.as_path())];
        succeeds(&live.run(&["db", "restore", "--yes"], &from).await);
        let kept = lost.iter().filter(|_| are_kept);
        let kept: Vec<_> = kept.map(|receipt| receipt.document.clone()).collect();
        let receipts = live.path("receipts.jsonl");
        write_lines(&receipts, &kept);
        succeeds(&recover_with(&live, &mirror, &receipts).await);

        let service = live.start().await;
        let loser = live.client(&live.loser.tls, &service);
        let again = loser.acknowledged(deposits[0].clone()).await.unwrap();
        let (_, number) = numbered(&again["receipt"]);
        let used = before.iter().chain(&lost);
        let used: BTreeSet<_> = used.map(|receipt| numbered(&receipt.document)).collect();
        assert_eq!(used.len(), 6);
        assert_eq!(lost[0].what, What::Deposit);
        let expected = match are_kept {
            true => numbered(&lost[0].document).1,
            false => log.head.size,
        };
        assert_eq!(number, expected + 1, "{used:?}");
    }
}

/// Whose entry a receipt is of, and its number among those of the same actor.
fn numbered(receipt: &Value) -> (String, u64) {
    let leaf = receipt["leaf"].as_str().unwrap();
    let entry = OpenEntry::read(&BASE64_URL_SAFE_NO_PAD.decode(leaf).unwrap()).unwrap();
    let disclosures: Vec<String> = serde_json::from_value(receipt["disclosures"].clone()).unwrap();
    let hidden = entry.open(&disclosures).unwrap();
    let number = hidden["actor_sequence"].as_u64().unwrap();
    (hidden["actor"].as_str().unwrap().to_owned(), number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_on_from_a_backup_is_never_mended() {
    let (live, service) = Live::open().await;
    let events: Vec<_> = (0..4).map(|number| live.event(number)).collect();
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &events).await.unwrap();
    let auditor = live.issue("urn:cos-escrow:auditor:live", now());
    let (backup, mirror) = (live.path("backup"), live.path("mirror"));
    succeeds(&live.run(&["db", "backup"], &[("--to", &backup)]).await);
    operations(&live, &service, &events[..3]).await;
    let pinned = live.pinned(&live.loser.tls, &service, "pinned");
    pinned.verified_checkpoint().await.unwrap();
    let mut tiles = Mirror::default();
    let log = tiles
        .fetch(&live.client(&auditor, &service), &service.log_key)
        .await;
    tiles.write(&log, &mirror);
    assert!(service.stop().await.success());

    // Somebody hides the anchor, so that the backup is served as if nothing had been lost.
    succeeds(
        &live
            .run(&["db", "restore", "--yes"], &[("--from", &backup)])
            .await,
    );
    fs::rename(live.path("anchor"), live.path("hidden")).unwrap();
    succeeds(&live.run(&["db", "anchor", "--yes"], &[]).await);
    let service = live.start().await;
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &events[3..]).await.unwrap();
    operations(&live, &service, &events[3..]).await;
    let pinned = live.pinned(&live.loser.tls, &service, "pinned");
    let alarmed = pinned.verified_checkpoint().await.unwrap_err();
    assert!(matches!(alarmed, ClientError::Verification(_)), "{alarmed}");
    assert!(service.stop().await.success());

    fs::rename(live.path("hidden"), live.path("anchor")).unwrap();
    let service = live.start().await;
    let (_, checks) = service.probe("/readyz?verbose").await;
    assert!(checks.contains("[-] log failed"), "{checks}");
    assert!(service.stop().await.success());
    let refused = recover(&live, &mirror).await;
    assert_eq!(refused.status.code(), Some(5));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("does not continue the database"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_its_anchor_is_fenced_until_it_is_accepted() {
    let (live, service) = Live::open().await;
    let anchor = live.path("anchor");
    let early = fs::read(&anchor).unwrap();
    let events: Vec<_> = (0..3).map(|number| live.event(number)).collect();
    let registrar = live.staff("registrar", &service);
    live.register(&registrar, &events).await.unwrap();
    let (deposits, acknowledged) = operations(&live, &service, &events[..1]).await;
    let loser = live.client(&live.loser.tls, &service);
    let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
    let waiting = deposit_of(&events[2], &live.loser, &escrow);
    loser.send(waiting).await.unwrap();
    assert!(service.stop().await.success());
    let kept = fs::read_to_string(&anchor).unwrap();

    // What was committed and cut off before its anchor is anchored by the next start.
    fs::write(&anchor, early).unwrap();
    assert!(live.start().await.stop().await.success());
    let anchored = fs::read_to_string(&anchor).unwrap();
    assert_eq!(anchored.lines().max(), kept.lines().max());
    let kept = anchored;

    let fresh = live.run(&["db", "anchor", "--yes"], &[]).await;
    assert_eq!(
        fresh.status.code(),
        Some(1),
        "an anchor that is there stays"
    );
    assert_eq!(fs::read_to_string(&anchor).unwrap(), kept);
    fs::remove_file(&anchor).unwrap();
    // Neither the first start nor the next one makes a new promise by itself.
    for _ in 0..2 {
        let service = live.start().await;
        let (status, checks) = service.probe("/readyz?verbose").await;
        assert_eq!(status, 503);
        let reason = "[-] log failed: the anchor is gone or damaged";
        assert!(checks.contains(reason), "{checks}");
        let loser = live.client(&live.loser.tls, &service);
        let refused = loser.send(deposits[0].clone()).await.unwrap_err();
        assert_eq!(refused.code(), Some("fenced"));
        assert!(service.stop().await.success());
    }
    let unsaid = live.run(&["db", "anchor"], &[]).await;
    assert_eq!(unsaid.status.code(), Some(2));
    succeeds(&live.run(&["db", "anchor", "--yes"], &[]).await);

    let service = live.start().await;
    waits_for_the_feed(&live, &service, &events[2]).await;
    operations(&live, &service, &events[1..2]).await;
    let auditor = live.staff("auditor", &service);
    let log = Mirror::default().fetch(&auditor, &service.log_key).await;
    let adopted = |leaf: &&Vec<u8>| String::from_utf8_lossy(leaf).contains("anchor.adopted");
    assert_eq!(log.leaves.iter().filter(adopted).count(), 1);
    assert!(
        acknowledged
            .iter()
            .all(|receipt| receipt.is_in(&log, &service.log_key))
    );
}

/// Deposits and confirms everything, and releases all but the last: three operations each, but for the last handover
/// of the second half. Returns the requests to deposit, and what was acknowledged.
async fn operations(
    live: &Live,
    service: &Service,
    events: &[Event],
) -> (Vec<Request>, Vec<Acknowledged>) {
    let loser = live.client(&live.loser.tls, service);
    let gainer = live.client(&live.gainer.tls, service);
    let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
    let mut acknowledged = Vec::new();
    let mut deposits = Vec::new();
    for event in events {
        let deposit = deposit_of(event, &live.loser, &escrow);
        deposits.push(deposit.clone());
        let mut steps = vec![(What::Deposit, &loser, deposit)];
        // 334 deposits and 333 of the others make a thousand.
        if event.mpxn != live.event(333).mpxn {
            let release = release_of(event);
            steps.push((What::Release, &gainer, release));
            steps.push((
                What::Confirmation,
                &gainer,
                confirmation(event, &live.gainer),
            ));
        }
        for (what, client, request) in steps {
            let answer: Value = client.send(request).await.unwrap().json().unwrap();
            acknowledged.push(Acknowledged::read(what, event, &answer));
        }
    }
    (deposits, acknowledged)
}

/// Not ready and why, writes refused, reads answered. Returns the size of the log.
async fn is_fenced(live: &Live, service: &Service, deposit: &Request) -> u64 {
    let (status, checks) = service.probe("/readyz?verbose").await;
    assert_eq!(status, 503);
    let end = service.ends_early().await;
    let end = end.unwrap_or_else(|| panic!("another reason: {checks}"));

    let loser = live.client(&live.loser.tls, service);
    let refused = loser.send(deposit.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Some("fenced"));
    let list = Request::get("/v1/handovers?role=losing&limit=1000");
    let list: Value = loser.send(list).await.unwrap().json().unwrap();
    assert_eq!(list["handovers"].as_array().map(Vec::len), Some(334));

    signs_nothing(live, service).await;
    end
}

/// Neither a checkpoint nor what rests on one; and who asks is told why.
async fn signs_nothing(live: &Live, service: &Service) {
    let auditor = live.issue("urn:cos-escrow:auditor:live", now());
    let client = live.client(&auditor, service);
    for path in [
        "/v1/log/checkpoint",
        "/log/checkpoint",
        "/v1/parties/escrow/sealing-keys",
    ] {
        let refused = client.send(Request::get(path)).await.unwrap_err();
        assert_eq!(refused.code(), Some("fenced"), "{path}");
    }
    live.write_issued("auditor", &auditor);
    fs::write(live.path("log.vkey"), service.log_key.to_string()).unwrap();
    let told = verifiers::auditor(live, service, &["log", "checkpoint"]).await;
    assert_eq!(told.status.code(), Some(6), "{told:?}");
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains("read-only until its log has been recovered"),
        "{told}"
    );
    assert!(
        told.contains("its operator has to recover the log"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_lost_database_and_anchor_begins_no_second_log_under_its_key() {
    let (live, service) = Live::open().await;
    let key = service.log_key.to_string();
    let mut tiles = Mirror::default();
    let auditor = live.staff("auditor", &service);
    let log = tiles.fetch(&auditor, &service.log_key).await;
    tiles.write(&log, &live.path("mirror"));
    assert!(service.stop().await.success());

    // The database alone.
    delete_database(&live);
    let service = live.start().await;
    assert_eq!(service.ends_early().await, Some(0));
    signs_nothing(&live, &service).await;
    assert!(service.stop().await.success());

    // The anchor as well: no start makes a promise, and nothing is adopted by mistake.
    delete_database(&live);
    fs::remove_file(live.path("anchor")).unwrap();
    for _ in 0..2 {
        let service = live.start().await;
        let (status, checks) = service.probe("/readyz?verbose").await;
        assert_eq!(status, 503);
        let reason = "the anchor is gone or damaged, and the database has 0 entries";
        assert!(checks.contains(reason), "{checks}");
        assert_eq!(service.log_key.to_string(), key);
        signs_nothing(&live, &service).await;
        assert!(service.stop().await.success());
    }
    let refused = live.run(&["db", "anchor", "--yes"], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("the log is empty"), "{said}");

    // A mirror is the way out.
    succeeds(&recover(&live, &live.path("mirror")).await);
    let service = live.start().await;
    let (_, checks) = service.probe("/readyz?verbose").await;
    assert!(checks.contains("[+] log ok"), "{checks}");
    let auditor = live.staff("auditor", &service);
    let back = Mirror::default().fetch(&auditor, &service.log_key).await;
    assert_eq!(back.leaves[..log.leaves.len()], log.leaves[..]);
    assert!(service.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_begins_anew_only_for_an_operator_who_says_that_nothing_is_left() {
    let (live, service) = Live::open().await;
    assert!(service.stop().await.success());
    let anew = ["db", "anchor", "--yes", "--empty"];
    fs::rename(live.path("anchor"), live.path("hidden")).unwrap();
    let refused = live.run(&anew, &[]).await;
    assert_eq!(refused.status.code(), Some(1), "there are entries");
    delete_database(&live);
    succeeds(&live.run(&anew, &[]).await);
    let service = live.start().await;
    let auditor = live.staff("auditor", &service);
    let log = Mirror::default().fetch(&auditor, &service.log_key).await;
    assert_eq!(log.head.size, 1);
    assert!(String::from_utf8_lossy(&log.leaves[0]).contains("log.genesis"));
    assert!(service.stop().await.success());

    // The old promise is not one of the new log; and without its keys nothing is begun where something was promised.
    fs::rename(live.path("hidden"), live.path("anchor")).unwrap();
    delete_database(&live);
    fs::remove_dir_all(live.path("keys")).unwrap();
    let ended = live.spawn().listening_or_ended().await.err();
    let (status, said) = ended.expect("there is no key");
    assert_eq!(status.code(), Some(1), "{said:?}");
    assert!(!live.path("keys").exists());
}

fn delete_database(live: &Live) {
    for file in ["escrow.db", "escrow.db-wal", "escrow.db-shm"] {
        if let Err(error) = fs::remove_file(live.path(file)) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

/// A copy of the mirror in which one byte of entry 300 is another.
fn tampered_copy(tiles: &Mirror, log: &Log, live: &Live) -> PathBuf {
    let folder = live.path("tampered");
    tiles.write(log, &folder);
    let bundle = folder.join("tile/entries/001");
    let mut bytes = fs::read(&bundle).unwrap();
    let before: usize = log.leaves[256..300].iter().map(|leaf| leaf.len() + 2).sum();
    bytes[before + 2 + 20] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    folder
}

async fn recover(live: &Live, mirror: &Path) -> Output {
    let command = ["db", "recover", "--output", "json"];
    live.run(&command, &[("--mirror", mirror)]).await
}

/// Every entry that was lost is listed, every operation among them as what it was.
fn is_listed(recovered: &Output, lost: std::ops::Range<u64>, acknowledged: &[Acknowledged]) {
    let listed: Vec<Value> = serde_json::from_slice(&recovered.stdout).unwrap();
    let kinds: BTreeMap<u64, &str> = listed
        .iter()
        .map(|entry| {
            (
                entry["index"].as_u64().unwrap(),
                entry["kind"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(kinds.keys().copied().eq(lost));
    for receipt in acknowledged {
        let kind = match receipt.what {
            What::Deposit => "package.deposited",
            What::Release => "release.granted",
            What::Confirmation => "handover.confirmed",
        };
        assert_eq!(kinds.get(&receipt.index), Some(&kind));
    }
    let deposit = listed
        .iter()
        .find(|entry| entry["kind"] == "package.deposited");
    assert_eq!(
        deposit.unwrap()["again"],
        json!("the depositor deposits again")
    );
}

/// An auditor's search finds what was recovered: by supply point where a receipt disclosed it, by kind in any case.
async fn is_found(live: &Live, service: &Service, event: &Event) {
    let auditor = live.staff("auditor", service);
    let path = "/v1/log/entries?limit=1000&kind";
    let about = format!("{path}=release.granted&supply_point={}", event.mpxn);
    for (search, expected, disclosed) in [
        (about.as_str(), 1, true),
        (
            "/v1/log/entries?limit=1000&kind=handover.confirmed",
            333,
            false,
        ),
    ] {
        let found: Value = auditor
            .send(Request::get(search))
            .await
            .unwrap()
            .json()
            .unwrap();
        let found = found["entries"].as_array().unwrap();
        assert_eq!(found.len(), expected, "{search}");
        for entry in found {
            assert_eq!(entry.get("disclosed").is_some(), disclosed, "{entry}");
        }
    }
}

fn write_lines(file: &Path, documents: &[Value]) {
    let lines: Vec<_> = documents.iter().map(Value::to_string).collect();
    fs::write(file, lines.join("\n")).unwrap();
}

async fn recover_with(live: &Live, mirror: &Path, receipts: &Path) -> Output {
    let command = ["db", "recover", "--output", "json"];
    let arguments = [("--mirror", mirror), ("--receipts", receipts)];
    live.run(&command, &arguments).await
}

/// The registrations that were lost could name another supplier: nothing is released before the registrar has spoken.
async fn waits_for_the_feed(live: &Live, service: &Service, event: &Event) {
    let (status, checks) = service.probe("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(checks.contains("[+] log ok"), "{checks}");
    assert!(checks.contains("[-] registration_feed failed"), "{checks}");
    let gainer = live.client(&live.gainer.tls, service);
    let request = release_request(event);
    let early = gainer.release(handover(event), &request, "early").await;
    assert_eq!(early.unwrap_err().code(), Some("registration_stale"));
    let registrar = live.staff("registrar", service);
    let again = std::slice::from_ref(event);
    live.register(&registrar, again).await.unwrap();
    assert_eq!(service.probe("/readyz").await.0, 200);
}

/// The package is released as it was deposited.
async fn is_released(live: &Live, service: &Service, event: &Event) {
    let gainer = live.client(&live.gainer.tls, service);
    let key = format!("again-{}", event.event_id);
    let request = release_request(event);
    let release = gainer.release(handover(event), &request, &key).await;
    let release = release.unwrap().release;
    let package = event.package().unwrap().to_json();
    let mut opened = release.open(&live.gainer.sealing);
    assert!(opened.any(|(_, content)| content.unwrap().expose() == package.expose()));
}

fn succeeds(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
