//! Each kind of identity does its own work and no other.

use hyper::Method;
use serde_json::json;

use super::world::{POINT, SERIAL, World, release_body, switched};

#[tokio::test]
async fn each_route_serves_its_kinds_of_identity_and_refuses_the_others() {
    let world = World::open().await;
    let mut doors = Vec::new();
    for kind in ["registrar", "operator", "auditor", "witness"] {
        doors.push((kind, world.door(&format!("{kind}:demo")).await));
    }
    doors.push(("party", world.door_of("GAIN").await));
    for (kinds, method, path, body) in routes() {
        for (kind, door) in &doors {
            let headers = [("idempotency-key", "k")];
            let reply = door
                .send(method.clone(), &path, &headers, body.clone())
                .await;
            let what = format!("{kind} {method} {path}");
            if kinds.contains(kind) {
                let is_refused = reply.status >= 400 && reply.code() == "wrong_role";
                assert!(!is_refused && reply.status < 500, "{what}: {reply:?}");
            } else {
                assert_eq!(reply.refusal(), (403, "wrong_role".to_owned()), "{what}");
            }
        }
    }
}

type Route = (&'static [&'static str], Method, String, String);

/// Who may come, and a request that is well formed.
fn routes() -> Vec<Route> {
    const PARTY: &[&str] = &["party"];
    const OPERATOR: &[&str] = &["operator"];
    let handover = format!("/v1/handovers/{}", switched());
    let point = format!("/v1/supply-points/{POINT}");
    let meter = json!({ "smart": true, "serial": SERIAL }).to_string();
    let question = json!({ "supply_point": POINT }).to_string();
    let line = json!({ "supply_point": POINT, "smart": true, "serial": SERIAL }).to_string();
    let mpid = json!({ "mpid": "ZZZZ", "role": "X", "at": "2025-01-01T00:00:00Z" }).to_string();
    let client = json!({ "seal": "client", "envelopes": ["AAAA"] }).to_string();
    let get = |kinds, path: &str| (kinds, Method::GET, path.to_owned(), String::new());
    let post =
        |kinds, path: &str, body: &str| (kinds, Method::POST, path.to_owned(), body.to_owned());
    vec![
        get(PARTY, "/v1/handovers?role=losing"),
        get(PARTY, &handover),
        post(PARTY, &format!("{handover}/deposit"), &client),
        post(PARTY, "/v1/deposits", &client),
        post(PARTY, &format!("{handover}/release"), &release_body()),
        post(PARTY, &format!("{handover}/reject"), r#"{"reason":"r"}"#),
        post(PARTY, &format!("{handover}/accept-read"), ""),
        post(PARTY, &format!("{handover}/dispute"), &client),
        get(PARTY, &point),
        post(PARTY, "/v1/supply-points:lookup", &question),
        (PARTY, Method::PUT, format!("{point}/meter"), meter),
        post(PARTY, "/v1/meters", &line),
        post(PARTY, &format!("{point}/release"), &release_body()),
        post(&["registrar"], "/v1/registrations", "{}"),
        post(OPERATOR, "/v1/parties", r#"{"id":"new","name":"New"}"#),
        post(OPERATOR, "/v1/parties/thrd/suspend", ""),
        post(OPERATOR, "/v1/parties/thrd/resume", ""),
        post(OPERATOR, "/v1/parties/thrd/mpids", &mpid),
        post(OPERATOR, "/v1/parties/thrd/mpids/end", &mpid),
        get(&["operator", "auditor"], "/v1/parties"),
        get(&["auditor"], "/v1/log/entries"),
        get(&["auditor"], "/v1/log/entries/0"),
        get(&["auditor", "witness"], "/log/tile/0/000.p/1"),
    ]
}
