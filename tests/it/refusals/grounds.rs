//! By what right a package was deposited is judged once: later records take nothing away, and forged rows add nothing.

use cos_escrow::types::HandoverId;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use super::generations::generations;
use super::world::{POINT, SERIAL, World, closing_read, package, switched};

const ANNULLED: (&str, &str) = ("RegistrationCancelledNotification", "Annulled");

#[tokio::test]
async fn an_annulment_after_a_rightful_deposit_withholds_no_keys() {
    let mut world = World::open().await;
    deposit(&world, None).await;
    world.switch().await;
    deposit(&world, Some(switched())).await;
    world.wait_until("2025-07-01T12:00:00Z").await;
    let annulled = world.event(POINT, "P1", ANNULLED, json!({}));
    world.market.register(false, &[annulled]).await.unwrap();

    let released = world.release("GAIN", switched(), "r1").await;
    assert_eq!(generations(world.gainer(), &released), [2, 1]);
    let entry = &world.entries("release.granted").await[0];
    assert_eq!(entry["leaf"]["left_out"], 0);
}

#[tokio::test]
async fn what_was_never_rightly_deposited_leaves_the_release_and_nothing_else_does() {
    let world = World::releasable().await;
    deposit(&world, Some(switched())).await;
    let mut database = database(&world).await;
    forge(&mut database, 2, "'$.depositor', 'thrd'").await;

    let released = world.release("GAIN", switched(), "r1").await;
    assert_eq!(generations(world.gainer(), &released), [1]);
    let entry = &world.entries("release.granted").await[0];
    assert_eq!(entry["leaf"]["left_out"], 1);

    // A grant that there never was is no ground, and neither is a version that was never recorded.
    let grant = "'$.ground', json('{\"grant\":\"gr_00000000000000000000000000000000\"}')";
    forge(&mut database, 2, grant).await;
    forge(&mut database, 1, "'$.ground.registration.version', 7").await;
    let refused = world.release("GAIN", switched(), "r2").await;
    assert_eq!(refused.refusal(), (403, "depositor_not_allowed".to_owned()));
}

#[tokio::test]
async fn who_was_given_a_closing_read_alone_has_no_ground_to_deposit() {
    let mut world = World::deposited().await;
    let read = world
        .sealed_read(world.loser(), &closing_read("head end", "10229.9"))
        .await;
    let reply = world.deposit("LOSE", Some(switched()), &[&read]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    world.wait_until("2025-07-01T12:00:00Z").await;
    let path = format!("/v1/handovers/{}/release", switched());
    let gainer = world.door_of("GAIN").await;
    let ask = |component| json!({ "meter_serial": SERIAL, "component": component }).to_string();
    assert_eq!(gainer.post_as("r1", &path, ask("read")).await.status, 200);
    world
        .switch_to("THRD", ("R2", "2025-07-04"), json!({}))
        .await;

    world.wait_until("2025-07-04T12:00:00Z").await;
    let envelope = world.sealed(world.gainer(), &package()).await;
    let refused = world.deposit("GAIN", None, &[&envelope]).await;
    assert_eq!(refused.refusal(), (403, "depositor_not_allowed".to_owned()));
}

async fn deposit(world: &World, handover: Option<HandoverId>) {
    let envelope = world.sealed(world.loser(), &package()).await;
    let reply = world.deposit("LOSE", handover, &[&envelope]).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// The database as whoever has its file can write it.
async fn database(world: &World) -> SqliteConnection {
    let file = world.market.instance.escrow.store().path().to_owned();
    let options = SqliteConnectOptions::new().filename(file);
    options.connect().await.unwrap()
}

async fn forge(database: &mut SqliteConnection, generation: u32, change: &str) {
    let forged = format!(
        "UPDATE envelope SET facts = json_set(facts, {change}) WHERE generation = {generation}"
    );
    let forged = sqlx::query(AssertSqlSafe(forged)).execute(database).await;
    assert_eq!(forged.unwrap().rows_affected(), 1);
}
