//! Who has no part in a handover cannot even tell that there is one.

use cos_escrow::envelope::statement::{Confirmation, Outcome};
use cos_escrow::envelope::{Recipient, SignedDocument};
use cos_escrow::types::HandoverId;
use hyper::Method;

use super::door::{Door, Reply};
use super::world::{
    World, closing_read, deposit_body, handover_of, package, release_body, switched,
};

#[tokio::test]
async fn a_handover_of_others_is_answered_like_one_that_does_not_exist() {
    let world = World::releasable().await;
    let stranger = world.door_of("THRD").await;
    let (theirs, none) = (switched(), handover_of("R2"));
    let package = deposit_body(&[world.sealed(world.stranger(), &package()).await.encode()]);
    let read = closing_read("head end", "10229.9");
    let read = deposit_body(&[world.sealed_read(world.stranger(), &read).await.encode()]);
    for (what, body) in [
        ("", String::new()),
        ("/release", release_body()),
        ("/deposit", package),
        ("/reject", r#"{"reason":"r"}"#.to_owned()),
        ("/accept-read", String::new()),
        ("/dispute", read),
    ] {
        let exists = ask(&stranger, theirs, what, body.clone()).await;
        let does_not = ask(&stranger, none, what, body).await;
        assert_eq!(exists.status, 404, "{what}: {exists:?}");
        assert_alike(&exists, &does_not, what);
    }
    let exists = ask(&stranger, theirs, "/confirm", confirmation(&world, theirs)).await;
    let does_not = ask(&stranger, none, "/confirm", confirmation(&world, none)).await;
    assert_alike(&exists, &does_not, "/confirm");
}

#[tokio::test]
async fn both_refused_releases_are_entries_of_one_shape() {
    let world = World::releasable().await;
    let stranger = world.door_of("THRD").await;
    for (key, id) in [("a", switched()), ("b", handover_of("R2"))] {
        let path = format!("/v1/handovers/{id}/release");
        assert_eq!(
            stranger.post_as(key, &path, release_body()).await.status,
            404
        );
    }
    assert_eq!(world.entries("release.refused").await.len(), 2);
}

#[tokio::test]
async fn a_work_list_shows_nobody_elses_handovers() {
    let world = World::deposited().await;
    for role in ["losing", "gaining"] {
        let path = format!("/v1/handovers?role={role}");
        let seen = world.door_of("THRD").await.get(&path).await.json();
        assert_eq!(seen["handovers"].as_array().unwrap().len(), 0);
    }
}

#[tokio::test]
async fn the_published_key_of_a_party_does_not_tell_how_much_it_does() {
    let world = World::deposited().await;
    let seen = world
        .door_of("THRD")
        .await
        .get("/v1/parties/lose/sealing-keys")
        .await
        .json();
    let receipt = &seen["keys"][0]["receipt"];
    assert_eq!(receipt["disclosures"], serde_json::json!([]));
    // The receipt proves the statement all the same.
    let keys = world.stranger().client.keys("lose").await.unwrap();
    assert_eq!(keys.len(), 1);
}

/// A refusal with the same status, code, headers and length; only ids and times differ.
pub(super) fn assert_alike(exists: &Reply, does_not: &Reply, what: &str) {
    assert!(matches!(exists.status, 403 | 404), "{what}: {exists:?}");
    assert_eq!(exists.refusal(), does_not.refusal(), "{what}");
    let mut documents = [exists.json(), does_not.json()];
    for document in &mut documents {
        document["instance"].take();
    }
    assert_eq!(documents[0], documents[1], "{what}");
    assert_eq!(exists.body.len(), does_not.body.len(), "{what}");
    let mut headers = [exists.headers.clone(), does_not.headers.clone()];
    for headers in &mut headers {
        assert!(headers.remove("x-request-id").is_some(), "{what}");
        headers.remove("date");
    }
    assert_eq!(headers[0], headers[1], "{what}");
}

/// Under a key of its own.
async fn ask(
    door: &Door,
    id: HandoverId,
    what: &str,
    body: impl Into<hyper::body::Bytes>,
) -> Reply {
    let key = format!("{id}{what}");
    let method = if what.is_empty() {
        Method::GET
    } else {
        Method::POST
    };
    let path = format!("/v1/handovers/{id}{what}");
    door.send(method, &path, &[("idempotency-key", &key)], body)
        .await
}

pub(super) fn confirmation(world: &World, handover: HandoverId) -> Vec<u8> {
    let stranger = world.stranger();
    let confirmation = Confirmation {
        handover,
        party: Recipient::Party(stranger.party.clone()),
        outcome: Outcome::NotWanted,
        generation: None,
        address_of: None,
        at: world.now(),
    };
    let signer = stranger.depositor(world.now());
    let document = SignedDocument::sign(&confirmation, |m| signer.sign(m)).unwrap();
    document.to_json()
}
