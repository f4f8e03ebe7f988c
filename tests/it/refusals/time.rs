//! Clocks that go back, feeds that fall silent.

use std::time::Duration;

use super::world::{DAY, World, package, switched};

#[tokio::test]
async fn while_the_clock_is_far_back_nothing_is_decided_and_nothing_is_lost() {
    let world = World::releasable().await;
    assert_eq!(
        world.release("GAIN", switched(), "before").await.status,
        200
    );
    let now = world.now();
    let door = world.door_of("GAIN").await;
    let loser = world.door_of("LOSE").await;
    let envelope = world.sealed(world.loser(), &package()).await;
    let body = super::world::deposit_body(&[envelope.encode()]);
    let size = world
        .market
        .instance
        .escrow
        .store()
        .head()
        .await
        .unwrap()
        .size;

    world.market.clock.set(now.before(Duration::from_secs(299)));
    let path = format!("/v1/handovers/{}/release", switched());
    let early = door
        .post_as("slightly", &path, super::world::release_body())
        .await;
    assert_eq!(early.status, 200, "a small step back is bridged");

    world.market.clock.set(now.before(Duration::from_secs(301)));
    let released = door
        .post_as("back", &path, super::world::release_body())
        .await;
    assert_eq!(released.refusal(), (503, "clock_back".to_owned()));
    assert_eq!(released.header("retry-after"), Some("5"));
    let deposited = loser.post_as("back", "/v1/deposits", body.clone()).await;
    assert_eq!(deposited.refusal(), (503, "clock_back".to_owned()));
    assert!(ready(&world).await.contains("[-] clock failed"));
    let head = world.market.instance.escrow.store().head().await.unwrap();
    assert_eq!(head.size, size + 1, "only the release that was bridged");

    world.market.clock.set(now);
    assert_eq!(
        door.post_as("back", &path, super::world::release_body())
            .await
            .status,
        200
    );
    assert_ne!(
        loser.post_as("back", "/v1/deposits", body).await.status,
        503
    );
    assert!(ready(&world).await.contains("[+] clock ok"));
    let auditor = world.market.auditor.verified_checkpoint().await;
    assert!(auditor.is_ok(), "the log goes on where it was");
}

#[tokio::test]
async fn while_the_feed_is_silent_nothing_is_released() {
    let mut world = World::deposited().await;
    world.wait_until("2025-07-01T12:00:00Z").await;
    assert!(ready(&world).await.contains("[+] registration_feed ok"));
    world.market.clock.advance(2 * DAY);

    let released = world.release("GAIN", switched(), "silent").await;
    assert_eq!(released.refusal(), (503, "registration_stale".to_owned()));
    let probe = ready(&world).await;
    assert!(probe.contains("[-] registration_feed failed"), "{probe}");
    assert!(probe.starts_with("HTTP/1.1 503"), "{probe}");

    // A feed that only contradicts what is known is no feed.
    let now = world.now();
    let conflict = format!("P1,{},LOSE,2020-01-01", super::world::NOWHERE);
    let header = "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned();
    assert!(
        world
            .market
            .register(true, &[header, conflict])
            .await
            .is_err()
    );
    assert_eq!(world.now(), now);
    assert_eq!(
        world.release("GAIN", switched(), "silent").await.status,
        503
    );

    world.heartbeat().await;
    assert_eq!(
        world.release("GAIN", switched(), "silent").await.status,
        200
    );
}

/// What `/readyz?verbose` says, with its status line.
async fn ready(world: &World) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut probe = tokio::net::TcpStream::connect(world.market.instance.admin)
        .await
        .unwrap();
    let request = "GET /readyz?verbose HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    probe.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).await.unwrap();
    answer
}
