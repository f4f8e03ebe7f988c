//! Switches that cross, come back or fail: the right supplier gets what the meter may hold, and nobody else.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::cli::demo::market::Supplier;
use cos_escrow::client::ReceiptDocument;
use cos_escrow::envelope::package::Package;
use cos_escrow::envelope::statement::{Confirmation, Outcome};
use cos_escrow::envelope::{Recipient, Release, SignedDocument};
use cos_escrow::types::HandoverId;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::door::Reply;
use super::world::{
    HOUR, POINT, SERIAL, SWITCH, World, closing_read, handover_of, package, package_json,
    release_body, switched,
};

#[tokio::test]
async fn sixteen_first_releases_at_once_give_one_grant_and_the_same_bytes() {
    let world = World::releasable().await;
    let path = format!("/v1/handovers/{}/release", switched());
    let mut doors = Vec::new();
    for _ in 0..16 {
        doors.push(world.door_of("GAIN").await);
    }
    let asked = doors.iter().enumerate().map(|(n, door)| {
        let (key, path) = (format!("k{n}"), path.clone());
        async move { door.post_as(&key, &path, release_body()).await }
    });
    let replies = join_all(asked).await;
    let granted: BTreeSet<_> = replies
        .iter()
        .map(|reply| {
            assert_eq!(reply.status, 200, "{reply:?}");
            let body = reply.json();
            (body["grant"].to_string(), body["release"].to_string())
        })
        .collect();
    assert_eq!(granted.len(), 1);
    assert_eq!(world.entries("release.granted").await.len(), 1);
    assert_eq!(world.entries("release.delivered").await.len(), 15);
}

#[tokio::test]
async fn of_two_switches_each_supplier_has_its_days_and_the_last_gets_all_that_the_meter_may_hold()
{
    let mut world = World::releasable().await;
    let second = ("R2", "2025-07-04");
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    let prepared = world.sealed(world.gainer(), &package()).await;
    let ahead = world.deposit("GAIN", Some(switched()), &[&prepared]).await;
    assert_eq!(ahead.json()["envelopes"][0]["status"], "prepared");
    world.switch_to("THRD", second, json!({})).await;
    let early = world.release("THRD", handover_of("R2"), "c1").await;
    assert_eq!(early.refusal(), (403, "before_window".to_owned()));

    world.wait_until("2025-07-04T12:00:00Z").await;
    let released = world.release("THRD", handover_of("R2"), "c2").await;
    assert_eq!(generations(world.stranger(), &released), [2, 1]);
    for (who, handover, refusal) in [
        ("GAIN", switched(), (403, "not_registered_supplier")),
        ("GAIN", handover_of("R2"), (403, "not_registered_supplier")),
        ("LOSE", handover_of("R2"), (404, "not_found")),
        ("LOSE", switched(), (403, "not_registered_supplier")),
        ("THRD", switched(), (404, "not_found")),
    ] {
        let reply = world.release(who, handover, "afterwards").await;
        let expected = (refusal.0, refusal.1.to_owned());
        assert_eq!(reply.refusal(), expected, "{who} {handover}");
    }
    assert_eq!(world.shown("GAIN", switched()).await["state"], "superseded");
}

#[tokio::test]
async fn the_losing_supplier_gets_proof_of_the_release_and_not_what_it_hides() {
    let world = World::releasable().await;
    assert_eq!(
        world.shown("LOSE", switched()).await["release_receipt"],
        Value::Null
    );
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    let receipt = &world.shown("LOSE", switched()).await["release_receipt"];
    let document: ReceiptDocument = serde_json::from_value(receipt.clone()).unwrap();
    world
        .loser()
        .client
        .verify_receipt(&document)
        .await
        .unwrap();
    let leaf: Value = serde_json::from_slice(&document.leaf).unwrap();
    assert_eq!(leaf["type"], "release.granted", "{leaf}");
    assert_eq!(receipt["disclosures"], json!([]));
    assert_eq!(
        world.shown("GAIN", switched()).await["release_receipt"],
        Value::Null
    );
}

#[tokio::test]
async fn unsigned_packages_take_no_room_of_signed_ones() {
    let world = World::releasable().await;
    let door = world.door_of("LOSE").await;
    let path = format!("/v1/handovers/{}/deposit", switched());
    let plain = json!({ "seal": "server", "package": package_json(POINT) }).to_string();
    let unsigned = async |n| door.post_as(&format!("u{n}"), &path, plain.clone()).await;
    for n in 0..32 {
        assert_eq!(unsigned(n).await.status, 201, "{n}");
    }
    assert_eq!(
        unsigned(32).await.refusal(),
        (429, "rate_limited".to_owned())
    );
    let released = world.release("GAIN", switched(), "r1").await;
    let newest_unsigned = (26..=33).rev();
    let expected: Vec<u32> = newest_unsigned.chain([1]).collect();
    assert_eq!(generations(world.gainer(), &released), expected);
    let signed = world.sealed(world.loser(), &package()).await;
    let signed = world.deposit("LOSE", Some(switched()), &[&signed]).await;
    assert_eq!(signed.status, 201, "{signed:?}");
}

#[tokio::test]
async fn who_lost_the_point_before_the_last_switch_is_heard_as_a_former_supplier() {
    let mut world = World::releasable().await;
    let own = world.sealed(world.gainer(), &package()).await;
    assert_eq!(world.deposit("GAIN", None, &[&own]).await.status, 201);
    // Late, but of the present switch: kept as it should, behind what the supplier after it says.
    let late = world.sealed(world.loser(), &package()).await;
    let late = world.deposit("LOSE", Some(switched()), &[&late]).await;
    assert_eq!(late.json()["envelopes"][0]["status"], "current");
    let path = format!("/v1/supply-points/{POINT}/release");
    let door = world.door_of("GAIN").await;
    let recovered = door.post_as("k", &path, release_body()).await;
    assert_eq!(generations(world.gainer(), &recovered), [2, 3, 1]);

    world
        .switch_to("THRD", ("R2", "2025-07-04"), json!({}))
        .await;
    world.wait_until("2025-07-04T12:00:00Z").await;
    let junk = world.sealed(world.loser(), &package()).await;
    let junk = world.deposit("LOSE", Some(switched()), &[&junk]).await;
    assert_eq!(junk.json()["envelopes"][0]["status"], "prepared");
    let released = world.release("THRD", handover_of("R2"), "c1").await;
    assert_eq!(generations(world.stranger(), &released), [2, 3, 1, 4]);
}

#[tokio::test]
async fn an_erroneous_switch_is_given_back_with_every_key_that_the_meter_may_hold() {
    let mut world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    let prepared = world.sealed(world.gainer(), &package()).await;
    assert_eq!(
        world
            .deposit("GAIN", Some(switched()), &[&prepared])
            .await
            .status,
        201
    );
    let back = json!({ "erroneousSwitchResolutionInd": true });
    world.switch_to("LOSE", ("R2", "2025-07-08"), back).await;
    world.wait_until("2025-07-08T12:00:00Z").await;
    let shown = world.shown("LOSE", handover_of("R2")).await;
    assert_eq!(shown["erroneous_return"], true);
    let released = world.release("LOSE", handover_of("R2"), "a1").await;
    assert_eq!(generations(world.loser(), &released), [2, 1]);
}

#[tokio::test]
async fn a_registered_supplier_gets_its_own_keys_back_and_nobody_else_does() {
    let mut world = World::deposited().await;
    let path = format!("/v1/supply-points/{POINT}/release");
    let recovered = world
        .door_of("LOSE")
        .await
        .post_as("k", &path, release_body())
        .await;
    assert_eq!(generations(world.loser(), &recovered), [1]);
    for other in ["GAIN", "THRD"] {
        let reply = world
            .door_of(other)
            .await
            .post_as("k", &path, release_body())
            .await;
        assert_eq!(reply.refusal(), (404, "not_found".to_owned()), "{other}");
    }
    // Getting one's own keys back is no step of the handover.
    assert_eq!(world.shown("LOSE", switched()).await["state"], "deposited");

    world.wait_until("2025-07-01T12:00:00Z").await;
    let former = world
        .door_of("LOSE")
        .await
        .post_as("k2", &path, release_body())
        .await;
    assert_eq!(former.refusal(), (404, "not_found".to_owned()));
    let gainer = world
        .door_of("GAIN")
        .await
        .post_as("k2", &path, release_body())
        .await;
    assert_eq!(gainer.status, 200, "it is registered now");
    let entry = &world.entries("release.granted").await[0];
    assert_eq!(entry["leaf"]["recovery"], true);
}

#[tokio::test]
async fn after_a_rejection_the_losing_supplier_deposits_again() {
    let world = World::releasable().await;
    let path = format!("/v1/handovers/{}/reject", switched());
    let door = world.door_of("GAIN").await;
    let reason = r#"{"reason":"HLS pass 4 failed"}"#;
    let early = door.post_as("early", &path, reason).await;
    assert_eq!(early.refusal(), (409, "wrong_state".to_owned()));
    let first = world.release("GAIN", switched(), "r1").await;
    assert_eq!(door.post_as("k", &path, reason).await.status, 200);
    assert_eq!(world.shown("LOSE", switched()).await["state"], "rejected");

    let better = world.sealed(world.loser(), &package()).await;
    assert_eq!(
        world
            .deposit("LOSE", Some(switched()), &[&better])
            .await
            .status,
        201
    );
    assert_eq!(world.shown("LOSE", switched()).await["state"], "deposited");
    let second = world.release("GAIN", switched(), "r2").await;
    assert_eq!(generations(world.gainer(), &second), [2, 1]);
    assert_ne!(first.json()["grant"], second.json()["grant"]);
}

#[tokio::test]
async fn a_closing_read_alone_is_not_what_the_losing_supplier_owes() {
    let mut world = World::open().await;
    world.switch().await;
    let read = closing_read("head end", "10229.9");
    let read = world.sealed_read(world.loser(), &read).await;
    let alone = world.deposit("LOSE", Some(switched()), &[&read]).await;
    assert_eq!(alone.status, 201, "{alone:?}");
    assert_eq!(alone.json()["state"], "expected");
    world.wait_until("2025-07-01T12:00:00Z").await;
    let refused = world.release("GAIN", switched(), "r1").await;
    assert_eq!(refused.refusal(), (409, "no_package".to_owned()));

    let keys = world.sealed(world.loser(), &package()).await;
    let deposited = world
        .deposit("LOSE", Some(switched()), &[&keys])
        .await
        .json();
    assert_eq!(
        (&deposited["state"], &deposited["late"]),
        (&json!("deposited"), &json!(true))
    );
    assert_eq!(world.release("GAIN", switched(), "r2").await.status, 200);
    // Late is what comes from the losing supplier: the gaining one brings its keys when it can.
    let ahead = world.sealed(world.gainer(), &package()).await;
    let ahead = world.deposit("GAIN", Some(switched()), &[&ahead]).await;
    assert_eq!(ahead.json()["late"], false);
}

#[tokio::test]
async fn a_depositor_that_deposits_very_often_is_stopped_and_blocks_no_release() {
    let mut world = World::deposited().await;
    for _ in 1..32 {
        write_ahead(&world, "LOSE", switched()).await;
    }
    let envelope = world.sealed(world.loser(), &package()).await;
    let reply = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
    assert_eq!(reply.refusal(), (429, "rate_limited".to_owned()));
    assert_eq!(world.entries("deposit.refused").await.len(), 1);
    // Others are not held up by it, nor is it itself the day after.
    world.wait_until("2025-07-01T12:00:00Z").await;
    write_ahead(&world, "LOSE", switched()).await;
    let released = world.release("GAIN", switched(), "r1").await;
    assert_eq!(generations(world.gainer(), &released).len(), 8);
}

#[tokio::test]
async fn the_word_of_a_former_supplier_comes_behind_everything() {
    let mut world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
    let back = json!({ "erroneousSwitchResolutionInd": true });
    world.switch_to("LOSE", ("R2", "2025-07-08"), back).await;
    world.wait_until("2025-07-08T12:00:00Z").await;
    assert_eq!(
        world.release("LOSE", handover_of("R2"), "r2").await.status,
        200
    );
    assert_eq!(
        write_ahead(&world, "LOSE", handover_of("R2")).await["generation"],
        2
    );
    // GAIN supplies no more: neither standing nor for its old handover is its word what the meter holds.
    let other = package_of_meter("E19B000000");
    for (handover, package) in [
        (None, package()),
        (Some(switched()), package()),
        (None, other),
    ] {
        let envelope = world.sealed(world.gainer(), &package).await;
        let reply = world.deposit("GAIN", handover, &[&envelope]).await;
        assert_eq!(reply.json()["envelopes"][0]["status"], "prepared");
    }
    let released = world.release("LOSE", handover_of("R2"), "r3").await;
    assert_eq!(generations(world.loser(), &released), [2, 1, 4, 3]);
    let path = format!("/v1/supply-points/{POINT}");
    let looked_up = world.door_of("LOSE").await.get(&path).await;
    assert_eq!(looked_up.json()["serial"], SERIAL, "{looked_up:?}");
}

#[tokio::test]
async fn who_took_a_meter_over_and_loses_it_is_heard_before_its_own_older_word() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    world
        .switch_to("THRD", ("R2", "2025-07-04"), json!({}))
        .await;
    // The keys of today, and another meter that hangs there as well by now.
    let left = write_ahead(&world, "GAIN", handover_of("R2")).await;
    assert_eq!(
        (&left["status"], &left["generation"]),
        (&json!("current"), &json!(3))
    );
    let exchanged = package_of_meter("E19B000000");
    let envelope = world.sealed(world.gainer(), &exchanged).await;
    let left = world
        .deposit("GAIN", Some(handover_of("R2")), &[&envelope])
        .await;
    assert_eq!(left.json()["envelopes"][0]["status"], "current");

    world.wait_until("2025-07-04T12:00:00Z").await;
    let released = world.release("THRD", handover_of("R2"), "r1").await;
    assert_eq!(generations(world.stranger(), &released), [3, 2]);
    let other = json!({ "meter_serial": "E19B000000" }).to_string();
    let path = format!("/v1/handovers/{}/release", handover_of("R2"));
    let door = world.door_of("THRD").await;
    let released = door.post_as("r2", &path, other).await;
    assert_eq!(released.status, 200, "{released:?}");
    // What is proven of one meter retires nothing of the other; the first supplier's late word is retired on arrival.
    confirmed_rotation(&mut world, "THRD", handover_of("R2"), 5).await;
    let late = write_ahead(&world, "LOSE", switched()).await;
    assert_eq!(late["status"], "retired");
    let other = json!({ "meter_serial": "E19B000000" }).to_string();
    let released = door.post_as("r3", &path, other).await;
    assert_eq!(released.status, 200, "{released:?}");
}

#[tokio::test]
async fn what_a_later_confirmation_retired_keeps_its_own_grace() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    world
        .switch_to("THRD", ("R2", "2025-07-04"), json!({}))
        .await;
    world.wait_until("2025-07-04T11:00:00Z").await;
    confirmed_rotation(&mut world, "THRD", handover_of("R2"), 3).await;
    // The grace of the first confirmation is over, that of the second has only begun.
    world.market.clock.advance(5 * HOUR);
    world
        .market
        .instance
        .escrow
        .close_confirmed()
        .await
        .unwrap();
    assert_eq!(world.entries("handover.closed").await.len(), 0);
    world.wait_until("2025-07-07T16:00:00Z").await;
    world
        .market
        .instance
        .escrow
        .close_confirmed()
        .await
        .unwrap();
    let closed = world.entries("handover.closed").await;
    let erased: usize = closed
        .iter()
        .map(|entry| entry["leaf"]["erased"].as_array().unwrap().len())
        .sum();
    assert_eq!(erased, 2);
}

#[tokio::test]
async fn what_an_annulled_handover_retired_keeps_its_grace_too() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    let second = ("R2", "2025-07-04");
    world.switch_to("THRD", second, json!({})).await;
    world.wait_until("2025-07-04T11:00:00Z").await;
    confirmed_rotation(&mut world, "THRD", handover_of("R2"), 3).await;
    world.market.clock.advance(HOUR);
    let annulled = ("RegistrationCancelledNotification", "Annulled");
    let annulled = world.event(POINT, "R2", annulled, json!({}));
    world.market.register(false, &[annulled]).await.unwrap();
    assert_eq!(
        world.shown("THRD", handover_of("R2")).await["state"],
        "annulled"
    );
    // The grace of the first confirmation is over: the keys that the second retired are what its own supplier needs.
    world.market.clock.advance(4 * HOUR);
    let escrow = &world.market.instance.escrow;
    escrow.close_confirmed().await.unwrap();
    assert_eq!(world.entries("handover.closed").await.len(), 0);
    world.wait_until("2025-07-07T16:00:00Z").await;
    let escrow = &world.market.instance.escrow;
    escrow.close_confirmed().await.unwrap();
    assert_eq!(world.entries("handover.closed").await.len(), 1);
}

#[tokio::test]
async fn what_was_retired_is_erased_after_its_grace_though_its_handover_was_annulled() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    let annulled = ("RegistrationCancelledNotification", "Annulled");
    let annulled = world.event(POINT, SWITCH.0, annulled, json!({}));
    world.market.register(false, &[annulled]).await.unwrap();
    world.wait_until("2025-07-05T12:00:00Z").await;
    let escrow = &world.market.instance.escrow;
    for _ in 0..2 {
        escrow.close_confirmed().await.unwrap();
        let erased = world.entries("generations.erased").await;
        assert_eq!(erased.len(), 1, "once");
        assert_eq!(erased[0]["leaf"]["erased"].as_array().unwrap().len(), 1);
    }
    assert_eq!(world.entries("handover.closed").await.len(), 0);
    assert_eq!(world.shown("GAIN", switched()).await["state"], "annulled");
    // What the meter holds is there for whoever supplies.
    let path = format!("/v1/supply-points/{POINT}/release");
    let door = world.door_of("LOSE").await;
    let recovered = door.post_as("own", &path, release_body()).await;
    assert_eq!(generations(world.loser(), &recovered), [2]);
}

#[tokio::test]
async fn who_was_granted_keys_once_confirms_nothing_for_a_switch_that_gave_it_none() {
    let mut world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
    let back = json!({ "erroneousSwitchResolutionInd": true });
    world.switch_to("LOSE", ("R2", "2025-07-08"), back).await;
    world.wait_until("2025-07-08T12:00:00Z").await;
    confirmed_rotation(&mut world, "LOSE", handover_of("R2"), 2).await;

    // Once more to GAIN, which has only asked so far, and holds a grant of its first time.
    let again = handover_of("R3");
    let asked = json!({ "supplierMpid": "GAIN", "supplyStartDate": "2025-07-20" });
    for (event, refusal, at) in [
        (
            ("RegistrationPendingNotification", "Pending"),
            (403, "registration_not_secured"),
            "2025-07-09T12:00:00Z",
        ),
        (
            ("RegistrationSecuredActiveNotification", "SecuredActive"),
            (403, "before_window"),
            "2025-07-10T12:00:00Z",
        ),
    ] {
        world.wait_until(at).await;
        let event = world.event(POINT, "R3", event, asked.clone());
        world.market.register(false, &[event]).await.unwrap();
        let deposited = write_ahead(&world, "GAIN", again).await;
        let generation = deposited["generation"].as_u64().unwrap();
        let reply = rotated(&world, "GAIN", again, u32::try_from(generation).unwrap()).await;
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()));
    }
    world.wait_until("2025-07-20T12:00:00Z").await;
    let deposited = write_ahead(&world, "GAIN", again).await;
    assert_eq!(deposited["generation"], 5);
    let reply = rotated(&world, "GAIN", again, 5).await;
    assert_eq!(reply.refusal(), (409, "wrong_state".to_owned()));
    // Nothing was retired: what LOSE has in the meter is there for the rightful taker, who may confirm then.
    let released = world.release("GAIN", again, "r2").await;
    assert_eq!(released.status, 200, "{released:?}");
    assert!(generations(world.gainer(), &released).contains(&2));
    let reply = rotated(&world, "GAIN", again, 5).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn once_a_handover_is_closed_its_loser_deposits_no_more() {
    let mut world = World::releasable().await;
    confirmed_rotation(&mut world, "GAIN", switched(), 2).await;
    world.wait_until("2025-07-05T12:00:00Z").await;
    world
        .market
        .instance
        .escrow
        .close_confirmed()
        .await
        .unwrap();
    assert_eq!(world.shown("LOSE", switched()).await["state"], "closed");
    let late = world.sealed(world.loser(), &package()).await;
    let reply = world.deposit("LOSE", Some(switched()), &[&late]).await;
    assert_eq!(reply.refusal(), (409, "wrong_state".to_owned()));
}

#[tokio::test]
async fn a_supplier_that_joins_after_the_announcement_has_its_handover() {
    let world = World::open().await;
    world
        .switch_to("LATE", ("R1", "2025-07-01"), json!({}))
        .await;
    let operator = world.door("operator:demo").await;
    let party = json!({ "id": "late", "name": "Late" }).to_string();
    assert_eq!(operator.post("/v1/parties", party).await.status, 201);
    let mpid = json!({ "mpid": "LATE", "role": "X", "at": "2025-01-01T00:00:00Z" }).to_string();
    assert_eq!(
        operator.post("/v1/parties/late/mpids", mpid).await.status,
        200
    );
    let door = world.door("party:late").await;
    let path = format!("/v1/handovers/{}", switched());
    // By the directory it gains the point at once; its work list has it with the next event.
    assert_eq!(door.get(&path).await.status, 200);
    let list = "/v1/handovers?role=gaining";
    assert_eq!(door.get(list).await.json()["handovers"], json!([]));
    let more = json!({ "supplierMpid": "LATE", "supplyStartDate": "2025-07-01" });
    let confirmed = ("RegistrationSecuredActiveNotification", "again");
    world.market.clock.advance(HOUR);
    let line = world.event(POINT, "R1", confirmed, more);
    world.market.register(false, &[line]).await.unwrap();
    let listed = door.get(list).await.json();
    assert_eq!(listed["handovers"][0]["id"], json!(switched()));
}

#[tokio::test]
async fn who_has_lost_its_mpid_confirms_nothing_and_who_has_it_now_does() {
    let world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
    let ahead = write_ahead(&world, "GAIN", switched()).await;
    assert_eq!(ahead["generation"], 2);
    let party = |mpid| world.supplier(mpid).party.clone();
    let operator = world.door("operator:demo").await;
    let held = json!({ "mpid": "GAIN", "role": "X", "at": world.now() }).to_string();
    for (party, act) in [(party("GAIN"), "mpids/end"), (party("THRD"), "mpids")] {
        let path = format!("/v1/parties/{party}/{act}");
        assert_eq!(operator.post(&path, held.clone()).await.status, 200);
    }

    let refusal = (403, "not_gaining_supplier".to_owned());
    let former = world.door_of("GAIN").await;
    let handover = format!("/v1/handovers/{}", switched());
    let reply = rotated(&world, "GAIN", switched(), 2).await;
    assert_eq!(reply.refusal(), refusal);
    for (act, body) in [("reject", r#"{"reason":"x"}"#), ("accept-read", "")] {
        let path = format!("{handover}/{act}");
        assert_eq!(former.post_as(act, &path, body).await.refusal(), refusal);
    }
    // Its word on what the meter holds is that of a former supplier by now.
    assert_eq!(
        write_ahead(&world, "GAIN", switched()).await["status"],
        "prepared"
    );

    let holder = world.door_of("THRD").await;
    assert_eq!(holder.get(&handover).await.status, 200);
    let released = world.release("THRD", switched(), "r2").await;
    assert_eq!(generations(world.stranger(), &released), [2, 1, 3]);
    let ahead = write_ahead(&world, "THRD", switched()).await;
    assert_eq!(ahead["generation"], 4);
    let confirmed = rotated(&world, "THRD", switched(), 4).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let shown = holder.get(&handover).await.json();
    assert_eq!(shown["gaining"]["party"], json!(party("THRD")));
}

#[tokio::test]
async fn a_handover_that_was_overtaken_in_error_goes_on_where_it_was() {
    let mut world = World::releasable().await;
    assert_eq!(world.release("GAIN", switched(), "b1").await.status, 200);
    assert_eq!(
        write_ahead(&world, "GAIN", switched()).await["generation"],
        2
    );
    let second = ("R2", "2025-07-04");
    world.switch_to("THRD", second, json!({})).await;
    world.wait_until("2025-07-04T12:00:00Z").await;
    let released = world.release("THRD", handover_of("R2"), "c1").await;
    assert_eq!(generations(world.stranger(), &released), [2, 1]);
    let state = async || world.shown("GAIN", switched()).await["state"].clone();
    assert_eq!(state().await, "superseded");
    let early = rotated(&world, "GAIN", switched(), 2).await;
    assert_eq!(early.refusal(), (403, "not_registered_supplier".to_owned()));

    world.market.clock.advance(HOUR);
    let annulled = ("RegistrationCancelledNotification", "Annulled");
    let annulled = world.event(POINT, "R2", annulled, json!({}));
    world.market.register(false, &[annulled]).await.unwrap();
    assert_eq!(state().await, "released");
    let confirmed = rotated(&world, "GAIN", switched(), 2).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    assert_eq!(state().await, "confirmed");
}

#[tokio::test]
async fn an_mpid_never_belongs_to_two_parties() {
    let world = World::open().await;
    let operator = world.door("operator:demo").await;
    let hold = |at: &str| json!({ "mpid": "NEWB", "role": "X", "at": at }).to_string();
    let add = |party: &str| format!("/v1/parties/{party}/mpids");
    let later = hold("2025-03-01T00:00:00Z");
    assert_eq!(operator.post(&add("lose"), later.clone()).await.status, 200);
    for at in [
        "2025-02-01T00:00:00Z",
        "2025-03-01T00:00:00Z",
        "2025-04-01T00:00:00Z",
    ] {
        let reply = operator.post(&add("gain"), hold(at)).await;
        assert_eq!(reply.refusal(), (409, "wrong_state".to_owned()), "{at}");
    }
    // It changes hands when the first has ended it.
    let end = hold("2025-05-01T00:00:00Z");
    assert_eq!(
        operator
            .post(&format!("{}/end", add("lose")), end.clone())
            .await
            .status,
        200
    );
    assert_eq!(operator.post(&add("gain"), end).await.status, 200);
    // Its end cannot be taken back any more.
    let back = operator.post(&add("lose"), later).await;
    assert_eq!(back.refusal(), (409, "wrong_state".to_owned()));
}

#[tokio::test]
async fn the_losing_supplier_is_told_who_confirms() {
    let world = World::releasable().await;
    let reply = rotated(&world, "LOSE", switched(), 1).await;
    assert_eq!(reply.refusal(), (403, "not_gaining_supplier".to_owned()));
    let title = "only the gaining supplier of the handover may do this";
    assert_eq!(reply.json()["title"], title);
    let outsider = rotated(&world, "THRD", switched(), 1).await;
    assert_eq!(outsider.refusal(), (404, "not_found".to_owned()));
}

/// The package of another meter at the point.
pub(super) fn package_of_meter(serial: &str) -> Package {
    let mut package = package_json(POINT);
    package["meter"]["serial"] = json!(serial);
    Package::parse(package.to_string().as_bytes()).unwrap()
}

/// Releases, writes new keys ahead and confirms that they are in the meter.
pub(super) async fn confirmed_rotation(
    world: &mut World,
    who: &str,
    handover: HandoverId,
    generation: u32,
) {
    assert_eq!(world.release(who, handover, "r").await.status, 200);
    let ahead = write_ahead(world, who, handover).await;
    assert_eq!(ahead["generation"], generation);
    let confirmed = rotated(world, who, handover, generation).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
}

/// Deposits new keys for a handover; what the service made of them.
async fn write_ahead(world: &World, who: &str, handover: HandoverId) -> Value {
    let envelope = world.sealed(world.supplier(who), &package()).await;
    let ahead = world.deposit(who, Some(handover), &[&envelope]).await;
    assert_eq!(ahead.status, 201, "{ahead:?}");
    ahead.json()["envelopes"][0].clone()
}

/// Confirms under a new key that a generation is in the meter.
async fn rotated(world: &World, who: &str, handover: HandoverId, generation: u32) -> Reply {
    let supplier = world.supplier(who);
    let depositor = supplier.depositor(world.now());
    let confirmation = Confirmation {
        handover,
        party: Recipient::Party(supplier.party.clone()),
        outcome: Outcome::Rotated,
        generation: Some(generation),
        address_of: None,
        at: world.now(),
    };
    let document = SignedDocument::sign(&confirmation, |m| depositor.sign(m)).unwrap();
    let path = format!("/v1/handovers/{handover}/confirm");
    let door = world.door_of(who).await;
    let key = format!("rotated-{generation}-{}", world.now());
    door.post_as(&key, &path, document.to_json()).await
}

/// The generations of credentials in a release, in their order, each of which the taker can open.
pub(super) fn generations(taker: &Supplier, reply: &Reply) -> Vec<u32> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body: Value = reply.json();
    let bytes = BASE64_STANDARD
        .decode(body["release"].as_str().unwrap())
        .unwrap();
    let release = Release::decode(&bytes).unwrap();
    let opened = release.open(&taker.sealing).map(|(item, content)| {
        assert_eq!(content.unwrap().expose(), package().to_json().expose());
        item.generation
    });
    opened.collect()
}
