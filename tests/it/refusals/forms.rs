//! Requests that cannot be read: each a problem document that repeats nothing of them.

use hyper::Method;
use serde_json::{Value, json};

use super::world::{NOWHERE, POINT, SECRET, SERIAL, World, package_json, release_body, switched};

#[expect(
    clippy::too_many_lines,
    reason = "one table of cases, one line of meaning each"
)]
#[tokio::test]
async fn what_is_no_document_of_the_route_is_malformed() {
    let world = World::open().await;
    let (party, operator) = (
        world.door_of("GAIN").await,
        world.door("operator:demo").await,
    );
    let handover = format!("/v1/handovers/{}", switched());
    let release = format!("{handover}/release");
    let own_keys = "/v1/parties/me/sealing-keys";
    let cases = [
        ("no JSON", &party, release.as_str(), "{".to_owned()),
        ("nothing", &party, &release, String::new()),
        (
            "two documents",
            &party,
            &release,
            format!("{0}{0}", release_body()),
        ),
        ("a field missing", &party, &release, "{}".to_owned()),
        (
            "unknown field",
            &party,
            &release,
            json!({ "meter_serial": SERIAL, SECRET: 1 }).to_string(),
        ),
        (
            "wrong type",
            &party,
            &release,
            json!({ "meter_serial": [SERIAL] }).to_string(),
        ),
        (
            "field twice",
            &party,
            &release,
            format!(r#"{{"meter_serial":"{SERIAL}","meter_serial":"{SERIAL}"}}"#),
        ),
        (
            "unknown word",
            &party,
            &release,
            json!({ "meter_serial": SERIAL, "component": SECRET }).to_string(),
        ),
        (
            "no serial",
            &party,
            &release,
            json!({ "meter_serial": format!("{SECRET}\t{POINT}") }).to_string(),
        ),
        ("deep", &party, &release, "[".repeat(100_000)),
        (
            "invalid UTF-8 escapes",
            &party,
            &release,
            r#"{"meter_serial":"\ud800"}"#.to_owned(),
        ),
        (
            "unknown sealer",
            &party,
            "/v1/deposits",
            json!({ "seal": SECRET }).to_string(),
        ),
        (
            "both kinds of deposit",
            &party,
            "/v1/deposits",
            json!({ "seal": "client", "envelopes": [], "package": {} }).to_string(),
        ),
        (
            "no base64",
            &party,
            "/v1/deposits",
            json!({ "seal": "client", "envelopes": [format!("{SECRET}!")] }).to_string(),
        ),
        (
            "a number of envelopes",
            &party,
            "/v1/deposits",
            json!({ "seal": "client", "envelopes": 1 }).to_string(),
        ),
        (
            "no envelope",
            &party,
            "/v1/deposits",
            json!({ "seal": "client", "envelopes": [] }).to_string(),
        ),
        (
            "a confirmation in clear",
            &party,
            &format!("{handover}/confirm"),
            json!({ "outcome": "rotated" }).to_string(),
        ),
        (
            "a reason as number",
            &party,
            &format!("{handover}/reject"),
            json!({ "reason": 7 }).to_string(),
        ),
        (
            "a party of another form",
            &operator,
            "/v1/parties",
            json!({ "id": "No Party", "name": "n" }).to_string(),
        ),
        (
            "a party without name",
            &operator,
            "/v1/parties",
            json!({ "id": "a", "name": "" }).to_string(),
        ),
        (
            "a reserved party",
            &operator,
            "/v1/parties",
            json!({ "id": "escrow", "name": "n" }).to_string(),
        ),
    ];
    for (case, door, path, body) in cases {
        let reply = door.post_as("k", path, body).await;
        assert_eq!(
            reply.refusal(),
            (400, "malformed_request".to_owned()),
            "{case}"
        );
        assert_says_nothing(&reply.body, case);
    }
    let reply = party
        .put(own_keys, json!({ "statement": SECRET }).to_string())
        .await;
    assert_eq!(reply.refusal(), (422, "statement_invalid".to_owned()));
    assert_says_nothing(&reply.body, "statement");
    let reply = party.put(own_keys, vec![0xff, 0xfe]).await;
    assert_eq!(reply.refusal(), (400, "malformed_request".to_owned()));
    assert_eq!(world.entries("package.deposited").await.len(), 0);
}

#[tokio::test]
async fn a_package_in_clear_is_refused_by_its_place_and_not_by_its_values() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    type Case = (&'static str, fn(&mut Value));
    let cases: [Case; 5] = [
        ("credentials[0].dlms.kek", |p| {
            p["credentials"][0]["dlms"]["kek"] = json!(format!("{SECRET}0"))
        }),
        ("credentials[0].dlms", |p| {
            p["credentials"][0]["dlms"][SECRET] = json!(1)
        }),
        ("meter.serial", |p| p["meter"]["serial"] = json!(7)),
        ("supply_point", |p| {
            p["supply_point"] = json!("9693016118874")
        }),
        ("format", |p| p["format"] = json!(SECRET)),
    ];
    for (place, spoil) in cases {
        let mut package = package_json(POINT);
        spoil(&mut package);
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

/// Neither the digits, nor the serial, nor a key, as far as a test sends them.
fn assert_says_nothing(body: &[u8], case: &str) {
    let text = String::from_utf8_lossy(body);
    for secret in [POINT, NOWHERE, "969301611887", SERIAL, SECRET] {
        assert!(!text.contains(secret), "{case}: {text}");
    }
}
