//! Packages in clear, which the service seals: what is signed, and about which meter it is.

use cos_escrow::envelope::statement::DepositAttestation;
use cos_escrow::envelope::{Recipient, SignedDocument};
use cos_escrow::types::{Component, Digest};
use serde_json::{Value, json};

use super::door::Reply;
use super::world::{NOWHERE, POINT, World, package_json};

#[tokio::test]
async fn a_closing_read_of_another_meter_is_not_taken_with_a_package() {
    let world = World::open().await;
    for (case, pointer, other) in [
        ("point", "/supply_point", NOWHERE),
        ("serial", "/meter_serial", "E19B000000"),
    ] {
        let mut read = read();
        *read.pointer_mut(pointer).unwrap() = json!(other);
        let reply = deposit(&world, case, &read, None).await;
        assert_eq!(reply.refusal(), (422, "read_invalid".to_owned()), "{case}");
    }
    assert_eq!(world.entries("package.deposited").await.len(), 0);
    let mut same = read();
    same["meter_serial"] = json!("e19b 762798");
    let reply = deposit(&world, "same", &same, None).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[tokio::test]
async fn a_closing_read_counts_as_signed_only_if_its_bytes_are() {
    let world = World::open().await;
    let digest = |json: &Value| Digest::of(json.to_string().as_bytes());
    for (case, signed, expected) in [
        ("nothing", None, "mtls-only"),
        ("read", Some(digest(&read())), "signed"),
    ] {
        let reply = deposit(&world, case, &read(), Some(signed)).await;
        assert_eq!(reply.status, 201, "{case}: {reply:?}");
        let envelopes = &reply.json()["envelopes"];
        assert_eq!(envelopes[0]["attributed"], "signed", "{case}");
        assert_eq!(envelopes[1]["attributed"], expected, "{case}");
        let entry = &world.entries("package.deposited").await[0]["leaf"];
        assert_eq!(entry["component"], "read", "{case}");
        assert_eq!(entry["attributed"], expected, "{case}");
    }
    let other = digest(&json!({ "another": "read" }));
    let reply = deposit(&world, "other", &read(), Some(Some(other))).await;
    assert_eq!(reply.refusal(), (422, "signature_invalid".to_owned()));
}

/// Deposits a package and a read in clear; where they are attested, with what is said of the read.
async fn deposit(
    world: &World,
    key: &str,
    read: &Value,
    attested: Option<Option<Digest>>,
) -> Reply {
    let package = package_json(POINT).to_string();
    let attestation = attested.map(|read| {
        let depositor = world.loser().depositor(world.now());
        let attestation = DepositAttestation {
            party: Recipient::Party(world.loser().party.clone()),
            supply_point: POINT.parse().unwrap(),
            component: Component::Credentials,
            package: Digest::of(package.as_bytes()),
            read,
            at: world.now(),
        };
        let document = SignedDocument::sign(&attestation, |m| depositor.sign(m)).unwrap();
        String::from_utf8(document.to_json()).unwrap()
    });
    let attestation = attestation.unwrap_or_else(|| "null".to_owned());
    let body = format!(
        r#"{{"seal":"server","package":{package},"read":{read},"attestation":{attestation}}}"#
    );
    let door = world.door_of("LOSE").await;
    door.post_as(key, "/v1/deposits", body).await
}

fn read() -> Value {
    json!({
        "format": "cos-escrow/read/1",
        "supply_point": POINT,
        "meter_serial": super::world::SERIAL,
        "type": "D",
        "registers": [{ "id": "01", "value": "10229.9", "at": "2025-06-30T23:00:00Z" }],
    })
}
