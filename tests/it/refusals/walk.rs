//! An outsider that walks ids and supply points learns nothing, and is stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::door::{Door, Reply};
use super::world::{NOWHERE, POINT, World, handover_of, package, release_body, switched};

/// Refusals that a party may cause in a minute, in these tests.
const QUOTA: usize = 40;

/// What an outsider may try: ids, among them the one that exists, and supply points likewise.
fn guesses() -> Vec<(Method, String, String)> {
    let mut guesses = Vec::new();
    let ids = (0..QUOTA).map(|n| handover_of(&format!("R{n}")));
    for id in ids.chain([switched()]) {
        let path = format!("/v1/handovers/{id}");
        guesses.push((Method::GET, path.clone(), String::new()));
        guesses.push((Method::POST, format!("{path}/release"), release_body()));
        guesses.push((Method::POST, format!("{path}/accept-read"), String::new()));
    }
    for point in [POINT, NOWHERE] {
        let path = format!("/v1/supply-points/{point}");
        guesses.push((Method::GET, path.clone(), String::new()));
        guesses.push((Method::POST, format!("{path}/release"), release_body()));
    }
    guesses
}

async fn guess(door: &Door, n: usize, (method, path, body): (Method, String, String)) -> Reply {
    let key = format!("walk-{n}");
    door.send(method, &path, &[("idempotency-key", &key)], body)
        .await
}

async fn walked(world: &World) -> (Vec<Reply>, Vec<Reply>) {
    let door = world.door_of("THRD").await;
    // The one that exists comes first: it is asked about before the quota ends the walk.
    let guesses = guesses().into_iter().rev().enumerate();
    let mut replies = Vec::new();
    for (n, one) in guesses {
        replies.push(guess(&door, n, one).await);
    }
    let stopped = replies.split_off(QUOTA);
    (replies, stopped)
}

async fn deposited() -> World {
    let mut world = World::with_terms(&format!("refusals_per_minute = {QUOTA}")).await;
    world.switch().await;
    let envelope = world.sealed(world.loser(), &package()).await;
    let deposited = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;
    world
}

#[tokio::test]
async fn who_walks_ids_and_supply_points_is_stopped_by_the_quota() {
    let world = deposited().await;
    let (answered, stopped) = walked(&world).await;
    assert!(
        answered
            .iter()
            .all(|reply| matches!(reply.status, 403 | 404))
    );
    assert!(!stopped.is_empty());
    for reply in &stopped {
        assert_eq!(reply.refusal(), (429, "rate_limited".to_owned()));
    }
    // Whose handover it is goes on with it.
    let released = world.release("GAIN", switched(), "mine").await;
    assert_eq!(released.status, 200, "{released:?}");
}

#[tokio::test]
async fn a_walk_names_nothing_that_exists() {
    let world = deposited().await;
    let (answered, _) = walked(&world).await;
    let shapes: BTreeSet<_> = answered.iter().map(shape).collect();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
}

#[tokio::test]
async fn what_a_walk_did_not_find_is_in_the_log() {
    let world = deposited().await;
    let (answered, stopped) = walked(&world).await;
    world.market.clock.advance(Duration::from_secs(60));
    let escrow = &world.market.instance.escrow;
    escrow.write_summaries().await.unwrap();
    let mut recorded = BTreeSet::new();
    let mut count = 0;
    for entry in world.entries("refusals.summary").await {
        let leaf = &entry["leaf"];
        assert_eq!(entry["disclosed"]["party"], "thrd");
        recorded.insert(leaf["code"].as_str().unwrap().to_owned());
        count += usize::try_from(leaf["count"].as_u64().unwrap()).unwrap();
    }
    let expected = ["not_found", "rate_limited"].map(str::to_owned);
    assert_eq!(recorded, BTreeSet::from(expected));
    let mut own = 0;
    for kind in ["release.refused", "lookup.refused", "handover.refused"] {
        own += world.entries(kind).await.len();
    }
    assert_eq!(count + own, answered.len() + stopped.len());
}

#[tokio::test]
async fn refused_questions_of_outsiders_make_no_key_for_a_supply_point() {
    let world = deposited().await;
    let door = world.door_of("THRD").await;
    door.get(&format!("/v1/supply-points/{NOWHERE}")).await;
    let path = format!("/v1/supply-points/{NOWHERE}/release");
    door.post_as("k", &path, release_body()).await;
    let escrow = &world.market.instance.escrow;
    let named = [NOWHERE.to_owned()];
    let keys = escrow.store().disclosure_keys(&named).await.unwrap();
    assert!(keys.is_empty());
    // The auditor reads what was asked all the same.
    let entries = world.entries("lookup.refused").await;
    assert_eq!(entries[0]["disclosed"]["supply_point"], NOWHERE);
}

/// What tells answers apart, but for ids and times.
fn shape(reply: &Reply) -> String {
    let mut document = reply.json();
    document["instance"] = Value::Null;
    let headers: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    json!([reply.status, headers, document, reply.body.len()]).to_string()
}
