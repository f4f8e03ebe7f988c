//! The same question again, and questions that cross: which bytes come back.

use std::sync::Mutex;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::client::seal_package;
use cos_escrow::envelope::{Draft, Envelope, Recipient, Release, SealingPublicKey, Stanza};
use cos_escrow::types::{Digest, Random};
use futures_util::future::join_all;
use serde_json::json;

use super::door::Reply;
use super::generations::{confirmed_rotation, generations};
use super::world::{SERIAL, World, package, switched};

#[tokio::test]
async fn a_release_asked_for_again_under_its_key_is_the_same_though_deposits_came_between() {
    let mut world = World::releasable().await;
    let first = world.release("GAIN", switched(), "k1").await;
    let late = world.sealed(world.loser(), &package()).await;
    let deposited = world.deposit("LOSE", Some(switched()), &[&late]).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");

    let again = world.release("GAIN", switched(), "k1").await;
    for field in ["grant", "granted_at", "release"] {
        assert_eq!(again.json()[field], first.json()[field], "{field}");
    }
    let anew = world.release("GAIN", switched(), "k2").await;
    assert_eq!(generations(world.gainer(), &anew), [2, 1]);
    // A confirmation retires what it holds; who has it already is still answered as before.
    confirmed_rotation(&mut world, "GAIN", switched(), 3).await;
    let retired = world.release("GAIN", switched(), "k1").await;
    assert_eq!(retired.json()["release"], first.json()["release"]);
    let now = world.release("GAIN", switched(), "k3").await;
    assert_eq!(generations(world.gainer(), &now), [3]);

    // Once it is erased there is only what the meter holds.
    world.wait_until("2025-07-05T12:00:00Z").await;
    let escrow = &world.market.instance.escrow;
    escrow.close_confirmed().await.unwrap();
    assert_eq!(world.entries("handover.closed").await.len(), 1);
    let erased = world.release("GAIN", switched(), "k1").await;
    assert_eq!(generations(world.gainer(), &erased), [3]);
}

#[tokio::test]
async fn of_first_releases_that_cross_each_is_delivered_again() {
    let world = World::releasable().await;
    let path = format!("/v1/handovers/{}/release", switched());
    let mut doors = Vec::new();
    for _ in 0..12 {
        doors.push(world.door_of("GAIN").await);
    }
    // Grants of one envelope, but not the same: each wants its stanza made.
    let body = |n: usize| match n % 2 {
        0 => json!({ "meter_serial": SERIAL }).to_string(),
        _ => json!({ "meter_serial": SERIAL, "reseal": true }).to_string(),
    };
    let mut releases = Vec::new();
    for _ in 0..2 {
        let asked = doors.iter().enumerate().map(|(n, door)| {
            let (key, path) = (format!("k{n}"), path.clone());
            async move { door.post_as(&key, &path, body(n)).await }
        });
        for reply in join_all(asked).await {
            assert_eq!(generations(world.gainer(), &reply), [1]);
            releases.push(reply.json()["release"].to_string());
        }
    }
    assert_eq!(releases[..12], releases[12..]);
    assert_eq!(world.entries("release.granted").await.len(), 2);
}

#[tokio::test]
async fn a_stanza_of_the_depositor_that_does_not_open_is_made_anew_when_asked() {
    let mut world = World::open().await;
    world.switch().await;
    let envelope = with_a_broken_stanza(&world).await;
    let deposited = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;

    let useless = world.release("GAIN", switched(), "k1").await;
    let item = &release_in(&useless).items()[0].clone();
    assert!(item.open(&world.gainer().sealing).is_err());
    let resealed = json!({ "meter_serial": SERIAL, "reseal": true }).to_string();
    let path = format!("/v1/handovers/{}/release", switched());
    let door = world.door_of("GAIN").await;
    let opens = door.post_as("k2", &path, resealed.clone()).await;
    assert_eq!(generations(world.gainer(), &opens), [1]);
    assert_ne!(opens.json()["grant"], useless.json()["grant"]);
    let entries = world.entries("release.granted").await;
    assert_eq!(entries[0]["leaf"]["resealed"], true);
    assert_eq!(entries[1]["leaf"]["resealed"], false);
    for key in ["k2", "k3"] {
        let again = door.post_as(key, &path, resealed.clone()).await;
        assert_eq!(again.json()["release"], opens.json()["release"], "{key}");
    }
}

/// An envelope that its depositor has signed, whose stanza for the gaining supplier does not open.
async fn with_a_broken_stanza(world: &World) -> Envelope {
    let (loser, gainer) = (world.loser(), world.gainer());
    let recipients: [(Recipient, SealingPublicKey); 2] = [
        (Recipient::Escrow, world.escrow_key().await),
        (
            Recipient::Party(gainer.party.clone()),
            gainer.sealing.public().clone(),
        ),
    ];
    let depositor = loser.depositor(world.now());
    let header = seal_package(&package(), None, &recipients, &depositor).unwrap();
    let header = header.body().header().clone();
    let content = package().to_json();
    // The same twice: once to see the stanza, once to sign for another one in its place.
    let draft = || {
        let same = Counting(Mutex::new(0));
        Draft::seal(content.expose(), header.clone(), &recipients, &same).unwrap()
    };
    let sound = draft().sign(|message| depositor.sign(message)).unwrap();
    let stanza = sound.stanzas()[1].encode();
    let mut broken = stanza.clone();
    *broken.last_mut().unwrap() ^= 1;
    let digests = [&stanza, &broken].map(|bytes| Stanza::decode(bytes).unwrap().digest());
    let [was, is] = digests.map(|digest| digest.0.to_vec());
    let signed = draft().sign(|message| depositor.sign(&replaced(message, &was, &is)));
    let encoded = replaced(&signed.unwrap().encode(), &was, &is);
    Envelope::decode(&replaced(&encoded, &stanza, &broken)).unwrap()
}

fn replaced(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|window| window == part);
    let at = at.expect("the part is there");
    [&bytes[..at], by, &bytes[at + part.len()..]].concat()
}

fn release_in(reply: &Reply) -> Release {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let bytes = BASE64_STANDARD.decode(body["release"].as_str().unwrap());
    Release::decode(&bytes.unwrap()).unwrap()
}

/// Makes the same bytes every time.
struct Counting(Mutex<u64>);

impl Random for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        let mut count = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(32) {
            *count += 1;
            let made = Digest::of(&count.to_be_bytes());
            chunk.copy_from_slice(&made.0[..chunk.len()]);
        }
    }
}
