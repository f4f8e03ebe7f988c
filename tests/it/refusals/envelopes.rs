//! Envelopes that are not what they say: refused, and nothing of them is stored.

use std::time::Duration;

use cos_escrow::client::{seal_package, seal_read};
use cos_escrow::envelope::{Envelope, Kem, Recipient, SealingKeyPair};
use cos_escrow::types::SystemRandom;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::json;

use super::door::Door;
use super::world::{NOWHERE, World, closing_read, deposit_body, package, package_at, switched};

#[tokio::test]
async fn an_envelope_with_any_byte_changed_is_refused_and_not_stored() {
    let world = World::open().await;
    let bytes = world.sealed(world.loser(), &package()).await.encode();
    let door = world.door_of("LOSE").await;
    let flipped = stream::iter(0..bytes.len()).map(|at| {
        let (door, mut changed) = (&door, bytes.clone());
        changed[at] ^= 1 << (at % 8);
        async move { (at, deposit(door, &format!("flip-{at}"), &[changed]).await) }
    });
    let refusals: Vec<_> = flipped.buffer_unordered(32).collect().await;
    assert_eq!(refusals.len(), bytes.len());
    for (at, (status, code)) in refusals {
        assert!((400..500).contains(&status), "byte {at}: {status} {code}");
        assert_ne!(code, "rate_limited", "byte {at}");
    }
    for length in [0, 1, 5, bytes.len() / 2, bytes.len() - 1] {
        let refusal = deposit(&door, &format!("cut-{length}"), &[bytes[..length].to_vec()]).await;
        assert_eq!(refusal, refused("envelope_malformed"), "{length} bytes");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert_eq!(
        deposit(&door, "longer", &[longer]).await,
        refused("envelope_malformed")
    );
    assert_eq!(world.entries("package.deposited").await.len(), 0);
    // The envelope itself is as good as ever.
    assert_eq!(deposit(&door, "whole", &[bytes]).await.0, 201);
}

#[tokio::test]
async fn an_envelope_of_another_time_than_its_certificates_is_refused() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    let recipients = [(Recipient::Escrow, world.escrow_key().await)];
    let made_at = |at| {
        let depositor = world.loser().depositor(at);
        seal_package(&package(), None, &recipients, &depositor).unwrap()
    };
    let (minute, years) = (
        Duration::from_secs(60),
        Duration::from_secs(5 * 366 * 86_400),
    );
    let now = world.now();
    for (name, at, code) in [
        ("ahead", now.after(6 * minute), "stale_request"),
        ("far-ahead", now.after(years), "signature_invalid"),
        ("before-its-leaf", now.before(years), "signature_invalid"),
    ] {
        let refusal = deposit(&door, name, &[made_at(at).encode()]).await;
        assert_eq!(refusal, refused(code), "{name}");
    }
    let skewed = made_at(now.after(4 * minute)).encode();
    assert_eq!(deposit(&door, "skewed", &[skewed]).await.0, 201);
}

#[tokio::test]
async fn a_header_swapped_between_envelopes_is_refused() {
    let world = World::open().await;
    let ours = world.sealed(world.loser(), &package()).await.encode();
    let other = world.sealed(world.loser(), &package_at(NOWHERE)).await;
    // Both headers are of one length, as both supply points are.
    let (ours_header, other_header) = (header(&ours), other.body().header().encode());
    let at = find(&ours, &ours_header);
    let mut swapped = ours;
    swapped[at..at + other_header.len()].copy_from_slice(&other_header);
    let door = world.door_of("LOSE").await;
    assert_eq!(
        deposit(&door, "swapped", &[swapped]).await,
        refused("signature_invalid")
    );
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn an_envelope_of_another_depositor_is_refused() {
    let world = World::open().await;
    let envelope = world.sealed(world.loser(), &package()).await;
    let door = world.door_of("GAIN").await;
    let refusal = deposit(&door, "k", &[envelope.encode()]).await;
    assert_eq!(refusal, refused("envelope_mismatch"));

    // Nor does it help to sign for somebody else.
    let mut depositor = world.gainer().depositor(world.now());
    depositor.party = world.loser().party.clone();
    let recipients = [(Recipient::Escrow, world.escrow_key().await)];
    let forged = seal_package(&package(), None, &recipients, &depositor).unwrap();
    let loser = world.door_of("LOSE").await;
    let refusal = deposit(&loser, "k", &[forged.encode()]).await;
    assert_eq!(refusal, refused("signature_invalid"));
}

#[tokio::test]
async fn an_envelope_id_is_used_once() {
    let world = World::open().await;
    let envelope = world.sealed(world.loser(), &package()).await;
    let door = world.door_of("LOSE").await;
    assert_eq!(deposit(&door, "first", &[envelope.encode()]).await.0, 201);
    let again = deposit(&door, "second", &[envelope.encode()]).await;
    assert_eq!(again, (409, "envelope_reused".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), 1);
    assert_eq!(
        world.entries("deposit.refused").await[0]["leaf"]["code"],
        "envelope_reused"
    );
}

#[tokio::test]
async fn two_envelopes_of_one_id_in_one_deposit_are_refused() {
    let world = World::open().await;
    let package = world.sealed(world.loser(), &package()).await;
    let id = package.body().header().envelope_id;
    let read = read_with_id(&world, id.as_bytes()).await;
    let door = world.door_of("LOSE").await;
    let refusal = deposit(&door, "k", &[package.encode(), read.encode()]).await;
    assert_eq!(refusal, (409, "envelope_reused".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn a_deposit_is_of_one_meter_and_has_one_envelope_of_a_kind() {
    let world = World::open().await;
    let here = world.sealed(world.loser(), &package()).await.encode();
    let again = world.sealed(world.loser(), &package()).await.encode();
    let elsewhere = world
        .sealed(world.loser(), &package_at(NOWHERE))
        .await
        .encode();
    let door = world.door_of("LOSE").await;
    for (case, envelopes) in [
        ("two-packages", vec![here.clone(), again.clone()]),
        ("two-supply-points", vec![here.clone(), elsewhere]),
        ("many", vec![here; 200]),
    ] {
        let refusal = deposit(&door, case, &envelopes).await;
        assert_eq!(refusal, refused("envelope_mismatch"), "{case}");
    }
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn a_stanza_for_the_key_of_another_party_is_refused() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    let gainer = Recipient::Party(world.gainer().party.clone());
    let theirs = world.stranger().sealing.public();
    let unpublished = SealingKeyPair::generate(Kem::XWing, &SystemRandom);
    for (case, key) in [("another-party", theirs), ("nobody", unpublished.public())] {
        let escrow = (Recipient::Escrow, world.escrow_key().await);
        let recipients = [escrow, (gainer.clone(), key.clone())];
        let depositor = world.loser().depositor(world.now());
        let envelope = seal_package(&package(), None, &recipients, &depositor).unwrap();
        let refusal = deposit(&door, case, &[envelope.encode()]).await;
        assert_eq!(refusal, refused("stanza_foreign"), "{case}");
    }
    // Nor is a key that is not the escrow's passed off as the escrow's.
    let recipients = [(Recipient::Escrow, theirs.clone())];
    let depositor = world.loser().depositor(world.now());
    let envelope = seal_package(&package(), None, &recipients, &depositor).unwrap();
    let refusal = deposit(&door, "escrow", &[envelope.encode()]).await;
    assert_eq!(refusal, refused("stanza_foreign"));
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn a_stranger_deposits_nothing() {
    let world = World::deposited().await;
    let envelope = world.sealed(world.stranger(), &package()).await;
    let named = world.deposit("THRD", Some(switched()), &[&envelope]).await;
    assert_eq!(named.refusal(), (404, "not_found".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), 1);
}

#[tokio::test]
async fn a_stranger_cannot_tell_by_a_deposit_whether_somebody_supplies() {
    let world = World::deposited().await;
    let mut replies = Vec::new();
    for point in [super::world::POINT, NOWHERE] {
        let envelope = world.sealed(world.stranger(), &package_at(point)).await;
        let reply = world.deposit("THRD", None, &[&envelope]).await;
        assert_eq!(reply.refusal(), (403, "depositor_not_allowed".to_owned()));
        replies.push(reply.body.len());
    }
    assert_eq!(replies[0], replies[1]);
}

#[tokio::test]
async fn a_gainer_that_is_not_registered_yet_is_told_so() {
    let world = World::deposited().await;
    let envelope = world.sealed(world.gainer(), &package()).await;
    let early = world.deposit("GAIN", Some(switched()), &[&envelope]).await;
    assert_eq!(early.refusal(), (403, "depositor_not_allowed".to_owned()));
}

#[tokio::test]
async fn an_envelope_for_another_switch_is_refused() {
    let world = World::deposited().await;
    let depositor = world.loser().depositor(world.now());
    let recipients = [(Recipient::Escrow, world.escrow_key().await)];
    let other = "2025-07-02".parse().unwrap();
    let envelope = seal_package(&package(), Some(other), &recipients, &depositor).unwrap();
    let refusal = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
    assert_eq!(refusal.refusal(), refused("envelope_mismatch"));
}

async fn deposit(door: &Door, key: &str, envelopes: &[Vec<u8>]) -> (u16, String) {
    let reply = door
        .post_as(key, "/v1/deposits", deposit_body(envelopes))
        .await;
    match reply.status {
        201 => (201, String::new()),
        _ => reply.refusal(),
    }
}

fn refused(code: &str) -> (u16, String) {
    (422, code.to_owned())
}

fn header(envelope: &[u8]) -> Vec<u8> {
    Envelope::decode(envelope).unwrap().body().header().encode()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|w| w == part).unwrap()
}

/// A closing read whose envelope has this id: randomness that begins with it.
async fn read_with_id(world: &World, id: &[u8; 16]) -> Envelope {
    let first = FirstThen(std::sync::Mutex::new(Some(*id)));
    let mut depositor = world.loser().depositor(world.now());
    depositor.random = &first;
    let recipients = [(Recipient::Escrow, world.escrow_key().await)];
    let mut read = closing_read("head end", "10229.9");
    // Salted before, so that the id is what is drawn first.
    read.salt = Some(cos_escrow::envelope::read::Salt::random(&SystemRandom));
    let make = package().meter.make;
    let envelope = seal_read(&read, make, &recipients, &depositor).unwrap();
    assert_eq!(
        json!(envelope.body().header().envelope_id),
        json!(cos_escrow::types::EnvelopeId(*id))
    );
    envelope
}

struct FirstThen(std::sync::Mutex<Option<[u8; 16]>>);

impl cos_escrow::types::Random for FirstThen {
    fn fill(&self, bytes: &mut [u8]) {
        match self.0.lock().unwrap().take() {
            Some(first) => bytes.copy_from_slice(&first),
            None => SystemRandom.fill(bytes),
        }
    }
}
