//! Envelopes that the escrow cannot seal to anybody: they hold up nobody else's keys, and no meter comes to depend on them.

use cos_escrow::client::seal_package;
use cos_escrow::envelope::Recipient;
use cos_escrow::types::HandoverId;
use serde_json::json;

use super::door::Reply;
use super::generations::generations;
use super::world::{World, handover_of, package, switched};

#[tokio::test]
async fn what_a_former_loser_seals_to_a_former_gainer_holds_up_nobody() {
    let mut world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    world.switch_to("THRD", SECOND, json!({})).await;
    world.wait_until("2025-07-04T12:00:00Z").await;
    let first = world.release("THRD", handover_of("R2"), "c1").await;
    assert_eq!(generations(world.stranger(), &first), [1]);
    assert_eq!(world.shown("GAIN", switched()).await["state"], "superseded");

    let past = deposit_past(&world, "LOSE", Some(switched()), "GAIN").await;
    assert_eq!(past.refusal(), (422, "escrow_left_out".to_owned()));
    for key in ["c1", "c2"] {
        let again = world.release("THRD", handover_of("R2"), key).await;
        assert_eq!(again.json()["release"], first.json()["release"], "{key}");
    }
}

#[tokio::test]
async fn what_is_sealed_past_the_escrow_reaches_the_gaining_supplier_and_holds_up_no_later_one() {
    let mut world = World::open().await;
    world.switch().await;
    let past = deposit_past(&world, "LOSE", Some(switched()), "GAIN").await;
    assert_eq!(past.status, 201, "{past:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;
    let released = world.release("GAIN", switched(), "b1").await;
    assert_eq!(generations(world.gainer(), &released), [1]);

    world.switch_to("THRD", SECOND, json!({})).await;
    world.wait_until("2025-07-04T12:00:00Z").await;
    let refused = world.release("THRD", handover_of("R2"), "c1").await;
    assert_eq!(refused.refusal(), (403, "sealed_to_others".to_owned()));
    let entry = &world.entries("release.refused").await[0];
    assert_eq!(entry["leaf"]["code"], "sealed_to_others");
    assert_eq!(entry["leaf"]["policies"], json!(["sealable"]));

    let envelope = world.sealed(world.gainer(), &package()).await;
    let deposited = world
        .deposit("GAIN", Some(handover_of("R2")), &[&envelope])
        .await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
    let released = world.release("THRD", handover_of("R2"), "c2").await;
    assert_eq!(generations(world.stranger(), &released), [2]);
    let entry = &world.entries("release.granted").await[0];
    assert_eq!(entry["leaf"]["left_out"], 1);
}

#[tokio::test]
async fn only_a_losing_supplier_seals_past_the_escrow_and_only_to_the_gaining_one() {
    let world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    let stored = world.entries("package.deposited").await.len();
    for (who, handover, to) in [
        ("GAIN", Some(switched()), "GAIN"),
        ("GAIN", None, "GAIN"),
        ("LOSE", Some(switched()), "LOSE"),
        ("LOSE", Some(switched()), "THRD"),
    ] {
        let refused = deposit_past(&world, who, handover, to).await;
        let case = format!("{who} for {handover:?} to {to}");
        assert_eq!(
            refused.refusal(),
            (422, "escrow_left_out".to_owned()),
            "{case}"
        );
        let entry = &world.entries("deposit.refused").await[0];
        assert_eq!(entry["leaf"]["code"], "escrow_left_out", "{case}");
    }
    assert_eq!(world.entries("package.deposited").await.len(), stored);
}

/// Deposits a package that is sealed to one supplier alone.
async fn deposit_past(world: &World, by: &str, handover: Option<HandoverId>, to: &str) -> Reply {
    let to = world.supplier(to);
    let recipients = [(
        Recipient::Party(to.party.clone()),
        to.sealing.public().clone(),
    )];
    let depositor = world.supplier(by).depositor(world.now());
    let envelope = seal_package(&package(), None, &recipients, &depositor).unwrap();
    world.deposit(by, handover, &[&envelope]).await
}

/// The switch after the first.
const SECOND: (&str, &str) = ("R2", "2025-07-04");
