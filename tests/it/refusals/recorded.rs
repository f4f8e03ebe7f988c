//! Every decision is an entry that shows by which policies it was made, and hides the evidence that it rests on.

use serde_json::{Value, json};

use super::outsiders::confirmation;
use super::world::{HOUR, POINT, World, closing_read, deposit_body, package, switched};

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

#[tokio::test]
async fn refused_words_about_a_handover_are_entries_and_are_not_counted_as_well() {
    let world = World::releasable().await;
    let read = closing_read("head end", "10229.9");
    let read = world.sealed_read(world.gainer(), &read).await;
    let read = deposit_body(&[read.encode()]);
    let reason = r#"{"reason":"HLS pass 4 failed"}"#.to_owned();
    let confirmation = String::from_utf8(confirmation(&world, switched())).unwrap();
    for (who, act, body, code) in [
        ("GAIN", "reject", reason, "wrong_state"),
        ("GAIN", "accept-read", String::new(), "no_package"),
        ("GAIN", "dispute", read, "no_package"),
        ("LOSE", "accept-read", String::new(), "not_gaining_supplier"),
        ("THRD", "confirm", confirmation, "not_found"),
    ] {
        let path = format!("/v1/handovers/{}/{act}", switched());
        let door = world.door_of(who).await;
        let refused = door.post_as(&format!("{who}-{act}"), &path, body).await;
        assert_eq!(refused.refusal().1, code, "{act}: {refused:?}");
        let entry = &world.entries("handover.refused").await[0];
        assert_eq!(entry["leaf"]["act"], act);
        assert_eq!(entry["leaf"]["code"], code);
        assert_eq!(entry["disclosed"]["handover"], json!(switched()));
        assert_eq!(entry["disclosed"]["supply_point"], POINT);
    }
    assert_eq!(world.entries("handover.refused").await.len(), 5);
    world.market.clock.advance(HOUR);
    let escrow = &world.market.instance.escrow;
    escrow.write_summaries().await.unwrap();
    assert_eq!(world.entries("refusals.summary").await.len(), 0);
}

/// What the newest entry of a kind shows.
async fn leaf(world: &World, kind: &str) -> Value {
    world.entries(kind).await[0]["leaf"].clone()
}
