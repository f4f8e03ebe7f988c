//! A service with witnesses: cosigned behind its answers, or before them; and a rewind that only witnesses can tell.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cos_escrow::client::Request;
use cos_escrow::envelope::Kem;
use cos_escrow::tlog::{Note, Receipt, TrustPolicy};
use serde_json::Value;

use super::process::{CHAIN, KEY, Kind, Prepared, Running};
use crate::live::{Live, Service, deposit_of, now, release_of};
use crate::verifiers::{Verifier, mirror};

/// A service whose log has a witness.
struct World {
    live: Live,
    service: Service,
    prepared: Prepared,
    witness: Running,
}

impl World {
    async fn open(kind: Kind, settings: &str) -> Self {
        let (live, service) = Live::open().await;
        let registrar = live.staff("registrar", &service);
        live.register(&registrar, &[live.event(0), live.event(1)])
            .await
            .unwrap();
        let auditor = live.issue("urn:cos-escrow:auditor:live", now());
        live.write_issued("auditor", &auditor);
        let log_key = service.log_key.to_string();
        fs::write(live.path("log.vkey"), &log_key).unwrap();
        assert!(service.stop().await.success());

        let prepared = kind.prepare(&live.path("witness"), &log_key).await;
        for (from, to) in [("server.pem", CHAIN), ("server.key", KEY)] {
            fs::copy(live.pki(from), live.path("witness").join(to)).unwrap();
        }
        let witness = prepared.serve("127.0.0.1:0").await;
        let policy = format!(
            "log {log_key}\nwitness w1 {} {}\nquorum w1\n",
            prepared.vkey, witness.url
        );
        fs::write(live.path("witnesses.policy"), policy).unwrap();
        fs::write(live.path("witness.vkey"), &prepared.vkey).unwrap();
        let mut file = fs::OpenOptions::new();
        let mut file = file.append(true).open(live.path("escrow.toml")).unwrap();
        write!(
            file,
            "\n[witnesses]\npolicy = \"witnesses.policy\"\n{settings}"
        )
        .unwrap();
        let service = live.start().await;
        Self {
            live,
            service,
            prepared,
            witness,
        }
    }

    fn policy(&self) -> TrustPolicy {
        let text = fs::read_to_string(self.live.path("witnesses.policy")).unwrap();
        text.parse().unwrap()
    }

    /// The checkpoint that auditors are given, once the witness has cosigned at least this many entries.
    async fn cosigned(&self, size: u64) -> Note {
        let auditor = self.live.staff("auditor", &self.service);
        let policy = self.policy();
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = auditor.send(Request::get("/log/checkpoint")).await.unwrap();
            let note: Note = str::from_utf8(&answer.body).unwrap().parse().unwrap();
            if policy
                .open(&note, None)
                .is_ok_and(|t| t.checkpoint.head.size >= size)
            {
                return note;
            }
            assert!(Instant::now() < until, "not cosigned: {note}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn deposit(&self, number: u64) -> Request {
        let loser = self.live.client(&self.live.loser.tls, &self.service);
        let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
        deposit_of(&self.live.event(number), &self.live.loser, &escrow)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_is_cosigned_behind_the_answers_by_either_witness() {
    for kind in [Kind::Ours, Kind::OursWithTls, Kind::Foreign] {
        let world = World::open(kind, "roots = \"pki/root.pem\"\n").await;
        world.cosigned(1).await;
        let loser = world.live.client(&world.live.loser.tls, &world.service);
        let deposit = world.deposit(0).await;
        let answer: Value = loser.send(deposit).await.unwrap().json().unwrap();
        let index = answer["receipt"]["index"].as_u64().unwrap();
        let note = world.cosigned(index + 1).await;

        // The copy keeps the cosignature, and verifiers that nobody here wrote demand it.
        let dir = world.live.path("mirror");
        mirror(&world.live, &world.service, &dir).await;
        let old = world.live.path("old.checkpoint");
        fs::write(&old, note.to_string()).unwrap();
        let vkey = world.live.path("log.vkey");
        for verifier in Verifier::all() {
            assert_eq!(verifier.verify(&dir, &vkey, &old), Ok(()), "{kind:?}");
        }
        let witness = world.live.path("witness.vkey");
        assert_eq!(Verifier::python_with(&dir, &vkey, &old, &witness), Ok(()));
        by_policy(&world, &dir, Some(0)).await;
        // Without the cosignature it is still the log's, but not what the policy wants.
        let bare = note.only(std::slice::from_ref(&world.service.log_key));
        fs::write(dir.join("checkpoint"), bare.to_string()).unwrap();
        assert!(Verifier::python_with(&dir, &vkey, &old, &witness).is_err());
        by_policy(&world, &dir, Some(7)).await;
    }
}

async fn by_policy(world: &World, dir: &Path, code: Option<i32>) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_cos-escrow"))
        .args(["log", "verify", "--dir"])
        .arg(dir)
        .arg("--policy")
        .arg(world.live.path("witnesses.policy"))
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), code, "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_quorum_mode_nothing_is_answered_that_is_not_cosigned() {
    let world = World::open(Kind::Ours, "mode = \"quorum\"\ntimeout_seconds = 2\n").await;
    let policy = world.policy();
    let loser = world.live.client(&world.live.loser.tls, &world.service);
    let gainer = world.live.client(&world.live.gainer.tls, &world.service);
    let deposit = world.deposit(0).await;
    let answer: Value = loser.send(deposit).await.unwrap().json().unwrap();
    is_cosigned(&answer, &policy);
    let release = release_of(&world.live.event(0));
    let answer: Value = gainer.send(release).await.unwrap().json().unwrap();
    is_cosigned(&answer, &policy);

    // Without the witness there is no answer, though the entry is made; and nothing is released.
    let address = world.witness.address().to_owned();
    let deposit = world.deposit(1).await;
    let release = release_of(&world.live.event(1));
    let World {
        live,
        service,
        prepared,
        witness,
    } = world;
    witness.kill().await;
    let loser = live.client(&live.loser.tls, &service);
    let gainer = live.client(&live.gainer.tls, &service);
    let late = loser.send(deposit.clone()).await.unwrap_err();
    assert_eq!(late.code(), Some("unavailable"), "{late}");
    let late = gainer.send(release.clone()).await.unwrap_err();
    assert_eq!(late.code(), Some("unavailable"), "{late}");

    // With it, the same requests are answered.
    let _witness = prepared.serve(&address).await;
    for (client, request) in [(&loser, deposit), (&gainer, release)] {
        let until = Instant::now() + PATIENCE;
        let answer = loop {
            match client.send(request.clone()).await {
                Ok(answer) => break answer,
                // It backs off for a while from a witness that failed.
                Err(error) => assert_eq!(error.code(), Some("unavailable"), "{error}"),
            }
            assert!(Instant::now() < until);
        };
        is_cosigned(&answer.json().unwrap(), &policy);
    }
}

fn is_cosigned(answer: &Value, policy: &TrustPolicy) {
    let receipt: Receipt = answer["receipt"]["proof"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let trusted = policy.open(receipt.checkpoint(), None).unwrap();
    assert_eq!(trusted.witnesses.len(), 1);
    assert!(trusted.checkpoint.head.size > receipt.index());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_with_its_anchor_is_fenced_by_what_a_witness_holds() {
    let world = World::open(Kind::Foreign, "").await;
    world.cosigned(1).await;
    // The anchor first: it may be behind the copy of the database, never ahead.
    fs::copy(world.live.path("anchor"), world.live.path("anchor.old")).unwrap();
    let backup = world.live.path("backup");
    let saved = world
        .live
        .run(&["db", "backup"], &[("--to", &backup)])
        .await;
    assert!(saved.status.success(), "{saved:?}");
    let loser = world.live.client(&world.live.loser.tls, &world.service);
    let deposit = world.deposit(0).await;
    let answer: Value = loser.send(deposit).await.unwrap().json().unwrap();
    let index = answer["receipt"]["index"].as_u64().unwrap();
    world.cosigned(index + 1).await;

    let World {
        live,
        service,
        witness: _witness,
        ..
    } = world;
    assert!(service.stop().await.success());
    let restored = live
        .run(&["db", "restore", "--yes"], &[("--from", &backup)])
        .await;
    assert!(restored.status.success(), "{restored:?}");
    fs::rename(live.path("anchor.old"), live.path("anchor")).unwrap();
    let service = live.start().await;
    let (status, checks) = service.probe("/readyz?verbose").await;
    assert_eq!(status, 503);
    let expected = "[-] log failed: witness witness.example/w1 holds a checkpoint of";
    assert!(checks.contains(expected), "{checks}");
    // It signs no head, not even one that was cosigned.
    let auditor = live.staff("auditor", &service);
    for path in ["/log/checkpoint", "/v1/log/checkpoint"] {
        let refused = auditor.send(Request::get(path)).await.unwrap_err();
        assert_eq!(refused.code(), Some("fenced"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn witnesses_that_are_gone_are_an_alarm_and_nothing_is_held_up() {
    let world = World::open(Kind::Ours, "alarm_seconds = 0\n").await;
    world.cosigned(1).await;
    assert_eq!(world.service.probe("/readyz").await.0, 200);
    let deposit = world.deposit(0).await;
    let World {
        live,
        service,
        witness,
        ..
    } = world;
    witness.kill().await;
    let loser = live.client(&live.loser.tls, &service);
    loser.send(deposit).await.unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, checks) = service.probe("/readyz?verbose").await;
        if status == 503 {
            assert!(
                checks.contains("[-] witnesses failed: the quorum"),
                "{checks}"
            );
            break;
        }
        assert!(Instant::now() < until, "{checks}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (_, metrics) = service.probe("/metrics").await;
    assert!(
        metrics.contains("cos_escrow_log_cosign_age_seconds"),
        "{metrics}"
    );
    assert!(
        metrics.contains("cos_escrow_witness_failures_total"),
        "{metrics}"
    );
}

/// Long enough for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
