//! What a registration feed gets wrong: contradictions under one name, events from the future, dates out of range.

use serde_json::{Value, json};

use super::batches::{outcomes, owned};
use super::door::Reply;
use super::world::{DAY, POINT, SWITCH, World, switched};

const SECURED: (&str, &str) = ("RegistrationSecuredActiveNotification", "SecuredActive");
const CANCELLED: (&str, &str) = ("RegistrationCancelledNotification", "Cancelled");

/// An event about the switch, with some of its fields replaced.
fn event(world: &World, what: (&str, &str), fields: &Value) -> String {
    let event = world.event(POINT, SWITCH.0, what, json!({}));
    let mut event: Value = serde_json::from_str(&event).unwrap();
    let fields = fields.as_object().unwrap().clone();
    event.as_object_mut().unwrap().extend(fields);
    event.to_string()
}

async fn told(world: &World, lines: &[String]) -> Reply {
    let registrar = world.door("registrar:demo").await;
    registrar.post("/v1/registrations", lines.join("\n")).await
}

#[tokio::test]
async fn a_cancellation_under_the_name_of_another_event_is_a_conflict_and_never_a_repetition() {
    let world = World::releasable().await;
    let secured = event(&world, SECURED, &json!({ "eventId": "twice" }));
    let cancelled = event(&world, CANCELLED, &json!({ "eventId": "twice" }));
    let again = [secured.clone(), secured, cancelled];
    let expected = [(1, "recorded"), (2, "known"), (3, "registration_conflict")];
    assert_eq!(outcomes(&told(&world, &again).await), owned(&expected));

    let named = event(&world, CANCELLED, &json!({ "eventId": "its-own" }));
    assert_eq!(
        outcomes(&told(&world, &[named]).await),
        owned(&[(1, "recorded")])
    );
    let release = world.release("GAIN", switched(), "late").await;
    assert_eq!(release.refusal().1, "registration_withdrawn");
}

#[tokio::test]
async fn what_is_said_to_happen_later_does_not_outlast_what_happens_until_then() {
    let world = World::releasable().await;
    let tomorrow = world.now().after(DAY).to_string();
    let secured = event(
        &world,
        SECURED,
        &json!({ "eventId": "ahead", "eventDate": tomorrow }),
    );
    let cancelled = event(&world, CANCELLED, &json!({}));
    let expected = [(1, "registration_invalid"), (2, "recorded")];
    assert_eq!(
        outcomes(&told(&world, &[secured, cancelled]).await),
        owned(&expected)
    );
    let release = world.release("GAIN", switched(), "withdrawn").await;
    assert_eq!(release.refusal().1, "registration_withdrawn");
}

#[tokio::test]
async fn a_snapshot_of_a_supply_to_come_says_when_it_was_recorded() {
    let world = World::deposited().await;
    let registrar = world.door("registrar:demo").await;
    let (id, date) = SWITCH;
    let recorded = world.now();
    let rows = format!(
        "registration_id,mpxn,supplier_mpid,supply_start_date,recorded_at\n\
         {id},{POINT},GAIN,{date},\n{id},{POINT},GAIN,{date},{recorded}"
    );
    let headers = [("content-type", "text/csv")];
    let reply = registrar
        .send(hyper::Method::POST, "/v1/registrations", &headers, rows)
        .await;
    let results = outcomes(&reply);
    assert_eq!(results[0], (2, "registration_invalid".to_owned()));
    assert_ne!(results[1].1, "registration_invalid");
}

#[tokio::test]
async fn a_date_out_of_range_is_one_bad_record_and_the_supply_point_stays_readable() {
    let world = World::releasable().await;
    let data = |date: &str| {
        let mut event: Value = serde_json::from_str(&event(&world, SECURED, &json!({}))).unwrap();
        event["data"]["registrationId"] = json!("R9");
        event["data"]["registrationActiveDate"] = json!(date);
        event.to_string()
    };
    let good = event(&world, SECURED, &json!({ "eventId": "good" }));
    let lines = [
        good,
        data("9999-12-01T00:00:00Z"),
        data("1970-01-01T00:00:00Z"),
    ];
    let expected = [
        (1, "recorded"),
        (2, "registration_invalid"),
        (3, "registration_invalid"),
    ];
    assert_eq!(outcomes(&told(&world, &lines).await), owned(&expected));
    let release = world.release("GAIN", switched(), "unharmed").await;
    assert_eq!(release.status, 200, "{release:?}");
}

#[tokio::test]
async fn of_two_secured_registrations_of_one_date_only_the_one_in_force_gets_the_package() {
    let world = World::releasable().await;
    world.switch_to("THRD", ("R2", SWITCH.1), json!({})).await;
    let release = world.release("GAIN", switched(), "rival").await;
    assert_eq!(release.refusal().1, "not_registered_supplier");
}
