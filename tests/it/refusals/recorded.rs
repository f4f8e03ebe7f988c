//! Every decision is an entry that shows by which policies it was made, and hides the evidence that it rests on.

use serde_json::{Value, json};

use super::world::{POINT, World, package, switched};

#[tokio::test]
async fn a_deposit_shows_the_policies_that_decided_on_it() {
    let world = World::deposited().await;
    let leaf = leaf(&world, "package.deposited").await;
    let by = json!(["deposit-by-a-supplier-that-may-know"]);
    assert_eq!(leaf["policies"], by);
    assert!(leaf["policy"].is_string(), "{leaf}");

    // The gaining supplier, before it supplies.
    let envelope = world.sealed(world.gainer(), &package()).await;
    let early = world.deposit("GAIN", Some(switched()), &[&envelope]).await;
    assert_eq!(early.refusal(), (403, "depositor_not_allowed".to_owned()));
    let leaf = self::leaf(&world, "deposit.refused").await;
    assert_eq!(leaf["policies"], json!(["deposit-by-nobody-else"]));
    assert!(leaf["policy"].is_string(), "{leaf}");
}

#[tokio::test]
async fn a_refused_release_hides_the_evidence_that_it_rests_on() {
    let world = World::deposited().await;
    let early = world.release("GAIN", switched(), "k").await;
    assert_eq!(early.refusal(), (403, "before_window".to_owned()));
    let entry = &world.entries("release.refused").await[0];
    assert_eq!(entry["leaf"]["policies"], json!(["window-open"]));
    assert!(entry["leaf"]["evidence"].is_null(), "hidden: {entry}");
    let disclosed = &entry["disclosed"];
    assert_eq!(disclosed["supply_point"], POINT);
    assert_eq!(disclosed["evidence"]["registration"], "R1");
    assert_eq!(disclosed["evidence"]["supplier"], "GAIN");
}

/// What the newest entry of a kind shows.
async fn leaf(world: &World, kind: &str) -> Value {
    world.entries(kind).await[0]["leaf"].clone()
}
