//! The closing read: disputes that hold, disputes that come too late, and disputes about nothing.

use cos_escrow::envelope::package::Package;
use serde_json::json;

use super::door::Reply;
use super::world::{
    POINT, World, closing_read, deposit_body, package, package_json, release_body, switched,
};

#[tokio::test]
async fn accepting_the_read_releases_what_a_dispute_held() {
    let world = with_read().await;
    assert_eq!(dispute(&world, "d1", "10230.5").await.status, 200);
    assert_eq!(world.shown("GAIN", switched()).await["state"], "held");
    let held = world.release("GAIN", switched(), "r1").await;
    assert_eq!(held.refusal(), (403, "read_mismatch".to_owned()));
    // The read itself is always releasable, for it is what the dispute is about.
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/handovers/{}", switched());
    let read = json!({ "meter_serial": super::world::SERIAL, "component": "read" }).to_string();
    assert_eq!(
        door.post_as("r2", &format!("{path}/release"), read)
            .await
            .status,
        200
    );

    let accepted = door.post(&format!("{path}/accept-read"), "").await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
}

#[tokio::test]
async fn getting_ones_own_keys_back_is_no_way_round_a_dispute() {
    let mut world = World::deposited().await;
    let read = world
        .sealed_read(world.loser(), &closing_read("head end", "10229.9"))
        .await;
    let reply = world.deposit("LOSE", Some(switched()), &[&read]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let path = format!("/v1/supply-points/{POINT}/release");
    let loser = world.door_of("LOSE").await;
    let own = loser.post_as("k1", &path, release_body()).await;
    assert_eq!(own.status, 200, "{own:?}");

    world.wait_until("2025-07-01T12:00:00Z").await;
    assert_eq!(dispute(&world, "d1", "10230.5").await.status, 200);
    let gainer = world.door_of("GAIN").await;
    let held = gainer.post_as("k1", &path, release_body()).await;
    assert_eq!(held.refusal(), (403, "read_mismatch".to_owned()));
    let entry = &world.entries("release.refused").await[0];
    assert_eq!(entry["leaf"]["policies"], json!(["read-agreed"]));
    // What it has put into another meter meanwhile is its own.
    let mut exchanged = package_json(POINT);
    exchanged["meter"]["serial"] = json!("E19B000000");
    let exchanged = Package::parse(exchanged.to_string().as_bytes()).unwrap();
    let exchanged = world.sealed(world.gainer(), &exchanged).await;
    assert_eq!(world.deposit("GAIN", None, &[&exchanged]).await.status, 201);
    let new_meter = json!({ "meter_serial": "E19B000000" }).to_string();
    let own = gainer.post_as("k2", &path, new_meter).await;
    assert_eq!(own.status, 200, "{own:?}");
    // That was no release, after which a dispute holds nothing.
    assert_eq!(world.shown("GAIN", switched()).await["state"], "held");
    let held = world.release("GAIN", switched(), "k3").await;
    assert_eq!(held.refusal(), (403, "read_mismatch".to_owned()));

    let handover = format!("/v1/handovers/{}", switched());
    let read = json!({ "meter_serial": super::world::SERIAL, "component": "read" }).to_string();
    let fetch = format!("{handover}/release");
    assert_eq!(gainer.post_as("k4", &fetch, read).await.status, 200);
    let accept = format!("{handover}/accept-read");
    assert_eq!(gainer.post(&accept, "").await.status, 200);
    let freed = gainer.post_as("k1", &path, release_body()).await;
    assert_eq!(freed.status, 200, "{freed:?}");
}

#[tokio::test]
async fn a_read_that_was_not_fetched_is_not_accepted() {
    let world = with_read().await;
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/handovers/{}", switched());
    let accept = async || door.post(&format!("{path}/accept-read"), "").await;
    let unseen = (409, "wrong_state".to_owned());
    assert_eq!(accept().await.refusal(), unseen, "never fetched");
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
    let other = closing_read("head end", "99999.9");
    let other = world.sealed_read(world.loser(), &other).await;
    let reply = world.deposit("LOSE", Some(switched()), &[&other]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(
        accept().await.refusal(),
        unseen,
        "another one came in since"
    );
    assert_eq!(
        world.shown("GAIN", switched()).await["read"]["state"],
        "open"
    );
    assert_eq!(world.release("GAIN", switched(), "r2").await.status, 200);
    assert_eq!(accept().await.status, 200);
}

#[tokio::test]
async fn fetching_the_disputed_read_frees_no_credentials() {
    let world = with_read().await;
    let fetch = json!({ "meter_serial": super::world::SERIAL, "component": "read" }).to_string();
    let path = format!("/v1/handovers/{}/release", switched());
    let door = world.door_of("GAIN").await;
    let first = door.post_as("r1", &path, fetch.clone()).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(world.shown("GAIN", switched()).await["state"], "deposited");
    assert_eq!(dispute(&world, "d1", "10230.5").await.status, 200);
    let again = door.post_as("r2", &path, fetch).await;
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(world.shown("GAIN", switched()).await["state"], "held");
    let held = world.release("GAIN", switched(), "r3").await;
    assert_eq!(held.refusal(), (403, "read_mismatch".to_owned()));
}

#[tokio::test]
async fn a_dispute_after_the_release_blocks_no_further_delivery() {
    let world = with_read().await;
    let first = world.release("GAIN", switched(), "r1").await;
    assert_eq!(first.status, 200);
    assert_eq!(dispute(&world, "d1", "10230.5").await.status, 200);
    let door = world.door_of("GAIN").await;
    let path = format!("/v1/handovers/{}/release", switched());
    let again = door.post_as("r1", &path, release_body()).await;
    assert_eq!(again.status, 200, "{again:?}");
    // The disputing supplier's own read has come in since; the keys are the same.
    let credentials = json!({ "meter_serial": super::world::SERIAL, "component": "credentials" });
    let anew = door.post_as("r2", &path, credentials.to_string()).await;
    assert_eq!(anew.status, 200, "{anew:?}");
}

#[tokio::test]
async fn a_dispute_is_stored_whole_or_not_at_all() {
    let world = with_read().await;
    let stored = world.entries("package.deposited").await.len();
    let path = format!("/v1/handovers/{}/dispute", switched());
    let gainer = world.door_of("GAIN").await;
    let read = world
        .sealed_read(world.gainer(), &closing_read("head end", "1"))
        .await;
    let keys = world.sealed(world.gainer(), &package()).await;
    for (case, envelopes) in [
        ("keys", vec![keys.encode()]),
        ("both", vec![keys.encode(), read.encode()]),
    ] {
        let reply = gainer.post_as(case, &path, deposit_body(&envelopes)).await;
        assert_eq!(
            reply.refusal(),
            (422, "envelope_mismatch".to_owned()),
            "{case}"
        );
    }
    // The losing supplier does not dispute its own read.
    let own = world
        .sealed_read(world.loser(), &closing_read("head end", "2"))
        .await;
    let loser = world.door_of("LOSE").await;
    let reply = loser
        .post_as("own", &path, deposit_body(&[own.encode()]))
        .await;
    assert_eq!(reply.refusal(), (403, "not_gaining_supplier".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), stored);
    assert_eq!(
        world.shown("GAIN", switched()).await["read"]["state"],
        "open"
    );
}

#[tokio::test]
async fn without_a_read_there_is_nothing_to_dispute() {
    let world = World::releasable().await;
    let reply = dispute(&world, "d1", "10230.5").await;
    assert_eq!(reply.refusal(), (409, "no_package".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), 1);
    assert_eq!(world.release("GAIN", switched(), "r1").await.status, 200);
}

#[tokio::test]
async fn a_repeated_dispute_is_answered_and_not_done_again() {
    let world = with_read().await;
    let read = world
        .sealed_read(world.gainer(), &closing_read("head end", "10230.5"))
        .await;
    let body = deposit_body(&[read.encode()]);
    let path = format!("/v1/handovers/{}/dispute", switched());
    let door = world.door_of("GAIN").await;
    let first = door.post_as("d", &path, body.clone()).await;
    let again = door.post_as("d", &path, body).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.json()["read"], again.json()["read"]);
    assert_eq!(world.entries("read.disputed").await.len(), 1);
}

/// The day of the switch, with keys and a closing read of the losing supplier.
async fn with_read() -> World {
    let mut world = World::deposited().await;
    let read = world
        .sealed_read(world.loser(), &closing_read("head end", "10229.9"))
        .await;
    let reply = world.deposit("LOSE", Some(switched()), &[&read]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;
    world
}

async fn dispute(world: &World, key: &str, value: &str) -> Reply {
    let read = world
        .sealed_read(world.gainer(), &closing_read("head end", value))
        .await;
    let path = format!("/v1/handovers/{}/dispute", switched());
    let door = world.door_of("GAIN").await;
    door.post_as(key, &path, deposit_body(&[read.encode()]))
        .await
}
