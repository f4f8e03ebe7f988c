//! Streams of records: one bad record never sinks the others.

use serde_json::{Value, json};

use super::door::Reply;
use super::world::{NOWHERE, POINT, SERIAL, World};

#[tokio::test]
async fn a_bad_registration_is_refused_by_its_line_and_the_others_go_in() {
    let world = World::open().await;
    let registrar = world.door("registrar:demo").await;
    let pending = ("RegistrationPendingNotification", "Pending");
    let data = json!({ "supplierMpid": "GAIN", "supplyStartDate": "2025-07-01" });
    let good = |point: &str, id: &str| world.event(point, id, pending, data.clone());
    let wrong_supplier = json!({ "supplierMpid": "gain", "supplyStartDate": "2025-07-01" });
    let mut body = Vec::new();
    for line in [
        good(POINT, "R1").into_bytes(),
        b"{".to_vec(),
        good(POINT, "R2")
            .replace(POINT, "9693016118874")
            .into_bytes(),
        good(POINT, "R3").replace(POINT, "96930").into_bytes(),
        vec![0xff, 0xfe],
        Vec::new(),
        vec![b'x'; 70_000],
        vec![b'x'; 600_000],
        world
            .event(POINT, "R4", pending, wrong_supplier)
            .into_bytes(),
        // The registration that is known at another supply point: a constraint of the database, were it not noticed.
        good(NOWHERE, "R1").replace("R1-", "again-").into_bytes(),
        good(NOWHERE, "R5").into_bytes(),
        good(POINT, "R1").into_bytes(),
    ] {
        body.extend(line);
        body.push(b'\n');
    }
    let reply = registrar.post("/v1/registrations", body).await;
    assert_eq!(reply.status, 200);
    let expected = [
        (1, "recorded"),
        (2, "registration_invalid"),
        (3, "check_digit"),
        (4, "malformed_supply_point"),
        (5, "registration_invalid"),
        (7, "too_large"),
        (8, "too_large"),
        (9, "registration_invalid"),
        (10, "registration_conflict"),
        (11, "recorded"),
        (12, "known"),
    ];
    assert_eq!(outcomes(&reply), owned(&expected));
    assert_says_nothing(&reply);
}

#[tokio::test]
async fn a_registration_that_is_known_elsewhere_is_a_conflict_later_too() {
    let world = World::open().await;
    world.switch().await;
    let registrar = world.door("registrar:demo").await;
    let secured = ("RegistrationSecuredActiveNotification", "SecuredActive");
    let good = world.event(POINT, "R7", secured, json!({}));
    let elsewhere = world.event(
        NOWHERE,
        "R1",
        ("RegistrationPendingNotification", "x"),
        json!({
            "supplierMpid": "GAIN", "supplyStartDate": "2025-07-01",
        }),
    );
    let reply = registrar
        .post("/v1/registrations", format!("{elsewhere}\n{good}\n"))
        .await;
    let expected = [(1, "registration_conflict"), (2, "recorded")];
    assert_eq!(outcomes(&reply), owned(&expected));
}

#[tokio::test]
async fn a_bad_row_of_a_snapshot_is_refused_by_its_line_and_the_others_go_in() {
    let world = World::open().await;
    let registrar = world.door("registrar:demo").await;
    let rows = format!(
        "registration_id,mpxn,supplier_mpid,supply_start_date\n\
         S1,{NOWHERE},LOSE,2020-01-01\nS2,{NOWHERE},LOSE\nS3,{NOWHERE},LOSE,soon\n\
         S4,2499999999990,LOSE,2020-01-01\n\"S5\n,,,\nS6,3938424403,LOSE,2020-01-01"
    );
    let headers = [("content-type", "text/csv")];
    let reply = registrar
        .send(hyper::Method::POST, "/v1/registrations", &headers, rows)
        .await;
    let expected = [
        (2, "recorded"),
        (3, "registration_invalid"),
        (4, "registration_invalid"),
        (5, "check_digit"),
        (6, "registration_invalid"),
        (7, "registration_invalid"),
        (8, "recorded"),
    ];
    assert_eq!(outcomes(&reply), owned(&expected));
    assert_says_nothing(&reply);
}

#[tokio::test]
async fn a_bad_statement_about_a_meter_does_not_sink_the_others() {
    let world = World::open().await;
    let door = world.door_of("LOSE").await;
    let line = |point: &str| json!({ "supply_point": point, "smart": true, "serial": SERIAL });
    let with = |name: &str, value: Value| {
        let mut line = line(POINT);
        line[name] = value;
        line.to_string()
    };
    let lines = [
        line(POINT).to_string(),
        "[]".to_owned(),
        with("smart", json!("yes")),
        with(SERIAL, json!(1)),
        with("class", json!("x".repeat(65))),
        with("installed", json!("2025-02-30")),
        line("9693016118874").to_string(),
        line(NOWHERE).to_string(),
        with("class", json!("x".repeat(600_000))),
        with("class", json!("S1")),
    ];
    let reply = door.post("/v1/meters", lines.join("\n")).await;
    let expected = [
        (1, "ok"),
        (2, "malformed_request"),
        (3, "malformed_request"),
        (4, "malformed_request"),
        (5, "malformed_request"),
        (6, "malformed_request"),
        (7, "check_digit"),
        (8, "not_found"),
        (9, "too_large"),
        (10, "ok"),
    ];
    assert_eq!(outcomes(&reply), owned(&expected));
    assert_eq!(world.entries("meter.stated").await.len(), 2);
}

#[tokio::test]
async fn a_bad_question_does_not_sink_the_others() {
    let world = World::open().await;
    let door = world.door_of("THRD").await;
    let good = json!({ "supply_point": POINT, "purpose": "quotation 1" }).to_string();
    let lines: Vec<Vec<u8>> = vec![
        good.clone().into_bytes(),
        json!({ "supply_point": POINT }).to_string().into_bytes(),
        json!({ "supply_point": "9693016118874", "purpose": "p" })
            .to_string()
            .into_bytes(),
        json!({ "supply_point": 9_693_016_118_873_u64 })
            .to_string()
            .into_bytes(),
        json!({ "supply_point": POINT, "because": "p" })
            .to_string()
            .into_bytes(),
        json!({ "supply_point": POINT, "purpose": "p".repeat(201) })
            .to_string()
            .into_bytes(),
        vec![b'"', 0xff, b'"'],
        good.into_bytes(),
    ];
    let reply = door
        .post("/v1/supply-points:lookup", lines.join(&b'\n'))
        .await;
    let expected = [
        (1, "ok"),
        (2, "not_found"),
        (3, "check_digit"),
        (4, "malformed_request"),
        (5, "malformed_request"),
        (6, "malformed_request"),
        (7, "malformed_request"),
        (8, "ok"),
    ];
    assert_eq!(outcomes(&reply), owned(&expected));
}

pub(super) fn owned(outcomes: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = outcomes
        .iter()
        .map(|(line, word)| (*line, (*word).to_owned()));
    owned.collect()
}

/// What became of each line: its code, its result, or that it was answered.
pub(super) fn outcomes(reply: &Reply) -> Vec<(u64, String)> {
    let outcome = |line: &Value| {
        let word = line.get("code").or_else(|| line.get("result"));
        let word = word.map_or("ok", |word| word.as_str().unwrap());
        (line["line"].as_u64().unwrap(), word.to_owned())
    };
    reply.lines().iter().map(outcome).collect()
}

fn assert_says_nothing(reply: &Reply) {
    let text = String::from_utf8_lossy(&reply.body);
    for digits in [POINT, NOWHERE, "9693016118874", "2499999999990", "96930"] {
        assert!(!text.contains(digits), "{text}");
    }
}
