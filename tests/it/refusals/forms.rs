//! Requests that cannot be read: each a problem document that repeats nothing of them.

use hyper::Method;
use serde_json::{Value, json};

use super::door::Door;
use super::world::{NOWHERE, POINT, SECRET, SERIAL, World, package_json, release_body, switched};

#[tokio::test]
async fn a_request_for_a_release_that_cannot_be_read_is_malformed() {
    let world = World::open().await;
    let with = |name: &str, value: Value| {
        let mut body = json!({ "meter_serial": SERIAL });
        body[name] = value;
        body.to_string()
    };
    let twice = format!(r#"{{"meter_serial":"{SERIAL}","meter_serial":"{SERIAL}"}}"#);
    let cases = [
        ("no JSON", "{".to_owned()),
        ("nothing", String::new()),
        ("two documents", format!("{0}{0}", release_body())),
        ("a field missing", "{}".to_owned()),
        ("unknown field", with(SECRET, json!(1))),
        ("wrong type", with("meter_serial", json!([SERIAL]))),
        ("field twice", twice),
        ("unknown word", with("component", json!(SECRET))),
        (
            "no serial",
            with("meter_serial", json!(format!("{SECRET}\t{POINT}"))),
        ),
        ("no key", with("key_id", json!(SECRET))),
        ("deep", "[".repeat(100_000)),
        (
            "half a character",
            r#"{"meter_serial":"\ud800"}"#.to_owned(),
        ),
    ];
    let path = format!("/v1/handovers/{}/release", switched());
    assert_malformed(&world.door_of("GAIN").await, &path, &cases).await;
}

#[tokio::test]
async fn a_deposit_that_cannot_be_read_is_malformed_and_nothing_is_stored() {
    let world = World::open().await;
    let sealed = |envelopes: Value| json!({ "seal": "client", "envelopes": envelopes });
    let both = json!({ "seal": "client", "envelopes": [], "package": {} });
    let cases = [
        ("unknown sealer", json!({ "seal": SECRET })),
        ("both kinds of deposit", both),
        ("no base64", sealed(json!([format!("{SECRET}!")]))),
        ("a number of envelopes", sealed(json!(1))),
        ("no envelope", sealed(json!([]))),
        ("nothing to seal", json!({ "seal": "server" })),
    ];
    let cases = cases.map(|(case, body)| (case, body.to_string()));
    assert_malformed(&world.door_of("LOSE").await, "/v1/deposits", &cases).await;
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn other_documents_that_cannot_be_read_are_malformed() {
    let world = World::open().await;
    let (party, operator) = (
        world.door_of("GAIN").await,
        world.door("operator:demo").await,
    );
    let handover = format!("/v1/handovers/{}", switched());
    let clear = [("in clear", json!({ "outcome": "rotated" }).to_string())];
    assert_malformed(&party, &format!("{handover}/confirm"), &clear).await;
    let number = [("a number", json!({ "reason": 7 }).to_string())];
    assert_malformed(&party, &format!("{handover}/reject"), &number).await;
    let parties = [
        ("another form", json!({ "id": "No Party", "name": "n" })),
        ("no name", json!({ "id": "a", "name": "" })),
        ("reserved", json!({ "id": "escrow", "name": "n" })),
    ];
    let parties = parties.map(|(case, body)| (case, body.to_string()));
    assert_malformed(&operator, "/v1/parties", &parties).await;

    let own_keys = "/v1/parties/me/sealing-keys";
    let reply = party.put(own_keys, vec![0xff, 0xfe]).await;
    assert_eq!(reply.refusal(), (400, "malformed_request".to_owned()));
    let reply = party
        .put(own_keys, json!({ "statement": SECRET }).to_string())
        .await;
    assert_eq!(reply.refusal(), (422, "statement_invalid".to_owned()));
    assert_says_nothing(&reply.body, "statement");
}

#[tokio::test]
async fn a_package_in_clear_is_refused_by_its_place_and_not_by_its_values() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    for (place, pointer, value) in [
        (
            "credentials[0].dlms.kek",
            "/credentials/0/dlms/kek",
            json!(format!("{SECRET}0")),
        ),
        ("meter.serial", "/meter/serial", json!(7)),
        ("supply_point", "/supply_point", json!("9693016118874")),
        ("format", "/format", json!(SECRET)),
        (
            "credentials[0].dlms",
            "/credentials/0/dlms",
            json!({ SECRET: 1 }),
        ),
    ] {
        let mut package = package_json(POINT);
        *package.pointer_mut(pointer).unwrap() = value;
        let body = json!({ "seal": "server", "package": package }).to_string();
        let reply = door.post_as(place, "/v1/deposits", body).await;
        assert_eq!(
            reply.refusal(),
            (422, "package_invalid".to_owned()),
            "{place}"
        );
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(place), "{place}: {detail}");
        assert_says_nothing(&reply.body, place);
    }
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn an_oversized_body_is_413_with_a_problem_document() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    let large = vec![b' '; 1024 * 1024 + 1];
    for path in [
        "/v1/deposits".to_owned(),
        format!("/v1/handovers/{}/release", switched()),
    ] {
        let reply = door.post_as("k", &path, large.clone()).await;
        assert_eq!(reply.refusal(), (413, "too_large".to_owned()), "{path}");
    }
    let reply = door.put("/v1/parties/me/sealing-keys", large).await;
    assert_eq!(reply.refusal(), (413, "too_large".to_owned()));
}

#[tokio::test]
async fn a_supply_point_with_a_wrong_digit_is_told_from_one_of_another_form_and_an_unknown_one() {
    let world = World::open().await;
    let door = world.door_of("GAIN").await;
    for (point, status, code) in [
        ("9693016118874", 422, "check_digit"),
        ("969301611887", 422, "malformed_supply_point"),
        ("9693016118873x", 422, "malformed_supply_point"),
        ("%00", 422, "malformed_supply_point"),
        ("%FF", 404, "not_found"),
        (NOWHERE, 404, "not_found"),
    ] {
        let path = format!("/v1/supply-points/{point}");
        let asked = door.get(&path).await;
        let released = door
            .post_as(point, &format!("{path}/release"), release_body())
            .await;
        let meter = json!({ "smart": true, "serial": SERIAL }).to_string();
        let stated = door.put(&format!("{path}/meter"), meter).await;
        for reply in [asked, released, stated] {
            assert_eq!(reply.refusal(), (status, code.to_owned()), "{point}");
            assert_says_nothing(&reply.body, point);
        }
    }
}

#[tokio::test]
async fn hostile_queries_are_malformed() {
    let world = World::open().await;
    let (party, auditor) = (
        world.door_of("GAIN").await,
        world.door("auditor:demo").await,
    );
    let cases = [
        (&party, "/v1/handovers".to_owned()),
        (&party, format!("/v1/handovers?role={SECRET}")),
        (&party, "/v1/handovers?role=losing&role=gaining".to_owned()),
        (&party, format!("/v1/handovers?role=losing&{POINT}=1")),
        (
            &party,
            "/v1/handovers?role=losing&state='%20OR%201=1--".to_owned(),
        ),
        (&party, "/v1/handovers?role=losing&limit=-1".to_owned()),
        (
            &party,
            "/v1/handovers?role=losing&limit=99999999999".to_owned(),
        ),
        (&party, "/v1/handovers?role=losing&after=%FF".to_owned()),
        (
            &party,
            "/v1/handovers?role=losing&supply_point=9693016118874".to_owned(),
        ),
        (&party, "/v1/log/consistency?from=2&to=1".to_owned()),
        (
            &party,
            "/v1/log/consistency?from=0&to=18446744073709551615".to_owned(),
        ),
        (&party, "/v1/log/consistency?from=-1&to=1".to_owned()),
        (&auditor, "/v1/log/entries?limit=0x10".to_owned()),
        (&auditor, "/v1/log/entries?from=yesterday".to_owned()),
        (&auditor, "/log/tile/64/000".to_owned()),
        (&auditor, "/log/tile/../checkpoint".to_owned()),
    ];
    for (door, path) in cases {
        let reply = door.get(&path).await;
        assert_eq!(
            reply.refusal(),
            (400, "malformed_request".to_owned()),
            "{path}"
        );
        assert_says_nothing(&reply.body, &path);
    }
    let party_is_fine = party.get("/v1/log/consistency?from=0&to=1").await;
    assert_eq!(party_is_fine.status, 200);
    let found = auditor
        .get("/v1/log/entries?actor='%20OR%201=1--&limit=0")
        .await;
    assert_eq!(found.json()["entries"], json!([]));
}

#[tokio::test]
async fn a_path_that_names_nothing_is_not_found() {
    let world = World::open().await;
    let (party, auditor) = (
        world.door_of("GAIN").await,
        world.door("auditor:demo").await,
    );
    let long = "a".repeat(4_000);
    for (door, path) in [
        (&party, "/v1/handovers/ho_"),
        (&party, "/v1/handovers/%FF%FE"),
        (&party, "/v1/handovers/..%2F..%2Fetc%2Fpasswd"),
        (&party, "/v1/parties/%FF/sealing-keys"),
        (&party, "/v1/parties/nobody/sealing-keys"),
        (&party, &format!("/v1/handovers/{long}")),
        (&party, "/v2/handovers"),
        (&auditor, "/v1/log/entries/one"),
        (&auditor, "/v1/log/entries/-1"),
        (&auditor, "/v1/log/entries/18446744073709551615"),
        (&auditor, "/v1/log/entries/99999999999999999999"),
    ] {
        let reply = door.get(path).await;
        assert_eq!(reply.refusal(), (404, "not_found".to_owned()), "{path}");
    }
    let reply = party.send(Method::DELETE, "/v1/handovers", &[], "").await;
    assert_eq!(reply.refusal(), (405, "malformed_request".to_owned()));
}

#[tokio::test]
async fn a_page_of_another_site_does_nothing_in_the_name_of_a_certificate() {
    let world = World::open().await;
    let operator = world.door("operator:demo").await;
    let path = "/v1/parties/lose/suspend";
    for site in ["cross-site", "same-site"] {
        let headers = [("sec-fetch-site", site)];
        let reply = operator.send(Method::POST, path, &headers, "").await;
        assert_eq!(
            reply.refusal(),
            (400, "malformed_request".to_owned()),
            "{site}"
        );
    }
    assert_eq!(world.entries("party.suspended").await.len(), 0);
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(
        operator.send(Method::POST, path, &own, "").await.status,
        200
    );
}

async fn assert_malformed(door: &Door, path: &str, cases: &[(&str, String)]) {
    for (case, body) in cases {
        let reply = door.post_as("k", path, body.clone()).await;
        assert_eq!(
            reply.refusal(),
            (400, "malformed_request".to_owned()),
            "{case}"
        );
        assert_says_nothing(&reply.body, case);
    }
}

/// Neither the digits, nor the serial, nor a key, as far as a test sends them.
fn assert_says_nothing(body: &[u8], case: &str) {
    let text = String::from_utf8_lossy(body);
    for secret in [POINT, NOWHERE, "969301611887", SERIAL, SECRET] {
        assert!(!text.contains(secret), "{case}: {text}");
    }
}
