//! Envelopes and releases in files: what they say, who signed them, what is in them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cos_escrow::client::{Depositor, seal_package, seal_read};
use cos_escrow::envelope::package::Package;
use cos_escrow::envelope::read::Read;
use cos_escrow::envelope::{Envelope, Issue, Item, Kem, Recipient, Release, SealingKeyPair};
use cos_escrow::identity::{Authority, SigningIdentity, Subject, pem};
use cos_escrow::types::{
    Clock as _, GrantId, HandoverId, Secret, SystemClock, SystemRandom, Timestamp,
};

use super::desk::Desk;

const PACKAGE: &str = r#"{"format":"cos-escrow/package/1","supply_point":"9693016118873","meter":{"serial":"E19B762798","make":"EDMI Mk10A"},"comms":{"address":"10.31.22.221"},"credentials":[{"password":{"levels":[{"level":1,"password":"NB6ZHGHW"}]}}]}"#;
const READ: &str = r#"{"format":"cos-escrow/read/1","supply_point":"9693016118873","meter_serial":"E19B762798","type":"D","registers":[{"id":"01","value":"1.5","at":"2025-10-18T23:00:00.000Z"}]}"#;
const TRUST: &str = "--roots root.pem --lists lists.pem";

/// A desk of the gaining supplier: an envelope, a release, its sealing key, whom it trusts.
struct Gainer {
    desk: Desk,
    release: Release,
    envelope: Envelope,
}

impl Gainer {
    fn new() -> Self {
        let desk = Desk::new();
        let now = SystemClock.now();
        let authority = Authority::create("test", now).unwrap();
        write_trust(&desk, &authority, now);
        desk.run("key create --out gainer.key");
        let key = read_key(&desk, "gainer.key");

        let signer = signer(&authority, "loser", now);
        let depositor = Depositor {
            party: "loser".parse().unwrap(),
            signer: &signer,
            random: &SystemRandom,
            now,
        };
        let recipients = [(
            Recipient::Party("gainer".parse().unwrap()),
            key.public().clone(),
        )];
        let package = Package::parse(PACKAGE.as_bytes()).unwrap();
        let seal = || seal_package(&package, None, &recipients, &depositor).unwrap();
        let read = Read::parse(READ.as_bytes()).unwrap();
        let make = package.meter.make.clone();
        let read = seal_read(&read, make, &recipients, &depositor).unwrap();
        let envelope = seal();
        let items = [(2, seal()), (1, envelope.clone()), (1, read)];
        let release = Release::assemble(issue(&key, now), items.map(item).into()).unwrap();
        desk.write("package.envelope", envelope.encode());
        desk.write("meter.release", release.encode());
        Self {
            desk,
            release,
            envelope,
        }
    }
}

fn write_trust(desk: &Desk, authority: &Authority, now: Timestamp) {
    desk.write("root.pem", pem::of_certificates([authority.root()]));
    let until = now.after(Duration::from_secs(86_400));
    desk.write(
        "lists.pem",
        pem::of_lists(&authority.lists(now, until).unwrap()),
    );
}

fn signer(authority: &Authority, party: &str, now: Timestamp) -> SigningIdentity {
    let identity = format!("urn:cos-escrow:party:{party}").parse().unwrap();
    let issued = authority
        .issue(&Subject::Signer(identity), 30, now)
        .unwrap();
    SigningIdentity::new(issued.chain.clone(), issued.key.as_ref().unwrap()).unwrap()
}

/// Reads a key file by what its format says.
fn read_key(desk: &Desk, name: &str) -> SealingKeyPair {
    let text = String::from_utf8(desk.read(name)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("private "));
    let private = BASE64_URL_SAFE_NO_PAD.decode(line.unwrap()).unwrap();
    SealingKeyPair::from_secret(Kem::XWing, &Secret::new(private)).unwrap()
}

fn issue(key: &SealingKeyPair, now: Timestamp) -> Issue {
    Issue {
        grant: GrantId::random(&SystemRandom),
        handover: HandoverId::random(&SystemRandom),
        recipient: "gainer".parse().unwrap(),
        key_id: key.id(),
        issued_at: now,
    }
}

fn item((generation, envelope): (u32, Envelope)) -> Item {
    let (body, mut stanzas) = envelope.into_parts();
    Item {
        generation,
        status: "current".parse().unwrap(),
        deposited_at: body.header().created_at,
        body,
        stanza: stanzas.remove(0),
    }
}

#[test]
fn an_inspection_shows_the_header_and_nothing_inside() {
    let Gainer { desk, envelope, .. } = Gainer::new();
    let shown = desk.json("envelope inspect package.envelope");
    let header = envelope.body().header();
    assert_eq!(shown[0]["envelope"], header.envelope_id.to_string());
    assert_eq!(shown[0]["depositor"], "loser");
    assert_eq!(shown[0]["recipients"][0], "urn:cos-escrow:party:gainer");
    assert_eq!(shown[0]["signed"], true);
    assert!(!shown.to_string().contains("NB6ZHGHW"));

    let shown = desk.json("envelope inspect meter.release");
    let items = shown.as_array().unwrap().iter();
    let items: Vec<_> = items
        .map(|item| {
            (
                item["component"].as_str().unwrap(),
                item["generation"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(items, [("credentials", 2), ("credentials", 1), ("read", 1)]);
}

#[test]
fn the_depositors_signature_verifies_offline() {
    let Gainer { desk, .. } = Gainer::new();
    for file in ["package.envelope", "meter.release"] {
        let shown = desk.json(&format!("envelope verify {file} {TRUST}"));
        assert_eq!(shown[0]["verdict"], "verified", "{file}");
    }
    // Nobody's certificate was good then.
    let early = format!("envelope verify meter.release {TRUST} --at 2020-01-01T00:00:00Z");
    assert_eq!(desk.run(&early).code, 5);
}

#[test]
fn a_signature_under_another_root_does_not_verify() {
    let Gainer { desk, .. } = Gainer::new();
    let now = SystemClock.now();
    write_trust(&desk, &Authority::create("test", now).unwrap(), now);
    let ended = desk.run(&format!("envelope verify package.envelope {TRUST}"));
    assert_eq!(ended.code, 5, "{ended:?}");
}

#[test]
fn a_body_that_nobody_signed_does_not_verify() {
    let Gainer { desk, release, .. } = Gainer::new();
    let key = read_key(&desk, "gainer.key");
    let header = release.items()[0].body.header().clone();
    let digest = header.digest();
    let sealed = cos_escrow::envelope::Body::seal(b"{}", header, &SystemRandom);
    let (body, dek) = sealed.unwrap();
    let recipient = Recipient::Party("gainer".parse().unwrap());
    let stanza =
        cos_escrow::envelope::Stanza::seal(&dek, &digest, &recipient, key.public(), &SystemRandom);
    let unsigned = Item {
        generation: 1,
        status: "current".parse().unwrap(),
        deposited_at: body.header().created_at,
        body,
        stanza: stanza.unwrap(),
    };
    let release = Release::assemble(release.issue().clone(), vec![unsigned]).unwrap();
    desk.write("unsigned.release", release.encode());
    let ended = desk.run(&format!("envelope verify unsigned.release {TRUST}"));
    assert_eq!(ended.code, 5, "{ended:?}");
    // It opens all the same, with a warning: the service seals for those that cannot.
    let ended = desk.run(&format!(
        "envelope open unsigned.release --key gainer.key {TRUST} --out o"
    ));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("there is no signature"), "{ended:?}");
}

#[test]
fn every_changed_byte_of_an_envelope_is_noticed() {
    let Gainer { desk, .. } = Gainer::new();
    let good = desk.read("package.envelope");
    // Each tenth byte, for the sake of time; `envelope::tampering` has them all.
    for at in (0..good.len()).step_by(good.len() / 10) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        desk.write("bad.envelope", bad);
        let ended = desk.run(&format!("envelope verify bad.envelope {TRUST}"));
        assert_eq!(ended.code, 5, "byte {at}: {ended:?}");
    }
}

#[test]
fn a_release_opens_item_by_item_into_private_files() {
    let Gainer { desk, .. } = Gainer::new();
    let ended = desk.run(&format!(
        "envelope open meter.release --key gainer.key {TRUST} --out meter"
    ));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert!(!ended.stdout.contains("NB6ZHGHW"));
    for name in ["credentials-2.json", "credentials-1.json", "read-1.json"] {
        assert!(desk.is_private(&format!("meter/{name}")), "{name}");
    }
    let package = desk.read("meter/credentials-2.json");
    assert!(String::from_utf8(package).unwrap().contains("NB6ZHGHW"));
    assert!(desk.is_private("meter"));
    let again = desk.run("envelope open meter.release --key gainer.key --out meter");
    assert_eq!(again.code, 4, "{again:?}");
}

#[test]
fn an_envelope_opens_into_one_private_file() {
    let Gainer { desk, .. } = Gainer::new();
    let open = "envelope open package.envelope --key gainer.key --out package.json";
    let ended = desk.run(open);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(desk.is_private("package.json"));
    let package = Package::parse(&desk.read("package.json")).unwrap();
    assert_eq!(package.meter.serial.original(), "E19B762798");
    assert_eq!(desk.run(open).code, 4);
    let open = "envelope open package.envelope --key gainer.key --out";
    assert_eq!(desk.run(&format!("{open} -")).code, 2);
    assert_ne!(desk.run(&format!("{open} /dev/stdout")).code, 0);
}

#[test]
fn the_key_that_fits_is_found_in_the_folder_for_keys() {
    let Gainer { desk, release, .. } = Gainer::new();
    let open = "envelope open meter.release --out meter --keys keys";
    assert_eq!(desk.run(open).code, 2);
    let name = format!("keys/{}.key", release.issue().key_id);
    desk.write(&name, desk.read("gainer.key"));
    assert_eq!(desk.run(open).code, 0);
}

#[test]
fn another_key_does_not_open_it() {
    let Gainer { desk, .. } = Gainer::new();
    desk.run("key create --out other.key");
    let ended = desk.run("envelope open package.envelope --key other.key --out package.json");
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(!desk.path("package.json").exists());
}

#[test]
fn what_is_no_envelope_is_said_so() {
    let Gainer { desk, .. } = Gainer::new();
    assert_eq!(desk.run("envelope inspect root.pem").code, 5);
    assert_eq!(desk.run("envelope inspect nothing").code, 2);
    desk.write("short", b"cosE\x01");
    assert_eq!(desk.run("envelope inspect short").code, 5);
}
