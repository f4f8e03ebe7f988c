//! Who has stolen a party's TLS key, and not its signing leaf: what it cannot do, and the rest, which is what
//! `threat-model.md` says.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::envelope::statement::{
    Confirmation, DepositAttestation, KeyRetirement, KeyStatement, Outcome,
};
use cos_escrow::envelope::{
    Draft, Envelope, Kem, Recipient, Release, SealingKeyPair, Signature, SignedDocument,
    SignerChain, Statement,
};
use cos_escrow::http::document;
use cos_escrow::identity::{CertificateDer, Identity, Subject, pem};
use cos_escrow::types::{Component, Digest, PartyId, Secret, SystemRandom};
use hyper::Method;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::door::{Door, Reply};
use super::world::{
    DAY, NOWHERE, POINT, SECRET, SERIAL, World, closing_read, deposit_body, package, package_json,
    release_body, switched,
};

/// A party's TLS leaf with its key, and a connection that it opens.
struct Thief {
    party: PartyId,
    chain: Vec<CertificateDer<'static>>,
    key: Secret,
    door: Door,
}

impl Thief {
    async fn of(world: &World, mpid: &str) -> Self {
        let party = world.supplier(mpid).party.clone();
        let leaf = Subject::Client(Identity::party(party.clone()));
        let (chain, key) = world
            .market
            .write_identity(&leaf, "stolen", world.now())
            .unwrap();
        Self {
            party,
            chain: pem::certificates(&std::fs::read(chain).unwrap()).unwrap(),
            key: pem::key(&std::fs::read(key).unwrap()).unwrap(),
            door: world.door_of(mpid).await,
        }
    }

    /// Signs with what it has.
    fn sign(&self, message: &[u8]) -> Result<Signature, std::convert::Infallible> {
        let random = ring::rand::SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, self.key.expose(), &random).unwrap();
        let signature = key.sign(&random, message).unwrap().as_ref().to_vec();
        let chain = self.chain.iter().map(|der| der.to_vec()).collect();
        let chain = SignerChain::from_der(chain).unwrap();
        Ok(Signature::from_parts(chain, signature).unwrap())
    }

    fn document<S: Statement>(&self, statement: &S) -> Vec<u8> {
        let Ok(document) = SignedDocument::sign(statement, |message| self.sign(message));
        document.to_json()
    }

    /// The envelope as the party would have sealed it, under the thief's signature.
    fn envelope(
        &self,
        sealed: &Envelope,
        content: &Secret,
        world: (Recipient, cos_escrow::envelope::SealingPublicKey),
    ) -> Vec<u8> {
        let header = sealed.body().header().clone();
        let draft = Draft::seal(content.expose(), header, &[world], &SystemRandom).unwrap();
        let Ok(envelope) = draft.sign(|message| self.sign(message));
        envelope.encode()
    }

    async fn post(&self, path: &str, body: impl Into<hyper::body::Bytes>) -> Reply {
        let body = body.into();
        let key = Digest::of(&[path.as_bytes(), &body].concat()).to_string();
        self.door.post_as(&key[..40], path, body).await
    }
}

/// Every request that a signing leaf is needed for, signed with the TLS leaf instead.
async fn forged(world: &World, thief: &Thief) -> Vec<(Method, &'static str, Vec<u8>)> {
    let now = world.now();
    let me = Recipient::Party(thief.party.clone());
    let supplier = world.supplier(&thief.party.as_str().to_uppercase());
    let pair = SealingKeyPair::generate(Kem::XWing, &SystemRandom);
    let confirmation = thief.document(&Confirmation {
        handover: switched(),
        party: me.clone(),
        outcome: Outcome::NotRotatable,
        generation: None,
        address_of: None,
        at: now,
    });
    let statement = thief.document(&KeyStatement {
        party: me.clone(),
        kem: pair.public().kem(),
        public_key: pair.public().as_bytes().to_vec(),
        key_id: pair.id(),
        not_before: now,
        not_after: now.after(30 * DAY),
        sequence: 2,
    });
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    let retirement = thief.document(&KeyRetirement {
        party: me.clone(),
        key_id: supplier.sealing.id(),
        at: now,
    });
    let escrow = (Recipient::Escrow, world.escrow_key().await);
    let sealed = world.sealed(supplier, &package()).await;
    let keys = thief.envelope(&sealed, &package().to_json(), escrow.clone());
    let read = closing_read("head end", "10229.9");
    let sealed = world.sealed_read(supplier, &read).await;
    let read = thief.envelope(&sealed, &read.to_json(), escrow);
    let plain = package_json(POINT).to_string();
    let attestation = thief.document(&DepositAttestation {
        party: me,
        supply_point: POINT.parse().unwrap(),
        component: Component::Credentials,
        package: Digest::of(plain.as_bytes()),
        read: None,
        at: now,
    });
    let attestation = String::from_utf8(attestation).unwrap();
    let attested = format!(r#"{{"seal":"server","package":{plain},"attestation":{attestation}}}"#);
    vec![
        (Method::POST, "/v1/handovers/{id}/confirm", confirmation),
        (
            Method::PUT,
            "/v1/parties/me/sealing-keys",
            json!({ "statement": statement }).to_string().into(),
        ),
        (
            Method::POST,
            "/v1/parties/me/sealing-keys/retire",
            retirement,
        ),
        (
            Method::POST,
            "/v1/handovers/{id}/deposit",
            deposit_body(std::slice::from_ref(&keys)).into(),
        ),
        (Method::POST, "/v1/deposits", deposit_body(&[keys]).into()),
        (
            Method::POST,
            "/v1/handovers/{id}/dispute",
            deposit_body(&[read]).into(),
        ),
        (Method::POST, "/v1/deposits", attested.into()),
    ]
}

fn at(path: &str) -> String {
    path.replace("{id}", &switched().to_string())
}

#[tokio::test]
async fn a_stolen_tls_key_signs_nothing() {
    let world = World::releasable().await;
    let before = world.market.instance.escrow.store().head().await.unwrap();
    for mpid in ["LOSE", "GAIN"] {
        let thief = Thief::of(&world, mpid).await;
        for (method, path, body) in forged(&world, &thief).await {
            let key = format!("{mpid}-{path}-{}", body.len());
            let headers = [("idempotency-key", key.as_str())];
            let reply = thief.door.send(method, &at(path), &headers, body).await;
            let refused = (422, "signature_invalid".to_owned());
            assert_eq!(reply.refusal(), refused, "{mpid}: {path}");
        }
    }
    let after = world.market.instance.escrow.store().head().await.unwrap();
    assert_eq!(
        after.size, before.size,
        "nothing of it was recorded as done"
    );
    for party in ["lose", "gain"] {
        let keys = world.stranger().client.keys(party).await.unwrap();
        assert!(
            keys.len() == 1 && keys[0].active,
            "{party}'s key is as it was"
        );
    }
}

#[tokio::test]
async fn what_a_stolen_tls_key_fetches_stays_closed() {
    let world = World::releasable().await;
    let thief = Thief::of(&world, "GAIN").await;
    let handover = format!("/v1/handovers/{}/release", switched());
    let own = format!("/v1/supply-points/{POINT}/release");
    for path in [&handover, &own] {
        let reply = thief.post(path, release_body()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let bytes = reply.json()["release"].as_str().unwrap().to_owned();
        let bytes = BASE64_STANDARD.decode(bytes).unwrap();
        for clear in [SECRET.as_bytes(), b"management"] {
            assert!(!bytes.windows(clear.len()).any(|w| w == clear));
        }
        let release = Release::decode(&bytes).unwrap();
        assert_eq!(release.issue().key_id, world.gainer().sealing.id());
        let theirs = SealingKeyPair::generate(Kem::XWing, &SystemRandom);
        assert!(release.open(&theirs).all(|(_, content)| content.is_err()));
    }
    // Nor can it name a key of its own to have it sealed to.
    let other = SealingKeyPair::generate(Kem::XWing, &SystemRandom).id();
    let body = json!({ "meter_serial": SERIAL, "key_id": other }).to_string();
    let reply = thief.post(&handover, body).await;
    assert_eq!(reply.refusal(), (403, "recipient_key_inactive".to_owned()));
}

#[tokio::test]
async fn what_is_left_to_a_stolen_tls_key_is_what_the_threat_model_says() {
    let world = World::releasable().await;
    let loser = Thief::of(&world, "LOSE").await;
    let thief = Thief::of(&world, "GAIN").await;
    let plain = format!(r#"{{"seal":"server","package":{}}}"#, package_json(POINT));
    let meter = json!({ "smart": true, "serial": SERIAL });
    let mut line = meter.clone();
    line["supply_point"] = json!(POINT);
    let question = json!({ "supply_point": POINT }).to_string();
    let point = format!("/v1/supply-points/{POINT}");

    // It looks up and fetches ciphertext.
    for path in [
        "/v1/handovers?role=gaining",
        &at("/v1/handovers/{id}"),
        &point,
    ] {
        assert_eq!(thief.door.get(path).await.status, 200, "{path}");
    }
    let lookups = thief.post("/v1/supply-points:lookup", question).await;
    assert_eq!(lookups.lines()[0]["smart"], "unknown");
    for path in [at("/v1/handovers/{id}/release"), format!("{point}/release")] {
        assert_eq!(
            thief.post(&path, release_body()).await.status,
            200,
            "{path}"
        );
    }
    // It accepts a read and rejects.
    let read = format!(
        r#"{{"seal":"server","package":{},"read":{}}}"#,
        package_json(POINT),
        String::from_utf8(closing_read("guess", "1").to_json().expose().to_vec()).unwrap()
    );
    let deposited = loser.post(&at("/v1/handovers/{id}/deposit"), read).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
    let envelopes = &deposited.json()["envelopes"];
    assert_eq!(envelopes[0]["attributed"], "mtls-only");
    let fetch = at("/v1/handovers/{id}/release");
    let fetched = thief.door.post_as("again", &fetch, release_body()).await;
    assert_eq!(fetched.status, 200, "{fetched:?}");
    for (path, body) in [("accept-read", ""), ("reject", r#"{"reason":"r"}"#)] {
        let path = at(&format!("/v1/handovers/{{id}}/{path}"));
        assert_eq!(thief.post(&path, body).await.status, 200, "{path}");
    }
    // It states a meter, and deposits what is attributed to the connection only.
    let stated = thief
        .door
        .put(&format!("{point}/meter"), meter.to_string())
        .await;
    assert_eq!(stated.status, 200, "{stated:?}");
    let stated = thief.post("/v1/meters", line.to_string()).await;
    assert!(stated.lines()[0]["version"].is_u64(), "{stated:?}");
    let deposited = thief.post("/v1/deposits", plain).await;
    assert_eq!(deposited.json()["envelopes"][0]["attributed"], "mtls-only");

    // A dispute needs a signed read: one in clear is none.
    let dispute = json!({ "seal": "server", "package": package_json(POINT) }).to_string();
    let reply = thief.post(&at("/v1/handovers/{id}/dispute"), dispute).await;
    assert_eq!(reply.refusal(), (422, "envelope_mismatch".to_owned()));
}

/// What other kinds of identities do is not a party's, whoever has its key.
#[tokio::test]
async fn every_request_that_changes_something_is_tried_or_another_kinds() {
    let world = World::releasable().await;
    let thief = Thief::of(&world, "GAIN").await;
    let forged: BTreeSet<_> = forged(&world, &thief)
        .await
        .into_iter()
        .map(|f| f.1)
        .collect();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|m| *m != "get") {
            if forged.contains(path.as_str()) || LEFT.contains(&path.as_str()) {
                continue;
            }
            let path = path.replace("{id}", "lose").replace("{mpxn}", NOWHERE);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let headers = [
                ("idempotency-key", "k"),
                ("content-type", "application/json"),
            ];
            let body = match path.ends_with("/parties") {
                true => r#"{"id":"new","name":"New"}"#,
                false => r#"{"mpid":"ZZZZ","role":"X","at":"2025-01-01T00:00:00Z"}"#,
            };
            let reply = thief.door.send(method, &path, &headers, body).await;
            assert_eq!(reply.refusal(), (403, "wrong_role".to_owned()), "{path}");
        }
    }
}

/// What a TLS key alone changes: each tried above.
const LEFT: [&str; 7] = [
    "/v1/handovers/{id}/accept-read",
    "/v1/handovers/{id}/reject",
    "/v1/handovers/{id}/release",
    "/v1/meters",
    "/v1/supply-points/{mpxn}/meter",
    "/v1/supply-points/{mpxn}/release",
    "/v1/supply-points:lookup",
];
