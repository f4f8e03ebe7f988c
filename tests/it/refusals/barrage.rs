//! Whatever is thrown at any route, nothing is answered with a 5xx, and the service does its work afterwards.

use futures_util::StreamExt as _;
use futures_util::stream;
use hyper::Method;

use super::world::{POINT, World, release_body, switched};

#[tokio::test]
async fn whatever_is_thrown_at_it_the_service_stays_up_and_breaks_nothing() {
    let world = World::releasable().await;
    for identity in [
        "party:gain",
        "registrar:demo",
        "operator:demo",
        "auditor:demo",
    ] {
        let door = world.door(identity).await;
        let sent = stream::iter(requests()).map(|(method, path, body)| {
            let door = &door;
            async move {
                let headers = [("idempotency-key", "k"), ("content-type", "text/csv")];
                let reply = door.send(method.clone(), &path, &headers, body).await;
                assert!(reply.status < 500, "{identity} {method} {path}: {reply:?}");
                let cached = reply.header("cache-control");
                let tile = path.starts_with("/log/tile/") && reply.status == 200;
                assert!(
                    tile || cached == Some("no-store"),
                    "{method} {path}: {reply:?}"
                );
                if reply.status >= 400 {
                    reply.code();
                }
            }
        });
        sent.buffer_unordered(32).collect::<()>().await;
    }
    let released = world.release("GAIN", switched(), "after").await;
    assert_eq!(released.status, 200, "{released:?}");
    assert_eq!(released.header("cache-control"), Some("no-store"));
    assert!(world.market.auditor.verified_checkpoint().await.is_ok());
}

/// Every body to every path, and methods that take none.
fn requests() -> Vec<(Method, String, Vec<u8>)> {
    let mut requests = Vec::new();
    for path in paths() {
        requests.push((Method::GET, path.clone(), Vec::new()));
        requests.push((Method::DELETE, path.clone(), Vec::new()));
        for body in bodies() {
            requests.push((Method::POST, path.clone(), body.clone()));
            requests.push((Method::PUT, path.clone(), body));
        }
    }
    requests
}

fn paths() -> Vec<String> {
    let handover = format!("/v1/handovers/{}", switched());
    let point = format!("/v1/supply-points/{POINT}");
    let mut paths: Vec<String> = [
        "/",
        "/v1/handovers?role=losing&limit=4294967295",
        "/v1/deposits",
        "/v1/meters",
        "/v1/supply-points:lookup",
        "/v1/registrations",
        "/v1/parties?after=zz&limit=18446744073709551615",
        "/v1/parties/nobody/suspend",
        "/v1/parties/nobody/mpids",
        "/v1/parties/me/sealing-keys",
        "/v1/parties/me/sealing-keys/retire",
        "/v1/parties/escrow/sealing-keys",
        "/v1/log/entries/9223372036854775807",
        "/v1/log/entries/18446744073709551615",
        "/v1/log/entries?before=18446744073709551615&limit=4294967295",
        "/v1/log/consistency?from=0&to=0",
        "/v1/log/consistency?from=1&to=18446744073709551615",
        "/log/tile/0/x999/x999/x999/x999/x999/999",
        "/log/tile/63/000.p/255",
        "/log/tile/entries/000.p/1",
    ]
    .map(str::to_owned)
    .into();
    for what in [
        "",
        "/deposit",
        "/release",
        "/confirm",
        "/reject",
        "/accept-read",
        "/dispute",
    ] {
        paths.push(format!("{handover}{what}"));
    }
    for what in ["", "/meter", "/release"] {
        paths.push(format!("{point}{what}"));
    }
    paths
}

fn bodies() -> [Vec<u8>; 8] {
    [
        Vec::new(),
        b"null".to_vec(),
        b"[[[[[[[[[[".to_vec(),
        b"\xff\xfe\0\0".to_vec(),
        br#"{"seal":"client","envelopes":["Y29zRQE="]}"#.to_vec(),
        br#"{"statement":{},"token":"18446744073709551615.x.y","possession":""}"#.to_vec(),
        b"registration_id,mpxn,supplier_mpid,supply_start_date\n\"\n,,,\n".to_vec(),
        release_body().into_bytes(),
    ]
}
