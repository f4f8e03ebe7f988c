//! How connections live and end.

use std::time::Duration;

use cos_escrow::http::listen::Limits;
use cos_escrow::tls::PostQuantum;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::{HandshakeKind, NamedGroup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{DAY, NOW, PATIENCE, World, request_on};

/// Short enough not to hold a test up, long enough for a busy machine.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let world = World::start().await;
    let north = world.party("north", 90);
    let mut config = world.config(&north, PostQuantum::Preferred);
    config.resumption = Resumption::in_memory_sessions(8);
    config.alpn_protocols.clear();
    for _ in 0..3 {
        let stream = world.handshake(config.clone()).await.unwrap();
        assert_eq!(
            stream.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Full)
        );
        // The whole way, as tickets come after the handshake.
        request_on(stream).await.unwrap();
    }
}

#[tokio::test]
async fn the_hybrid_group_is_negotiated_where_both_have_it() {
    let world = World::start().await;
    let north = world.party("north", 90);
    for (post_quantum, group) in [
        (PostQuantum::Preferred, NamedGroup::X25519MLKEM768),
        (PostQuantum::Off, NamedGroup::X25519),
    ] {
        let config = world.config(&north, post_quantum);
        let stream = world.handshake(config).await.unwrap();
        let negotiated = stream.get_ref().1.negotiated_key_exchange_group();
        assert_eq!(negotiated.unwrap().name(), group);
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_both_have_it() {
    let world = World::start().await;
    let config = world.config(&world.party("north", 90), PostQuantum::Preferred);
    let stream = world.handshake(config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = hyper::Request::get("https://localhost/").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "urn:cos-escrow:party:north");
    }
}

#[tokio::test]
async fn a_reload_cuts_the_revoked_connection_and_no_other() {
    let mut world = World::start().await;
    let (north, south) = (world.party("north", 90), world.party("south", 90));
    let revoked = world.connect(&north).await;
    let mut other = world.connect(&south).await;
    world.authority.revoke(north.certificate.serial, NOW);
    world.reload();
    timeout(PATIENCE, revoked.ended).await.unwrap().unwrap();
    assert_eq!(other.get("/").await.unwrap(), "urn:cos-escrow:party:south");
}

#[tokio::test]
async fn a_reload_cuts_a_request_that_is_under_way() {
    let mut world = World::start().await;
    let north = world.party("north", 90);
    let mut connection = world.connect(&north).await;
    let answer = tokio::spawn(async move { connection.get("/slow").await });
    timeout(PATIENCE, world.slow.reached.notified())
        .await
        .unwrap();
    world.authority.revoke(north.certificate.serial, NOW);
    world.reload();
    assert!(timeout(PATIENCE, answer).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_live_connection_does_not_outlive_its_certificate() {
    let world = World::start().await;
    let north = world.party("north", 2);
    let mut connection = world.connect(&north).await;
    assert_eq!(
        connection.get("/").await.unwrap(),
        "urn:cos-escrow:party:north"
    );
    world.clock.advance(3 * DAY);
    assert_eq!(connection.get("/").await.unwrap(), "certificate_expired");
}

#[tokio::test]
async fn a_live_connection_does_not_outlive_the_revocation_lists() {
    let world = World::start().await;
    let north = world.party("north", 90);
    let mut connection = world.connect(&north).await;
    world.clock.advance(8 * DAY);
    assert_eq!(connection.get("/").await.unwrap(), "revocation_unknown");
    world.reload();
    assert_eq!(
        connection.get("/").await.unwrap(),
        "urn:cos-escrow:party:north"
    );
}

#[tokio::test]
async fn one_connection_too_many_waits_for_a_place() {
    let limits = Limits {
        max_connections: 1,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let north = world.party("north", 90);
    let answer = world.busy(&north).await;
    let second = world.request(world.config(&north, PostQuantum::Preferred));
    tokio::pin!(second);
    assert!(timeout(SHORT, &mut second).await.is_err(), "got a place");
    world.slow.finish.notify_one();
    assert_eq!(answer.await.unwrap().unwrap(), "done");
    assert!(timeout(PATIENCE, second).await.unwrap().is_ok());
}

#[tokio::test]
async fn the_connection_that_is_idle_gives_its_place_to_one_that_waits() {
    let limits = Limits {
        max_connections: 2,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let north = world.party("north", 90);
    let answer = world.busy(&north).await;
    let idle = world.connect(&north).await;
    let mut third = world.connect(&world.party("south", 90)).await;
    assert!(timeout(PATIENCE, idle.ended).await.unwrap().unwrap());
    world.slow.finish.notify_one();
    assert_eq!(answer.await.unwrap().unwrap(), "done", "it was busy");
    assert_eq!(third.get("/").await.unwrap(), "urn:cos-escrow:party:south");
}

#[tokio::test]
async fn who_finds_no_place_in_time_is_closed_and_those_that_are_served_are_not() {
    let limits = Limits {
        max_connections: 1,
        handshake: Duration::from_secs(2),
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let north = world.party("north", 90);
    let answer = world.busy(&north).await;
    let second = world.request(world.config(&north, PostQuantum::Preferred));
    assert!(timeout(PATIENCE, second).await.unwrap().is_err());
    world.slow.finish.notify_one();
    assert_eq!(answer.await.unwrap().unwrap(), "done");
}

#[tokio::test]
async fn handshakes_and_served_connections_take_no_places_of_each_other() {
    let limits = Limits {
        max_handshakes: 1,
        max_connections: 1,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let north = world.party("north", 90);
    // One that is served leaves the place of its handshake to a stranger, who keeps it and takes no other.
    let mut served = world.connect(&north).await;
    let mut stranger = TcpStream::connect(world.address).await.unwrap();
    stranger.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(served.get("/").await.unwrap(), "urn:cos-escrow:party:north");
    }
    let next = world.request(world.config(&north, PostQuantum::Preferred));
    tokio::pin!(next);
    assert!(timeout(SHORT, &mut next).await.is_err(), "a second one");
    drop(stranger);
    assert!(timeout(PATIENCE, next).await.unwrap().is_ok());
}

#[tokio::test]
async fn one_identity_has_only_so_many_requests_on_all_of_its_connections() {
    let limits = Limits {
        max_requests_per_party: 1,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let (north, south) = (world.party("north", 90), world.party("south", 90));
    let mut second = world.connect(&north).await;
    let answer = world.busy(&north).await;
    assert_eq!(second.get("/").await.unwrap(), "crowded");
    let mut other = world.connect(&south).await;
    assert_eq!(other.get("/").await.unwrap(), "urn:cos-escrow:party:south");

    world.slow.finish.notify_one();
    assert_eq!(answer.await.unwrap().unwrap(), "done");
    let freed = async { while second.get("/").await.unwrap() == "crowded" {} };
    timeout(PATIENCE, freed).await.unwrap();
}

#[tokio::test]
async fn one_identity_has_only_so_many_connections_and_takes_no_place_of_others() {
    let limits = Limits {
        max_connections_per_party: 2,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let (north, south) = (world.party("north", 90), world.party("south", 90));
    let first = world.connect(&north).await;
    let mut second = world.connect(&north).await;
    let config = || world.config(&north, PostQuantum::Preferred);
    assert!(world.request(config()).await.is_err(), "a third one");
    let mut other = world.connect(&south).await;
    assert_eq!(other.get("/").await.unwrap(), "urn:cos-escrow:party:south");
    assert_eq!(second.get("/").await.unwrap(), "urn:cos-escrow:party:north");

    drop(first);
    let freed = async { while world.request(config()).await.is_err() {} };
    timeout(PATIENCE, freed).await.unwrap();
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let limits = Limits {
        handshake: SHORT,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let mut tcp = TcpStream::connect(world.address).await.unwrap();
    // The start of a record that never ends.
    tcp.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    let mut byte = [0];
    assert_eq!(
        timeout(PATIENCE, tcp.read(&mut byte))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_cut() {
    let limits = Limits {
        header: SHORT,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let north = world.party("north", 90);
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut config = world.config(&north, PostQuantum::Preferred);
        config.alpn_protocols = vec![alpn.to_vec()];
        let mut stream = world.handshake(config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        let mut rest = Vec::new();
        // The end comes without a TLS close, which is an error to read.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_connection_of_full_age_ends_in_good_order() {
    let limits = Limits {
        max_age: SHORT,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let connection = world.connect(&world.party("north", 90)).await;
    assert!(timeout(PATIENCE, connection.ended).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_running_request_outlives_the_stop() {
    let world = World::start().await;
    let north = world.party("north", 90);
    let mut connection = world.connect(&north).await;
    let answer = tokio::spawn(async move { connection.get("/slow").await });
    timeout(PATIENCE, world.slow.reached.notified())
        .await
        .unwrap();
    world.stop.cancel();
    let refused = async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("still accepts");
    world.slow.finish.notify_one();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.unwrap(), "done");
    timeout(PATIENCE, world.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stop_ends_with_the_grace() {
    let limits = Limits {
        grace: SHORT,
        ..Limits::default()
    };
    let world = World::with(limits).await;
    let mut connection = world.connect(&world.party("north", 90)).await;
    let answer = tokio::spawn(async move { connection.get("/slow").await });
    timeout(PATIENCE, world.slow.reached.notified())
        .await
        .unwrap();
    world.stop.cancel();
    assert!(timeout(PATIENCE, answer).await.unwrap().unwrap().is_err());
    timeout(PATIENCE, world.serving).await.unwrap().unwrap();
}
