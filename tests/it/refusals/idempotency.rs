//! Idempotency keys: one key, one request, one effect.

use cos_escrow::client::{Request, seal_package};
use cos_escrow::envelope::statement::{Confirmation, KeyRetirement, Outcome};
use cos_escrow::envelope::{Recipient, SignedDocument};

use super::world::{HOUR, World, deposit_body, package, release_body, switched};

#[tokio::test]
async fn what_must_not_happen_twice_needs_a_key() {
    let world = World::open().await;
    let door = world.door_of("GAIN").await;
    let handover = format!("/v1/handovers/{}", switched());
    for path in [
        "/v1/deposits".to_owned(),
        format!("{handover}/deposit"),
        format!("{handover}/release"),
        format!("{handover}/confirm"),
        format!("{handover}/reject"),
        format!("{handover}/dispute"),
        "/v1/supply-points/9693016118873/release".to_owned(),
    ] {
        let reply = door.post(&path, release_body()).await;
        assert_eq!(
            reply.refusal(),
            (400, "idempotency_key_missing".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_key_is_one_to_128_printable_characters() {
    let world = World::open().await;
    let door = world.door_of("GAIN").await;
    let long = "k".repeat(129);
    for key in ["", " ", "a b", long.as_str(), "ä"] {
        let reply = door.post_as(key, "/v1/deposits", "{}").await;
        assert_eq!(
            reply.refusal(),
            (400, "malformed_request".to_owned()),
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn a_key_used_with_another_body_or_elsewhere_is_refused() {
    let world = World::open().await;
    let (first, second) = (
        deposit_body(&[world.sealed(world.loser(), &package()).await.encode()]),
        deposit_body(&[world.sealed(world.loser(), &package()).await.encode()]),
    );
    world.switch().await;
    let door = world.door_of("LOSE").await;
    let path = format!("/v1/handovers/{}/deposit", switched());
    let done = door.post_as("k", &path, first.clone()).await;
    assert_eq!(done.status, 201);
    let reused = (422, "idempotency_key_reused".to_owned());
    assert_eq!(
        door.post_as("k", &path, second.clone()).await.refusal(),
        reused
    );
    // The same body under the same key, but another request.
    let dispute = format!("/v1/handovers/{}/dispute", switched());
    assert_eq!(
        door.post_as("k", &dispute, first.clone()).await.refusal(),
        reused
    );
    assert_eq!(
        door.post_as("k", "/v1/deposits", first.clone())
            .await
            .refusal(),
        reused
    );
    // The key of another party is another key.
    let other = world.door_of("GAIN").await;
    assert_ne!(other.post_as("k", &path, second).await.refusal(), reused);

    let again = door.post_as("k", &path, first).await;
    assert_eq!(again.status, 201);
    assert_eq!(again.json()["envelopes"], done.json()["envelopes"]);
    assert_eq!(world.entries("package.deposited").await.len(), 1);
}

#[tokio::test]
async fn a_release_under_a_used_key_with_another_body_is_refused() {
    let world = World::releasable().await;
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/handovers/{}/release", switched());
    assert_eq!(door.post_as("k", &path, release_body()).await.status, 200);
    let other = r#"{"meter_serial":"E19B762798","component":"credentials"}"#;
    let reply = door.post_as("k", &path, other).await;
    assert_eq!(reply.refusal(), (422, "idempotency_key_reused".to_owned()));
}

#[tokio::test]
async fn a_repeated_deposit_is_answered_after_the_key_that_it_is_sealed_to_was_retired() {
    let world = World::open().await;
    let (loser, gainer) = (world.loser(), world.gainer());
    let recipients = [
        (Recipient::Escrow, world.escrow_key().await),
        (
            Recipient::Party(gainer.party.clone()),
            gainer.sealing.public().clone(),
        ),
    ];
    let depositor = loser.depositor(world.now());
    let envelope = seal_package(&package(), None, &recipients, &depositor).unwrap();
    let body = deposit_body(&[envelope.encode()]);
    let door = world.door_of("LOSE").await;
    assert_eq!(
        door.post_as("k", "/v1/deposits", body.clone()).await.status,
        201
    );

    let statement = KeyRetirement {
        party: Recipient::Party(gainer.party.clone()),
        key_id: gainer.sealing.id(),
        at: world.now(),
    };
    let signer = gainer.depositor(world.now());
    let document = SignedDocument::sign(&statement, |m| signer.sign(m)).unwrap();
    let retire = Request::post("/v1/parties/me/sealing-keys/retire", document.to_json());
    gainer.client.send(retire).await.unwrap();

    assert_eq!(
        door.post_as("k", "/v1/deposits", body.clone()).await.status,
        201
    );
    let anew = door.post_as("anew", "/v1/deposits", body).await;
    assert_eq!(anew.refusal(), (422, "stanza_foreign".to_owned()));
}

#[tokio::test]
async fn a_repeated_confirmation_is_answered_though_its_time_has_passed() {
    let world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "r").await.status, 200);
    let gainer = world.gainer();
    let confirmation = Confirmation {
        handover: switched(),
        party: Recipient::Party(gainer.party.clone()),
        outcome: Outcome::NotRotatable,
        generation: None,
        address_of: None,
        at: world.now(),
    };
    let signer = gainer.depositor(world.now());
    let document = SignedDocument::sign(&confirmation, |m| signer.sign(m)).unwrap();
    let path = format!("/v1/handovers/{}/confirm", switched());
    let door = world.door_of("GAIN").await;
    let done = door.post_as("k", &path, document.to_json()).await;
    assert_eq!(done.status, 200, "{done:?}");
    world.market.clock.advance(HOUR);
    let again = door.post_as("k", &path, document.to_json()).await;
    assert_eq!(again.json()["erased_after"], done.json()["erased_after"]);
    let anew = door.post_as("anew", &path, document.to_json()).await;
    assert_eq!(anew.refusal(), (422, "stale_request".to_owned()));
    assert_eq!(world.entries("handover.confirmed").await.len(), 1);

    // Signed anew it says the same again: that changes nothing and prolongs nothing.
    let signer = gainer.depositor(world.now());
    let said_again = Confirmation {
        at: world.now(),
        ..confirmation
    };
    let document = SignedDocument::sign(&said_again, |m| signer.sign(m)).unwrap();
    let fresh = door.post_as("fresh", &path, document.to_json()).await;
    assert_eq!(fresh.status, 200, "{fresh:?}");
    assert_eq!(fresh.json()["erased_after"], done.json()["erased_after"]);
    assert_eq!(
        fresh.json()["receipt"]["index"],
        done.json()["receipt"]["index"]
    );
    assert_eq!(world.entries("handover.confirmed").await.len(), 1);
}

#[tokio::test]
async fn kinds_of_identities_share_no_idempotency_keys() {
    let world = World::open().await;
    let party = r#"{"id":"twin","name":"Twin"}"#;
    let operator = world.door("operator:lose").await;
    let added = operator.post_as("k", "/v1/parties", party).await;
    assert_eq!(added.status, 201, "{added:?}");
    let envelope = world.sealed(world.loser(), &package()).await;
    let body = deposit_body(&[envelope.encode()]);
    let door = world.door("party:lose").await;
    let deposited = door.post_as("k", "/v1/deposits", body).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
}
