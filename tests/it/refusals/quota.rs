//! Refusals are counted: who causes too many is told to wait, and the log has the counts.

use std::slice::from_ref;
use std::time::Duration;

use serde_json::{Value, json};

use super::world::{
    NOWHERE, POINT, World, deposit_body, handover_of, package_at, release_body, switched,
};

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

#[tokio::test]
async fn no_supplier_lists_who_has_what_by_looking_up_one_point_after_the_other() {
    let world = World::with_terms("lookups_per_minute = 3").await;
    let limited = (429, "allowance_spent".to_owned());
    let stranger = world.door_of("THRD").await;
    let ask = format!("/v1/supply-points/{POINT}?purpose=quotation");
    for _ in 0..3 {
        assert_eq!(stranger.get(&ask).await.status, 200);
    }
    let refused = stranger.get(&ask).await;
    assert_eq!(refused.refusal(), limited);
    assert_eq!(refused.header("retry-after"), Some("20"));
    // A stream is no way round it, and each of its lines is counted.
    let line = json!({ "supply_point": NOWHERE, "purpose": "quotation" }).to_string();
    let stream = [line.as_str(); 5].join("\n");
    let answers = stranger.post("/v1/supply-points:lookup", stream).await;
    assert_eq!(
        String::from_utf8_lossy(&answers.body)
            .matches("allowance_spent")
            .count(),
        5
    );
    // Whose point it is may ask on, and whoever was told to wait may have its packages.
    let owner = world.door_of("LOSE").await;
    for _ in 0..5 {
        assert_eq!(owner.get(&ask).await.status, 200);
    }
    let release = world.release("THRD", switched(), "r").await;
    assert_eq!(release.refusal(), (404, "not_found".to_owned()));

    let counts = summaries_after_a_minute(&world).await;
    let counted = ("thrd".to_owned(), "allowance_spent".to_owned(), 6);
    assert_eq!(counts, [counted]);
    assert_eq!(stranger.get(&ask).await.status, 200);
}

#[tokio::test]
async fn every_kind_of_refused_deposit_is_within_the_quota() {
    let world = World::with_terms("refusals_per_minute = 1").await;
    let stranger = world.stranger();
    let sealed = world.sealed(stranger, &package_at(NOWHERE)).await.encode();
    let foreign = world.sealed(world.loser(), &package_at(NOWHERE)).await;
    let foreign = foreign.encode();
    let mut forged = sealed.clone();
    *forged.last_mut().unwrap() ^= 1;
    let dispute = format!("/v1/handovers/{}/dispute", switched());
    let cases = [
        ("/v1/deposits", deposit_body(&[b"no envelope".to_vec()])),
        ("/v1/deposits", deposit_body(&[foreign])),
        ("/v1/deposits", deposit_body(&[forged])),
        (
            "/v1/deposits",
            deposit_body(&[sealed.clone(), sealed.clone()]),
        ),
        ("/v1/deposits", deposit_body(&[])),
        ("/v1/deposits", deposit_body(from_ref(&sealed))),
        (&dispute, deposit_body(from_ref(&sealed))),
        (
            "/v1/deposits",
            r#"{"seal":"server","package":{}}"#.to_owned(),
        ),
    ];
    for (n, (path, body)) in cases.into_iter().enumerate() {
        let door = world.door_of("THRD").await;
        let reply = door.post_as(&format!("a{n}"), path, body.clone()).await;
        assert!(
            (400..500).contains(&reply.status) && reply.status != 429,
            "{n}: {reply:?}"
        );
        let again = door.post_as(&format!("b{n}"), path, body).await;
        assert_eq!(again.refusal(), (429, "rate_limited".to_owned()), "{n}");
        world.market.clock.advance(MINUTE);
    }
}

#[tokio::test]
async fn what_no_entry_records_is_counted_in_streams_too() {
    let world = World::open().await;
    let door = world.door_of("THRD").await;
    let wrong_digit = r#"{"supply_point":"9693016118874","purpose":"x"}"#;
    let lines = format!("{{\n{wrong_digit}\n{wrong_digit}\n");
    let answers = door.post("/v1/supply-points:lookup", lines).await;
    assert_eq!(answers.status, 200);
    let elsewhere = format!("/v1/handovers/{}", switched());
    assert_eq!(door.get(&elsewhere).await.status, 404);
    let counts = summaries_after_a_minute(&world).await;
    let expected = [
        ("malformed_request", 1),
        ("check_digit", 2),
        ("not_found", 1),
    ];
    for (code, count) in expected {
        let counted = ("thrd".to_owned(), code.to_owned(), count);
        assert!(counts.contains(&counted), "{code}: {counts:?}");
    }
    assert_eq!(counts.len(), expected.len());
}

/// Party, code and count of each summary.
async fn summaries_after_a_minute(world: &World) -> Vec<(String, String, u64)> {
    world.market.clock.advance(MINUTE);
    let escrow = &world.market.instance.escrow;
    escrow.write_summaries().await.unwrap();
    let entries = world.entries("refusals.summary").await;
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let counts = entries.iter().map(|entry| {
        let (leaf, disclosed) = (&entry["leaf"], &entry["disclosed"]);
        let count = leaf["count"].as_u64().unwrap();
        (word(&disclosed["party"]), word(&leaf["code"]), count)
    });
    counts.collect()
}
