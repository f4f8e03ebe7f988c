//! Refusals are counted: who causes too many is told to wait, and the log has the counts.

use std::time::Duration;

use serde_json::json;

use super::world::{NOWHERE, World, deposit_body, handover_of, package_at, release_body, switched};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn too_many_refusals_in_a_minute_are_429_and_become_one_entry() {
    let world = World::with_terms("refusals_per_minute = 3").await;
    let door = world.door_of("THRD").await;
    let path = format!("/v1/handovers/{}/release", handover_of("R9"));
    for n in 0..3 {
        let reply = door.post_as(&format!("k{n}"), &path, release_body()).await;
        assert_eq!(reply.refusal(), (404, "not_found".to_owned()));
    }
    let envelope = world.sealed(world.stranger(), &package_at(NOWHERE)).await;
    let deposit = deposit_body(&[envelope.encode()]);
    let limited = (429, "rate_limited".to_owned());
    for reply in [
        door.post_as("k3", &path, release_body()).await,
        door.get(&format!("/v1/supply-points/{NOWHERE}")).await,
        door.post_as("k4", "/v1/deposits", deposit.clone()).await,
        door.post_as(
            "k5",
            &format!("/v1/supply-points/{NOWHERE}/release"),
            release_body(),
        )
        .await,
    ] {
        assert_eq!(reply.refusal(), limited);
        assert_eq!(reply.header("retry-after"), Some("60"));
    }
    // Others are not held up by it.
    let other = world.release("GAIN", switched(), "other").await;
    assert_eq!(other.status, 404);

    assert_eq!(world.entries("refusals.summary").await.len(), 0);
    world.market.clock.advance(MINUTE);
    world
        .market
        .instance
        .escrow
        .write_summaries()
        .await
        .unwrap();
    let summaries = world.entries("refusals.summary").await;
    assert_eq!(summaries.len(), 1, "{summaries:?}");
    assert_eq!(summaries[0]["leaf"]["code"], "rate_limited");
    assert_eq!(summaries[0]["leaf"]["count"], 4);
    assert_eq!(summaries[0]["disclosed"]["party"], "thrd");
    assert_eq!(
        door.post_as("k4", "/v1/deposits", deposit).await.status,
        403
    );
}

#[tokio::test]
async fn what_fails_the_first_four_checks_is_summarised_and_is_no_entry() {
    let world = World::open().await;
    let door = world.door_of("THRD").await;
    let size = world
        .market
        .instance
        .escrow
        .store()
        .head()
        .await
        .unwrap()
        .size;
    for _ in 0..5 {
        door.post_as("k", "/v1/deposits", "{").await;
    }
    door.get("/v1/log/entries").await;
    door.get("/v1/supply-points/9693016118874").await;
    let after = world
        .market
        .instance
        .escrow
        .store()
        .head()
        .await
        .unwrap()
        .size;
    assert_eq!(after, size);
    world.market.clock.advance(MINUTE);
    world
        .market
        .instance
        .escrow
        .write_summaries()
        .await
        .unwrap();
    let counts: Vec<_> = world
        .entries("refusals.summary")
        .await
        .iter()
        .map(|entry| {
            (
                entry["leaf"]["code"].clone(),
                entry["leaf"]["count"].clone(),
            )
        })
        .collect();
    let expected = [
        ("check_digit", 1),
        ("malformed_request", 5),
        ("wrong_role", 1),
    ];
    for (code, count) in expected {
        assert!(
            counts.contains(&(json!(code), json!(count))),
            "{code}: {counts:?}"
        );
    }
    assert_eq!(counts.len(), expected.len());
}
