//! Who does not get in.

use cos_escrow::identity::{Authority, CertificateDer, Issued, Subject, pem};
use cos_escrow::tls::PostQuantum;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{DAY, NOW, PATIENCE, World};

#[tokio::test]
async fn a_party_with_our_certificate_gets_in() {
    let world = World::start().await;
    let north = world.party("north", 90);
    let ours = world.config(&north, PostQuantum::Preferred);
    assert_eq!(
        world.request(ours).await.unwrap(),
        "urn:cos-escrow:party:north"
    );
    let careless = world.careless(Some(own(&north)));
    assert!(world.request(careless).await.is_ok());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let world = World::start().await;
    assert_refused(&world, None, "CertificateRequired").await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let world = World::start().await;
    let other = Authority::create("test", NOW).unwrap();
    let subject = Subject::Client("urn:cos-escrow:party:north".parse().unwrap());
    let issued = other.issue(&subject, 90, NOW).unwrap();
    assert_refused(&world, Some(own(&issued)), "UnknownCA").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let world = World::start().await;
    let north = own(&world.party("north", 2));
    assert!(
        world
            .request(world.careless(Some(north.clone())))
            .await
            .is_ok()
    );
    world.clock.advance(3 * DAY);
    assert_refused(&world, Some(north), "CertificateExpired").await;
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let mut world = World::start().await;
    let north = world.party("north", 90);
    world
        .authority
        .revoke(north.certificate.serial.clone(), NOW);
    world.reload();
    assert_refused(&world, Some(own(&north)), "CertificateRevoked").await;
}

#[tokio::test]
async fn everybody_is_refused_once_the_revocation_lists_are_stale() {
    let world = World::start().await;
    let north = own(&world.party("north", 90));
    world.clock.advance(8 * DAY);
    assert_refused(&world, Some(north.clone()), "").await;
    world.reload();
    assert!(world.request(world.careless(Some(north))).await.is_ok());
}

#[tokio::test]
async fn a_signing_leaf_does_no_tls() {
    let world = World::start().await;
    let subject = Subject::Signer("urn:cos-escrow:party:north".parse().unwrap());
    let issued = world.authority.issue(&subject, 90, NOW).unwrap();
    assert_refused(&world, Some(own(&issued)), "").await;
}

#[tokio::test]
async fn leaves_out_of_profile_are_refused() {
    let world = World::start().await;
    let issuer = issuer(&world.authority);
    // The frame itself is acceptable, so what follows is refused for its one difference.
    assert!(
        world
            .request(world.careless(Some(leaf(&issuer, |_| {}))))
            .await
            .is_ok()
    );
    let cases: [(&str, Change); 9] = [
        ("no purpose", |leaf| leaf.extended_key_usages.clear()),
        ("two purposes", |leaf| {
            leaf.extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }),
        ("two URIs", |leaf| {
            leaf.subject_alt_names
                .push(uri("urn:cos-escrow:party:south"));
        }),
        ("no URI", |leaf| leaf.subject_alt_names.clear()),
        ("unknown kind", |leaf| {
            leaf.subject_alt_names = vec![uri("urn:cos-escrow:king:north")];
        }),
        ("no key usage", |leaf| leaf.key_usages.clear()),
        ("key usage of an authority", |leaf| {
            leaf.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }),
        ("an authority", |leaf| {
            leaf.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }),
        ("too long a life", |leaf| {
            leaf.not_after = leaf.not_before + time::Duration::days(91);
        }),
    ];
    for (case, change) in cases {
        let config = world.careless(Some(leaf(&issuer, change)));
        let answer = timeout(PATIENCE, world.request(config)).await.unwrap();
        assert!(answer.is_err(), "{case} got in");
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let world = World::start().await;
    let mut tcp = TcpStream::connect(world.address).await.unwrap();
    tcp.write_all(&tls_1_2_hello()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, tcp.read_to_end(&mut answer))
        .await
        .unwrap();
    // A reset after the alert is as good as an end.
    drop(read);
    // An alert record: fatal, protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
}

async fn assert_refused(
    world: &World,
    own: Option<(Vec<CertificateDer<'static>>, Vec<u8>)>,
    alert: &str,
) {
    let answer = timeout(PATIENCE, world.request(world.careless(own)))
        .await
        .unwrap();
    let error = answer.expect_err("got in");
    assert!(error.contains("fatal alert"), "{error}");
    assert!(error.contains(alert), "{error}");
}

fn own(issued: &Issued) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
    let key = issued.key.as_ref().unwrap().expose().to_vec();
    (issued.chain.clone(), key)
}

type Change = fn(&mut CertificateParams);

/// The issuing authority in the hands of somebody who keeps to no profile.
fn issuer(authority: &Authority) -> (Issuer<'static, KeyPair>, CertificateDer<'static>) {
    let key = authority.issuing_key_pem();
    let key = KeyPair::from_pem(std::str::from_utf8(key.expose()).unwrap()).unwrap();
    let certificate = pem::of_certificates([authority.issuing()]);
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
    (issuer, authority.issuing().clone())
}

fn leaf(
    (issuer, issuing): &(Issuer<'static, KeyPair>, CertificateDer<'static>),
    change: Change,
) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::default();
    let now = i64::try_from(NOW.as_seconds()).unwrap();
    leaf.not_before = time::OffsetDateTime::from_unix_timestamp(now - 60).unwrap();
    leaf.not_after = leaf.not_before + time::Duration::days(30);
    leaf.subject_alt_names = vec![uri("urn:cos-escrow:party:north")];
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    leaf.use_authority_key_identifier_extension = true;
    change(&mut leaf);
    let der = leaf.signed_by(&key, issuer).unwrap().der().clone();
    (vec![der, issuing.clone()], key.serialize_der())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A ClientHello that ends at TLS 1.2: no `supported_versions`.
fn tls_1_2_hello() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 29][..], // supported_groups: x25519
        &[0, 13, 0, 4, 0, 2, 4, 3][..],  // signature_algorithms: ecdsa_secp256r1_sha256
        &[0, 23, 0, 0][..],              // extended_master_secret
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0, 2, 0xc0, 0x2b]); // ECDHE-ECDSA-AES128-GCM-SHA256
    body.extend([1, 0]); // no compression
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}
