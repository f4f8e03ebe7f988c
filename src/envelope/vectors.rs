//! Tests: the formats stay as the vectors in `tests/vectors/envelope` have them, byte by byte.
//!
//! All randomness of a vector comes from `testing::Counter` with its seed: block n is SHA-256(u64 seed ‖ u64 n).
//! Signatures are the exception, for ECDSA has randomness of its own: the vector's is verified and put in.

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::{Value, json};

use super::testing::{self, Counter, Vector, from_hex, to_hex, vector_path};
use super::*;
use crate::types::{
    Component, EnvelopeId, GrantId, HandoverId, PartyId, Random, Secret, SupplyPoint, Timestamp,
};

const CONTENT: &[u8] = b"the content of generation 2";

/// What both suites have a vector of: an envelope for escrow and gainer, and the gainer's release of it.
fn build(kem: Kem, sign: impl FnOnce(&[u8]) -> Signature) -> Value {
    let random = Counter::seeded(kem.id().into());
    let escrow = SealingKeyPair::generate(kem, &random);
    let gainer = SealingKeyPair::generate(kem, &random);
    let party: PartyId = "gainer".parse().unwrap();
    let recipients = [
        (Recipient::Escrow, escrow.public().clone()),
        (Recipient::Party(party.clone()), gainer.public().clone()),
    ];
    let draft = Draft::seal(CONTENT, testing::header(), &recipients, &random).unwrap();
    let mut signed = Vec::new();
    let envelope = draft
        .sign(|message| {
            signed = message.to_vec();
            Ok::<_, ()>(sign(message))
        })
        .unwrap();
    let body = envelope.body();
    let item = Item {
        generation: 2,
        status: "current".parse().unwrap(),
        deposited_at: Timestamp::from_millis(1_790_000_000_123),
        body: body.clone(),
        stanza: envelope.stanza_for(gainer.id()).unwrap().clone(),
    };
    let issue = Issue {
        grant: GrantId([1; 16]),
        handover: HandoverId([2; 16]),
        recipient: party,
        key_id: gainer.id(),
        issued_at: Timestamp::from_millis(1_790_000_000_456),
    };
    let release = Release::assemble(issue, vec![item]).unwrap();
    json!({
        "description": "An envelope of `loser` for the escrow and `gainer`, and the release of it to `gainer`.",
        "seed": kem.id(),
        "kem": kem.as_str(),
        "escrow_private": to_hex(escrow.to_secret().expose()),
        "gainer_private": to_hex(gainer.to_secret().expose()),
        "gainer_key_id": to_hex(gainer.id().0.as_bytes()),
        "content": to_hex(CONTENT),
        "header": to_hex(&body.header().encode()),
        "header_digest": to_hex(body.header().digest().as_bytes()),
        "dek": to_hex(envelope.dek(&gainer).unwrap().expose()),
        "commitment": to_hex(body.commitment().as_bytes()),
        "signing_input": to_hex(&signed),
        "signature": to_hex(body.signature().unwrap().as_bytes()),
        "envelope": to_hex(&envelope.encode()),
        "body_digest": to_hex(body.digest().as_bytes()),
        "release": to_hex(&release.encode()),
        "release_digest": to_hex(release.digest().as_bytes()),
    })
}

/// Keys and records at rest, and a proof of possession.
fn build_others() -> Value {
    let random = Counter::seeded(7);
    let (kek, dek) = (Kek::random(&random), Dek::random(&random));
    let supply_point: SupplyPoint = testing::header().supply_point;
    let context = WrapContext {
        kek_id: "2026-w48",
        envelope_id: EnvelopeId([1; 16]),
        header_digest: testing::header().digest(),
        supply_point: &supply_point,
        component: Component::Credentials,
        generation: 3,
        handover: Some(HandoverId([4; 16])),
    };
    let wrapped = kek.wrap_dek(&context, &dek, &random);
    assert_eq!(
        kek.unwrap_dek(&context, &wrapped).unwrap().expose(),
        dek.expose()
    );
    let record = Context::new("cos-escrow/vector/1").with("row", b"42");
    let stored = Kek::of_record(&dek).seal_at_rest(&record, CONTENT, &random);
    let key = SealingKeyPair::generate(Kem::X25519, &random);
    let (challenge, expected) = possession::challenge(key.public(), &random).unwrap();
    json!({
        "description": "A wrapped DEK (of WrapContext in `vectors.rs`), a stored record (label `cos-escrow/vector/1`, \
                        piece `row` = `42`), a possession challenge for an X25519 key.",
        "seed": 7,
        "kek": to_hex(kek.expose()),
        "dek": to_hex(dek.expose()),
        "header_digest": to_hex(testing::header().digest().as_bytes()),
        "wrapped": to_hex(&wrapped),
        "content": to_hex(CONTENT),
        "stored": to_hex(&stored),
        "possession_private": to_hex(key.to_secret().expose()),
        "possession_challenge": to_hex(&challenge),
        "possession_nonce_digest": to_hex(expected.as_bytes()),
    })
}

/// Keys for a head end.
fn build_export() -> Value {
    let random = Counter::seeded(8);
    let key = SealingKeyPair::generate(Kem::XWing, &random);
    let content = Secret::new(CONTENT.to_vec());
    let at = Timestamp::from_millis(1_790_000_000_456);
    let export = KeyExport::seal(&content, ExportProfile::Csv, key.public(), at, &random);
    json!({
        "description": "Content of the profile CSV, sealed for a head end.",
        "seed": 8,
        "private": to_hex(key.to_secret().expose()),
        "key_id": to_hex(key.id().0.as_bytes()),
        "content": to_hex(CONTENT),
        "export": to_hex(&export.unwrap().encode()),
    })
}

fn file_of(kem: Kem) -> String {
    format!("release-{kem}.json")
}

fn chain() -> SignerChain {
    SignerChain::from_der(vec![Vector::read("signer.json").bytes("leaf")]).unwrap()
}

fn verify(chain: &SignerChain, message: &[u8], signature: &[u8]) -> Result<PartyId, &'static str> {
    let signer = Vector::read("signer.json");
    if chain.leaf() != signer.bytes("leaf") {
        return Err("another certificate");
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.bytes("public"))
        .verify(message, signature)
        .map_err(|_| "bad signature")?;
    Ok(signer.text("party").parse().unwrap())
}

fn read_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(vector_path(name)).unwrap()).unwrap()
}

#[test]
fn envelopes_and_releases_are_made_as_the_vectors_have_them() {
    update();
    for kem in [Kem::X25519, Kem::XWing] {
        let vector = Vector::read(&file_of(kem));
        let built = build(kem, |_| {
            Signature::from_parts(chain(), vector.bytes("signature")).unwrap()
        });
        assert_eq!(built, read_json(&file_of(kem)), "{kem}");
    }
}

#[test]
fn the_releases_of_the_vectors_verify_and_open() {
    update();
    for kem in [Kem::X25519, Kem::XWing] {
        let vector = Vector::read(&file_of(kem));
        let release = Release::decode(&vector.bytes("release")).unwrap();
        let key = SealingKeyPair::from_secret(kem, &vector.secret("gainer_private")).unwrap();
        for (item, content) in release.open(&key) {
            assert_eq!(item.body.verify(verify), Ok(()));
            assert_eq!(content.unwrap().expose(), vector.bytes("content"));
        }
        let envelope = Envelope::decode(&vector.bytes("envelope")).unwrap();
        let escrow = SealingKeyPair::from_secret(kem, &vector.secret("escrow_private")).unwrap();
        assert_eq!(
            envelope.dek(&escrow).unwrap().expose()[..],
            vector.bytes("dek")
        );
    }
}

#[test]
fn records_at_rest_and_challenges_are_made_as_the_vectors_have_them() {
    update();
    assert_eq!(build_others(), read_json("at-rest.json"));
    let vector = Vector::read("at-rest.json");
    let private = vector.secret("possession_private");
    let key = SealingKeyPair::from_secret(Kem::X25519, &private).unwrap();
    let nonce = possession::answer(&key, &vector.bytes("possession_challenge")).unwrap();
    let expected = vector.bytes("possession_nonce_digest");
    assert_eq!(crate::types::Digest::of(&nonce).as_bytes()[..], expected);
}

#[test]
fn keys_for_a_head_end_are_sealed_as_the_vector_has_them() {
    assert_eq!(build_export(), read_json("key-export.json"));
    let vector = Vector::read("key-export.json");
    let key = SealingKeyPair::from_secret(Kem::XWing, &vector.secret("private")).unwrap();
    let export = KeyExport::decode(&vector.bytes("export")).unwrap();
    assert_eq!(export.open(&key).unwrap().expose(), vector.bytes("content"));
}

#[test]
fn the_randomness_of_the_vectors_is_what_their_description_says() {
    let mut first = [0; 32];
    Counter::seeded(7).fill(&mut first);
    let block = crate::types::Digest::of(&from_hex("00000000000000070000000000000000"));
    assert_eq!(&first, block.as_bytes());
}

/// Writes the vectors anew if `UPDATE_SNAPSHOTS` is set, for when a format gets a new version.
fn update() {
    static DONE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        DONE.call_once(write_the_vectors);
    }
}

fn write_the_vectors() {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = Secret::new(Vector::read("signer.json").bytes("pkcs8"));
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.expose(), &random).unwrap();
    let write = |name: &str, value: &Value| {
        let json = serde_json::to_string_pretty(value).unwrap() + "\n";
        std::fs::write(vector_path(name), json).unwrap();
    };
    for kem in [Kem::X25519, Kem::XWing] {
        let vector = build(kem, |message| {
            let signature = key.sign(&random, message).unwrap();
            Signature::from_parts(chain(), signature.as_ref().to_vec()).unwrap()
        });
        write(&file_of(kem), &vector);
    }
    write("at-rest.json", &build_others());
    write("key-export.json", &build_export());
}
