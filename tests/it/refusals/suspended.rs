//! A suspended party does nothing from that instant on, on connections that live as well.

use hyper::Method;
use serde_json::json;

use super::world::{POINT, SERIAL, World, release_body, switched};

#[tokio::test]
async fn a_suspended_party_is_refused_at_once_on_every_route_and_comes_back() {
    let world = World::releasable().await;
    let operator = world.door("operator:demo").await;
    let gainer = world.door_of("GAIN").await;
    let release = format!("/v1/handovers/{}/release", switched());
    assert_eq!(
        gainer
            .post_as("before", &release, release_body())
            .await
            .status,
        200
    );

    assert_eq!(
        operator.post("/v1/parties/gain/suspend", "").await.status,
        200
    );
    for (method, path, body) in routes() {
        let headers = [("idempotency-key", "during")];
        let reply = gainer.send(method.clone(), &path, &headers, body).await;
        let refusal = (403, "party_suspended".to_owned());
        assert_eq!(reply.refusal(), refusal, "{method} {path}");
    }
    // One and the same request, whose answer is remembered: suspended is suspended.
    let again = gainer.post_as("before", &release, release_body()).await;
    assert_eq!(again.refusal(), (403, "party_suspended".to_owned()));

    assert_eq!(
        operator.post("/v1/parties/gain/resume", "").await.status,
        200
    );
    assert_eq!(
        gainer
            .post_as("before", &release, release_body())
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn who_is_not_in_the_directory_does_nothing() {
    let world = World::open().await;
    let unknown = world.door("party:unknown").await;
    for (method, path, body) in routes() {
        let headers = [("idempotency-key", "k")];
        let reply = unknown.send(method.clone(), &path, &headers, body).await;
        let refusal = (403, "party_unknown".to_owned());
        assert_eq!(reply.refusal(), refusal, "{method} {path}");
    }
}

/// Every route that takes a certificate; for some it is another kind's, or the body is nonsense: check 2 comes first.
fn routes() -> Vec<(Method, String, String)> {
    let handover = format!("/v1/handovers/{}", switched());
    let point = format!("/v1/supply-points/{POINT}");
    let question = json!({ "supply_point": POINT }).to_string();
    let line = json!({ "supply_point": POINT, "smart": true, "serial": SERIAL }).to_string();
    let get = |path: &str| (Method::GET, path.to_owned(), String::new());
    let post = |path: &str, body: &str| (Method::POST, path.to_owned(), body.to_owned());
    let put = |path: &str, body: &str| (Method::PUT, path.to_owned(), body.to_owned());
    vec![
        get("/v1/handovers?role=losing"),
        get(&handover),
        post(&format!("{handover}/deposit"), "{"),
        post("/v1/deposits", "{"),
        post(&format!("{handover}/release"), &release_body()),
        post(&format!("{handover}/confirm"), "{}"),
        post(&format!("{handover}/reject"), r#"{"reason":"r"}"#),
        post(&format!("{handover}/accept-read"), ""),
        post(&format!("{handover}/dispute"), "{"),
        get(&point),
        post("/v1/supply-points:lookup", &question),
        put(&format!("{point}/meter"), "{}"),
        post("/v1/meters", &line),
        post(&format!("{point}/release"), &release_body()),
        post("/v1/registrations", "{}"),
        post("/v1/parties", "{}"),
        post("/v1/parties/gain/resume", ""),
        put("/v1/parties/me/sealing-keys", "{}"),
        post("/v1/parties/me/sealing-keys/retire", "{}"),
        get("/v1/parties/gain/sealing-keys"),
        get("/v1/parties"),
        get("/v1/log/checkpoint"),
        get("/v1/log/consistency?from=0&to=1"),
        get("/v1/log/entries"),
        get("/log/checkpoint"),
        get("/log/tile/0/000.p/1"),
    ]
}
