//! Publishing sealing keys: only one's own, only with the private key, never at once for a second one.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cos_escrow::cli::demo::market::Supplier;
use cos_escrow::envelope::statement::{KeyRetirement, KeyStatement};
use cos_escrow::envelope::{Kem, Recipient, SealingKeyPair, SignedDocument, possession};
use cos_escrow::types::{SystemRandom, Timestamp};
use serde_json::{Value, json};

use super::door::{Door, Reply};
use super::world::{DAY, HOUR, SERIAL, World, switched};

const KEYS: &str = "/v1/parties/me/sealing-keys";

#[tokio::test]
async fn a_key_is_published_only_with_proof_of_its_private_half() {
    let world = World::open().await;
    let (gainer, door) = (world.gainer(), world.door_of("GAIN").await);
    let (ours, other) = (pair(), pair());
    let offer = statement(gainer, &ours, 2, world.now());
    let challenge = challenged(&door, &offer).await;
    let failed = (422, "possession_failed".to_owned());
    let nonce = answer_of(&ours, &challenge);

    let changed = challenge["token"].as_str().unwrap().replacen('1', "2", 1);
    let other_statement = statement(gainer, &other, 2, world.now());
    for (case, statement, token, nonce) in [
        (
            "a guess",
            &offer,
            challenge["token"].clone(),
            BASE64_URL_SAFE_NO_PAD.encode([0; 32]),
        ),
        (
            "no base64",
            &offer,
            challenge["token"].clone(),
            "*".to_owned(),
        ),
        ("no token", &offer, Value::Null, nonce.clone()),
        ("half a token", &offer, json!("1.2"), nonce.clone()),
        ("a changed token", &offer, json!(changed), nonce.clone()),
        (
            "another key's token",
            &other_statement,
            challenge["token"].clone(),
            nonce.clone(),
        ),
    ] {
        let reply = offered(&door, statement, &token, &nonce).await;
        assert_eq!(reply.refusal(), failed, "{case}");
    }
    // The challenge of one party is of no use to another.
    let theirs = statement(world.loser(), &ours, 2, world.now());
    let loser = world.door_of("LOSE").await;
    let reply = offered(&loser, &theirs, &challenge["token"], &nonce).await;
    assert_eq!(reply.refusal(), failed);

    world.market.clock.advance(HOUR);
    let late = offered(&door, &offer, &challenge["token"], &nonce).await;
    assert_eq!(
        late.refusal(),
        failed,
        "a challenge is answered within minutes"
    );
    assert_eq!(gainer.client.keys("gain").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_sent_twice_publishes_once() {
    let world = World::open().await;
    let (gainer, door, ours) = (world.gainer(), world.door_of("GAIN").await, pair());
    let offer = statement(gainer, &ours, 2, world.now());
    let challenge = challenged(&door, &offer).await;
    let nonce = answer_of(&ours, &challenge);
    let published = world.entries("sealing_key.published").await.len();
    for _ in 0..2 {
        let reply = offered(&door, &offer, &challenge["token"], &nonce).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(
        world.entries("sealing_key.published").await.len(),
        published + 1
    );
}

#[tokio::test]
async fn a_statement_of_another_or_of_another_time_is_refused() {
    let world = World::open().await;
    let (gainer, door, ours) = (world.gainer(), world.door_of("GAIN").await, pair());
    let theirs = statement(world.loser(), &ours, 2, world.now());
    let reply = door
        .put(KEYS, json!({ "statement": theirs }).to_string())
        .await;
    assert_eq!(reply.refusal(), (422, "signature_invalid".to_owned()));

    // Signed by us, but it names somebody else.
    let mut foreign = content(gainer, &ours, 2, world.now());
    foreign.party = Recipient::Party(world.loser().party.clone());
    let over = KeyStatement {
        not_before: world.now().before(2 * DAY),
        not_after: world.now().before(DAY),
        ..content(gainer, &ours, 2, world.now())
    };
    let misnamed = KeyStatement {
        key_id: pair().id(),
        ..content(gainer, &ours, 2, world.now())
    };
    let endless = KeyStatement {
        not_after: world.now().after(801 * DAY),
        ..content(gainer, &ours, 2, world.now())
    };
    for (case, content) in [
        ("foreign", foreign),
        ("over", over),
        ("misnamed", misnamed),
        ("endless", endless),
    ] {
        let statement = signed(gainer, &content, world.now());
        let reply = door
            .put(KEYS, json!({ "statement": statement }).to_string())
            .await;
        assert_eq!(
            reply.refusal(),
            (422, "statement_invalid".to_owned()),
            "{case}"
        );
    }
}

#[tokio::test]
async fn statements_are_numbered_without_a_gap() {
    let world = World::open().await;
    let (gainer, door) = (world.gainer(), world.door_of("GAIN").await);
    for sequence in [0, 1, 3, u32::MAX] {
        let ours = pair();
        let reply = publish(&door, gainer, &ours, sequence, world.now()).await;
        assert_eq!(
            reply.refusal(),
            (409, "statement_sequence".to_owned()),
            "{sequence}"
        );
    }
    for (sequence, status) in [(2, 200), (2, 409), (3, 200)] {
        let reply = publish(&door, gainer, &pair(), sequence, world.now()).await;
        assert_eq!(reply.status, status, "{sequence}: {reply:?}");
    }
}

#[tokio::test]
async fn a_published_key_is_not_published_anew_with_another_validity() {
    let world = World::open().await;
    let (gainer, door, ours) = (world.gainer(), world.door_of("GAIN").await, pair());
    let published = publish(&door, gainer, &ours, 2, world.now()).await;
    assert_eq!(published.status, 200);
    // The same statement, signed once more, is the same.
    let again = publish(&door, gainer, &ours, 2, world.now()).await;
    assert_eq!(again.status, 200, "{again:?}");
    let later = world.now().after(DAY);
    for (sequence, at) in [(2, later), (3, later), (3, world.now())] {
        let reply = publish(&door, gainer, &ours, sequence, at).await;
        let refused = (422, "statement_invalid".to_owned());
        assert_eq!(reply.refusal(), refused, "{sequence}");
    }
}

#[tokio::test]
async fn a_second_key_is_active_after_a_day_and_a_retired_one_never() {
    let world = World::releasable().await;
    let (gainer, door, second) = (world.gainer(), world.door_of("GAIN").await, pair());
    assert_eq!(
        publish(&door, gainer, &second, 2, world.now()).await.status,
        200
    );
    let inactive = (403, "recipient_key_inactive".to_owned());
    let to =
        |key: &SealingKeyPair| json!({ "meter_serial": SERIAL, "key_id": key.id() }).to_string();
    let path = format!("/v1/handovers/{}/release", switched());
    assert_eq!(
        door.post_as("a", &path, to(&second)).await.refusal(),
        inactive
    );
    // Nor is a release sealed to the key of somebody else.
    let theirs = to(&world.stranger().sealing);
    assert_eq!(door.post_as("b", &path, theirs).await.refusal(), inactive);

    world.market.clock.advance(DAY);
    world.heartbeat().await;
    assert_eq!(door.post_as("c", &path, to(&second)).await.status, 200);

    for key in [&second, &gainer.sealing] {
        let reply = door
            .post(&format!("{KEYS}/retire"), retirement(&world, key))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(door.post_as("d", &path, to(key)).await.refusal(), inactive);
    }
    let newest = super::world::release_body();
    assert_eq!(door.post_as("e", &path, newest).await.refusal(), inactive);
    // What was retired is not brought back by publishing it again.
    let again = publish(&door, gainer, &second, 3, world.now()).await;
    assert_eq!(again.refusal(), (422, "statement_invalid".to_owned()));
    assert_eq!(
        door.post_as("f", &path, to(&second)).await.refusal(),
        inactive
    );
}

#[tokio::test]
async fn only_the_party_itself_retires_its_keys() {
    let world = World::open().await;
    let document = retirement(&world, &world.gainer().sealing);
    let loser = world.door_of("LOSE").await;
    let reply = loser.post(&format!("{KEYS}/retire"), document).await;
    assert_eq!(reply.refusal(), (422, "signature_invalid".to_owned()));
    assert_eq!(world.entries("sealing_key.retired").await.len(), 0);
}

fn pair() -> SealingKeyPair {
    SealingKeyPair::generate(Kem::XWing, &SystemRandom)
}

fn content(of: &Supplier, pair: &SealingKeyPair, sequence: u32, now: Timestamp) -> KeyStatement {
    KeyStatement {
        party: Recipient::Party(of.party.clone()),
        kem: pair.public().kem(),
        public_key: pair.public().as_bytes().to_vec(),
        key_id: pair.id(),
        not_before: now,
        not_after: now.after(365 * DAY),
        sequence,
    }
}

fn signed(by: &Supplier, content: &KeyStatement, now: Timestamp) -> Value {
    let signer = by.depositor(now);
    let document = SignedDocument::sign(content, |m| signer.sign(m)).unwrap();
    serde_json::from_slice(&document.to_json()).unwrap()
}

fn statement(of: &Supplier, pair: &SealingKeyPair, sequence: u32, now: Timestamp) -> Value {
    signed(of, &content(of, pair, sequence, now), now)
}

fn retirement(world: &World, key: &SealingKeyPair) -> Vec<u8> {
    let gainer = world.gainer();
    let statement = KeyRetirement {
        party: Recipient::Party(gainer.party.clone()),
        key_id: key.id(),
        at: world.now(),
    };
    let signer = gainer.depositor(world.now());
    let document = SignedDocument::sign(&statement, |m| signer.sign(m)).unwrap();
    document.to_json()
}

async fn challenged(door: &Door, statement: &Value) -> Value {
    let reply = door
        .put(KEYS, json!({ "statement": statement }).to_string())
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()
}

fn answer_of(pair: &SealingKeyPair, challenge: &Value) -> String {
    let wire = challenge["challenge"].as_str().unwrap();
    let wire = BASE64_URL_SAFE_NO_PAD.decode(wire).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(possession::answer(pair, &wire).unwrap())
}

async fn offered(door: &Door, statement: &Value, token: &Value, nonce: &str) -> Reply {
    let offer = json!({ "statement": statement, "token": token, "possession": nonce });
    door.put(KEYS, offer.to_string()).await
}

/// Both steps in good faith.
async fn publish(
    door: &Door,
    of: &Supplier,
    pair: &SealingKeyPair,
    sequence: u32,
    now: Timestamp,
) -> Reply {
    let statement = statement(of, pair, sequence, now);
    let challenge = challenged(door, &statement).await;
    let nonce = answer_of(pair, &challenge);
    offered(door, &statement, &challenge["token"], &nonce).await
}
