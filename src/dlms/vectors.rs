//! The known-answer vectors that the other implementations are held to as well.

use super::SystemTitle;
use super::acse::AssociationRequest;
use super::ciphering::{CipherKeys, Invocation, SecurityHeader, gmac, open, protect};
use super::keys::{KeyRole, key_transfer, unwrap, wrap};
use super::obis::Member;
use super::reader::put_element;
use super::service::{Request, Service};
use crate::types::Secret;

#[derive(serde::Deserialize)]
struct Document {
    common: Common,
    vectors: Vec<Vector>,
}

#[derive(serde::Deserialize)]
struct Common {
    ek: String,
    ak: String,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Vector {
    name: String,
    kind: String,
    tag: String,
    sc: String,
    title: String,
    ic: u32,
    plain: String,
    prefix: String,
    challenge: String,
    kek: String,
    key: String,
    guek: String,
    gak: String,
    expect: String,
}

#[test]
fn every_vector_holds() {
    let document: Document =
        serde_json::from_str(include_str!("../../tests/peers/meter/vectors.json")).unwrap();
    let guek = secret(&document.common.ek);
    let gak = secret(&document.common.ak);
    let keys = CipherKeys {
        guek: &guek,
        gak: &gak,
    };
    assert_eq!(document.vectors.len(), 11);
    for vector in &document.vectors {
        let computed = match vector.kind.as_str() {
            "glo" => glo(vector, keys),
            "aarq" => [hex(&vector.prefix), glo(vector, keys)].concat(),
            "gmac" => gmac(
                hex(&vector.sc)[0],
                keys,
                invocation(vector),
                &hex(&vector.challenge),
            )
            .unwrap()
            .to_vec(),
            "wrap" => wrapped(&vector.kek, KeyRole::Guek, &vector.key).bytes,
            "key_transfer" => key_transfer_request(vector),
            other => panic!("vector of unknown kind `{other}`"),
        };
        assert_eq!(computed, hex(&vector.expect), "{}", vector.name);
    }
}

#[test]
fn the_association_request_of_the_vectors_is_read() {
    let document: Document =
        serde_json::from_str(include_str!("../../tests/peers/meter/vectors.json")).unwrap();
    let vector = document
        .vectors
        .iter()
        .find(|vector| vector.kind == "aarq")
        .unwrap();
    let request = AssociationRequest::parse(&hex(&vector.expect)).unwrap();
    assert_eq!((request.context, request.mechanism), (3, 1));
    assert_eq!(request.title, hex(&vector.title));
    assert_eq!(request.challenge, b"12345678");
    assert_eq!(request.user_information[0], 0x21);
}

#[test]
fn the_key_transfer_of_the_vectors_is_read() {
    let document: Document =
        serde_json::from_str(include_str!("../../tests/peers/meter/vectors.json")).unwrap();
    let vector = document
        .vectors
        .iter()
        .find(|vector| vector.kind == "key_transfer")
        .unwrap();
    let request = Request::parse(&hex(&vector.expect)).unwrap();
    let Service::Action(Member::KEY_TRANSFER, Some(value)) = request.service else {
        panic!("not a key transfer");
    };
    let keys = super::keys::parse_key_transfer(&value).unwrap();
    let kek = secret(&vector.kek);
    assert_eq!(
        unwrap(&kek, &keys[0].bytes).unwrap().expose(),
        hex(&vector.guek)
    );
    assert_eq!(
        unwrap(&kek, &keys[1].bytes).unwrap().expose(),
        hex(&vector.gak)
    );
}

fn glo(vector: &Vector, keys: CipherKeys<'_>) -> Vec<u8> {
    let control = hex(&vector.sc)[0];
    let protected = protect(control, keys, invocation(vector), &hex(&vector.plain)).unwrap();
    if control == 0x30 {
        let (header, body) = SecurityHeader::split(&protected).unwrap();
        let opened = open(header, keys, invocation(vector).title, body).unwrap();
        assert_eq!(opened, hex(&vector.plain), "{}", vector.name);
    }
    let mut out = Vec::new();
    put_element(&mut out, hex(&vector.tag)[0], &protected);
    out
}

fn key_transfer_request(vector: &Vector) -> Vec<u8> {
    let keys = [
        wrapped(&vector.kek, KeyRole::Guek, &vector.guek),
        wrapped(&vector.kek, KeyRole::Gak, &vector.gak),
    ];
    [
        hex("C301C1004000002B0000FF0201"),
        key_transfer(&keys).encode(),
    ]
    .concat()
}

fn wrapped(kek: &str, role: KeyRole, key: &str) -> super::keys::WrappedKey {
    wrap(&secret(kek), role, &secret(key)).unwrap()
}

fn invocation(vector: &Vector) -> Invocation {
    let title = SystemTitle::from_hex(&vector.title).unwrap();
    Invocation {
        title,
        counter: vector.ic,
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(hex(text))
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
