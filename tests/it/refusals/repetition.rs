//! Saying the same again changes nothing and is no entry; what is one every time has its allowance.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use super::door::Reply;
use super::world::{POINT, SERIAL, World, closing_read, release_body, switched};

#[tokio::test]
async fn what_changes_nothing_is_answered_as_before_and_is_no_entry() {
    let mut world = World::deposited().await;
    let read = world
        .sealed_read(world.loser(), &closing_read("head end", "10229.9"))
        .await;
    let reply = world.deposit("LOSE", Some(switched()), &[&read]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;
    assert_eq!(world.release("GAIN", switched(), "r").await.status, 200);

    let handover = format!("/v1/handovers/{}", switched());
    let point = format!("/v1/supply-points/{POINT}");
    let meter = json!({ "smart": true, "serial": SERIAL }).to_string();
    let reason = |n| json!({ "reason": format!("HLS pass {n} failed") }).to_string();
    let post = Method::POST;
    for (who, method, path, bodies) in [
        (
            "party:gain",
            &post,
            format!("{handover}/accept-read"),
            [String::new(), String::new()],
        ),
        (
            "party:gain",
            &post,
            format!("{handover}/reject"),
            [reason(3), reason(4)],
        ),
        (
            "party:gain",
            &Method::PUT,
            format!("{point}/meter"),
            [meter.clone(), meter],
        ),
    ] {
        let [first, again] = twice(&world, who, method, &path, bodies).await;
        assert_eq!(
            first["receipt"]["index"], again["receipt"]["index"],
            "{path}"
        );
        assert_eq!(first["receipt"]["leaf"], again["receipt"]["leaf"], "{path}");
        assert!(first["receipt"]["index"].is_u64(), "{path}");
    }
    for act in ["suspend", "resume"] {
        let path = format!("/v1/parties/lose/{act}");
        let bodies = [String::new(), String::new()];
        let [first, again] = twice(&world, "operator:demo", &post, &path, bodies).await;
        assert!(first["receipt"].is_object());
        assert_eq!(again["status"], first["status"]);
        assert_eq!(again.get("receipt"), None);
    }
    // What one supplies, or is about to, one may look up as often as one likes.
    let before = size(&world).await;
    let looked_up = world.door_of("GAIN").await.get(&point).await;
    assert_eq!(looked_up.json()["serial"], SERIAL);
    assert_eq!(looked_up.json().get("receipt"), None);
    assert_eq!(size(&world).await, before);
}

#[tokio::test]
async fn something_else_is_an_entry_and_so_is_the_same_after_it() {
    let mut world = World::deposited().await;
    world.wait_until("2025-07-01T12:00:00Z").await;
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/supply-points/{POINT}/meter");
    let said = |smart: bool| json!({ "smart": smart, "serial": SERIAL }).to_string();
    for (smart, version) in [(true, 1), (true, 1), (false, 2), (true, 3)] {
        let reply = door.put(&path, said(smart)).await;
        assert_eq!(reply.json()["version"], version, "{reply:?}");
    }
    assert_eq!(world.entries("meter.stated").await.len(), 3);
}

#[tokio::test]
async fn a_release_comes_again_with_the_same_bytes_until_the_allowance_is_spent_and_soon_after() {
    let mut world = World::deposited_with("repeats_per_minute = 60").await;
    world.wait_until("2025-07-01T12:00:00Z").await;
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/handovers/{}/release", switched());
    let ask = async || door.post_as("r", &path, release_body()).await;
    let bytes = |reply: &Reply| {
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["release"].as_str().unwrap().to_owned()
    };
    let first = bytes(&ask().await);
    for _ in 0..60 {
        assert_eq!(bytes(&ask().await), first);
    }
    let before = size(&world).await;
    let spent = ask().await;
    assert_eq!(spent.refusal(), (429, "allowance_spent".to_owned()));
    assert_eq!(spent.header("retry-after"), Some("1"));
    assert_eq!(size(&world).await, before);
    assert_eq!(world.entries("release.delivered").await.len(), 60);
    // It is told to wait and not punished: nothing else that it may do is held up.
    let shown = door.get(&format!("/v1/handovers/{}", switched())).await;
    assert_eq!(shown.status, 200);

    world.market.clock.advance(Duration::from_secs(1));
    assert_eq!(bytes(&ask().await), first);
    assert_eq!(ask().await.status, 429);
    // Others have an allowance of their own.
    let own = format!("/v1/supply-points/{POINT}/meter");
    let other = world.door_of("LOSE").await.put(&own, "{}").await;
    assert_ne!(other.status, 429);
}

/// Two answers to a request, of which only the first is an entry.
async fn twice(
    world: &World,
    who: &str,
    method: &Method,
    path: &str,
    bodies: [String; 2],
) -> [Value; 2] {
    let door = world.door(who).await;
    let mut answers = Vec::new();
    for ((key, body), entries) in ["k1", "k2"].into_iter().zip(bodies).zip([1, 0]) {
        let key = format!("{key}-{path}");
        let before = size(world).await;
        let headers = [("idempotency-key", key.as_str())];
        let reply = door.send(method.clone(), path, &headers, body).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert_eq!(size(world).await - before, entries, "{path}");
        answers.push(reply.json());
    }
    answers.try_into().unwrap()
}

/// How many entries there are.
async fn size(world: &World) -> u64 {
    let store = world.market.instance.escrow.store();
    store.head().await.unwrap().size
}
