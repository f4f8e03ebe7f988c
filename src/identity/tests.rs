//! The authority, the path and the profile together.

use std::time::Duration;

use super::*;
use crate::types::{Code, Timestamp};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

fn party(id: &str) -> Identity {
    Identity::party(id.parse().unwrap())
}

fn anchors(authority: &Authority, now: Timestamp) -> Anchors {
    let lists = authority.lists(now, now.after(7 * DAY)).unwrap();
    Anchors::new(std::slice::from_ref(authority.root()), &lists, now).unwrap()
}

fn authority() -> Authority {
    Authority::create("test", NOW).unwrap()
}

#[test]
fn a_client_leaf_verifies_as_its_identity() {
    let authority = authority();
    let subject = Subject::Client(party("north"));
    let issued = authority.issue(&subject, 90, NOW).unwrap();
    let leaf = anchors(&authority, NOW)
        .verify_client(&issued.chain, NOW)
        .unwrap();
    assert_eq!(leaf.identity, party("north"));
    assert_eq!(leaf.serial, issued.certificate.serial);
    assert_eq!(leaf.not_after, issued.certificate.not_after);
}

#[test]
fn each_leaf_is_good_for_its_own_purpose_only() {
    let authority = authority();
    let anchors = anchors(&authority, NOW);
    let chain = |subject: Subject| authority.issue(&subject, 30, NOW).unwrap().chain;
    let client = chain(Subject::Client(party("north")));
    let signer = chain(Subject::Signer(party("north")));
    let server = chain(Subject::Server(vec!["localhost".to_owned()]));
    let localhost = ServerName::try_from("localhost").unwrap();
    assert!(anchors.verify_client(&client, NOW).is_ok());
    assert!(anchors.verify_signer(&signer, NOW).is_ok());
    assert!(anchors.verify_server(&server, &localhost, NOW).is_ok());
    for chain in [&signer, &server] {
        let error = anchors.verify_client(chain, NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the client leaf is out of profile: its extended key usage is not that of the profile"
        );
    }
    for chain in [&client, &server] {
        assert!(anchors.verify_signer(chain, NOW).is_err());
    }
    for chain in [&client, &signer] {
        assert!(anchors.verify_server(chain, &localhost, NOW).is_err());
    }
}

#[test]
fn a_server_is_good_for_its_own_names_only() {
    let authority = authority();
    let anchors = anchors(&authority, NOW);
    let names = Subject::Server(vec!["escrow.example".to_owned(), "127.0.0.1".to_owned()]);
    let chain = authority.issue(&names, 30, NOW).unwrap().chain;
    let verify = |name| anchors.verify_server(&chain, &ServerName::try_from(name).unwrap(), NOW);
    assert_eq!(verify("escrow.example"), Ok(()));
    assert_eq!(verify("127.0.0.1"), Ok(()));
    assert_eq!(verify("127.0.0.2"), Err(IdentityError::WrongServer));
    assert_eq!(verify("other.example"), Err(IdentityError::WrongServer));
}

#[test]
fn time_and_revocation_are_told_apart() {
    let mut authority = authority();
    let issued = authority
        .issue(&Subject::Client(party("north")), 2, NOW)
        .unwrap();
    let trust = anchors(&authority, NOW);
    let code = |anchors: &Anchors, now| {
        anchors
            .verify_client(&issued.chain, now)
            .unwrap_err()
            .code()
    };
    assert_eq!(code(&trust, NOW.after(3 * DAY)), Code::CertificateExpired);
    assert_eq!(code(&trust, NOW.before(DAY)), Code::CertificateInvalid);
    let long = authority
        .issue(&Subject::Client(party("north")), 90, NOW)
        .unwrap();
    assert_eq!(
        trust.verify_client(&long.chain, NOW.after(8 * DAY)),
        Err(IdentityError::RevocationUnknown)
    );
    authority.revoke(issued.certificate.serial.clone(), NOW);
    let trust = anchors(&authority, NOW);
    assert_eq!(code(&trust, NOW), Code::CertificateRevoked);
    assert!(trust.verify_client(&long.chain, NOW).is_ok());
}

#[test]
fn without_the_lists_of_all_authorities_nobody_is_let_in() {
    let authority = authority();
    let chain = authority
        .issue(&Subject::Client(party("north")), 2, NOW)
        .unwrap()
        .chain;
    let lists = authority.lists(NOW, NOW.after(DAY)).unwrap();
    for some in [&lists[..0], &lists[..1], &lists[1..]] {
        let roots = std::slice::from_ref(authority.root());
        let anchors = Anchors::new(roots, some, NOW).unwrap();
        assert_eq!(
            anchors.verify_client(&chain, NOW),
            Err(IdentityError::RevocationUnknown)
        );
    }
}

#[test]
fn a_list_signed_by_a_namesake_counts_for_nothing() {
    let (real, namesake) = (authority(), authority());
    let chain = real
        .issue(&Subject::Client(party("north")), 2, NOW)
        .unwrap()
        .chain;
    let lists = namesake.lists(NOW, NOW.after(DAY)).unwrap();
    let anchors = Anchors::new(std::slice::from_ref(real.root()), &lists, NOW).unwrap();
    assert_eq!(
        anchors.verify_client(&chain, NOW),
        Err(IdentityError::RevocationUnknown)
    );
}

#[test]
fn another_authority_of_the_same_name_is_not_trusted() {
    let (real, namesake) = (authority(), authority());
    let chain = namesake
        .issue(&Subject::Client(party("north")), 2, NOW)
        .unwrap()
        .chain;
    assert_eq!(
        anchors(&real, NOW).verify_client(&chain, NOW),
        Err(IdentityError::Untrusted)
    );
    assert!(anchors(&real, NOW).verify_client(&[], NOW).is_err());
    assert!(anchors(&real, NOW).verify_client(&chain[..1], NOW).is_err());
}

#[test]
fn an_expired_root_is_neither_loaded_nor_trusted() {
    let authority = authority();
    let late = NOW.after(DAY * 7301);
    let lists = authority.lists(NOW, late.after(DAY)).unwrap();
    let roots = std::slice::from_ref(authority.root());
    let error = Anchors::new(roots, &lists, late).unwrap_err();
    assert_eq!(error, IdentityError::Expired);
    let early = Anchors::new(roots, &lists, NOW.before(DAY)).unwrap_err();
    assert_eq!(early, IdentityError::NotYetValid);
}

#[test]
fn a_leaf_is_no_root_and_two_lists_of_one_issuer_are_too_many() {
    let authority = authority();
    let lists = authority.lists(NOW, NOW.after(DAY)).unwrap();
    let leaf = authority
        .issue(&Subject::Client(party("north")), 2, NOW)
        .unwrap();
    assert!(Anchors::new(&leaf.chain[..1], &lists, NOW).is_err());
    assert!(Anchors::new(&leaf.chain[1..], &lists, NOW).is_err());
    let twice = [lists[0].clone(), lists[0].clone()];
    let roots = std::slice::from_ref(authority.root());
    assert_eq!(
        Anchors::new(roots, &twice, NOW).unwrap_err(),
        IdentityError::RevocationList(Violation::TwoLists)
    );
}

#[test]
fn an_older_list_is_noticed() {
    let authority = authority();
    let (old, new) = (
        anchors(&authority, NOW),
        anchors(&authority, NOW.after(DAY)),
    );
    assert!(old.rewinds(&new));
    assert!(!new.rewinds(&old) && !new.rewinds(&new));
}

#[test]
fn a_signature_verifies_for_its_message_and_signer_only() {
    let mut authority = authority();
    let issued = authority
        .issue(&Subject::Signer(party("north")), 365, NOW)
        .unwrap();
    let key = issued.key.as_ref().unwrap();
    let signer = SigningIdentity::new(issued.chain.clone(), key).unwrap();
    let signature = signer.sign(b"message");
    let trust = anchors(&authority, NOW);
    let verify = |message: &[u8], signature: &[u8], trust: &Anchors| {
        let leaf = verify_signature(signer.chain(), message, signature, trust, Made::By(NOW));
        leaf.map(|leaf| leaf.identity)
    };
    assert_eq!(verify(b"message", &signature, &trust), Ok(party("north")));
    assert_eq!(
        verify(b"massage", &signature, &trust),
        Err(IdentityError::Signature)
    );
    assert_eq!(
        verify(b"message", b"", &trust),
        Err(IdentityError::Signature)
    );
    authority.revoke(issued.certificate.serial, NOW);
    assert_eq!(
        verify(b"message", &signature, &anchors(&authority, NOW)),
        Err(IdentityError::Revoked)
    );
}

#[test]
fn a_revoked_leaf_was_good_for_what_was_logged_before() {
    let mut authority = authority();
    let subject = Subject::Signer(party("north"));
    let issued = authority.issue(&subject, 365, NOW).unwrap();
    let signer = SigningIdentity::new(issued.chain, issued.key.as_ref().unwrap()).unwrap();
    let signature = signer.sign(b"message");
    let (before, revoked, now) = (NOW.after(DAY), NOW.after(2 * DAY), NOW.after(3 * DAY));
    authority.revoke(issued.certificate.serial, revoked);
    let trust = anchors(&authority, now);
    let verify = |trust: &Anchors, made| {
        let leaf = verify_signature(signer.chain(), b"message", &signature, trust, made);
        leaf.map(|leaf| leaf.identity)
    };
    assert_eq!(verify(&trust, Made::Logged(before)), Ok(party("north")));
    let after = Made::Logged(revoked.after(Duration::from_secs(1)));
    for made in [after, Made::By(before), Made::By(now)] {
        assert_eq!(
            verify(&trust, made),
            Err(IdentityError::Revoked),
            "{made:?}"
        );
    }
    // The validity of the leaf bounds what it may have signed, as ever.
    assert_eq!(
        verify(&trust, Made::Logged(NOW.before(DAY))),
        Err(IdentityError::NotYetValid)
    );
    // What names a date counts only if its issuer signed it, and only beside the other authorities' lists.
    let lists = authority.lists(now, now.after(DAY)).unwrap();
    let others = self::authority().lists(now, now.after(DAY)).unwrap();
    let roots = std::slice::from_ref(authority.root());
    for some in [
        &lists[..1],
        &lists[1..],
        &[lists[0].clone(), others[1].clone()],
        &[others[0].clone(), lists[1].clone()],
    ] {
        let trust = Anchors::new(roots, some, now).unwrap();
        let refused = verify(&trust, Made::Logged(before)).unwrap_err();
        assert_eq!(refused, IdentityError::RevocationUnknown);
    }
}

#[test]
fn a_tls_leaf_or_a_foreign_key_makes_no_signer() {
    let authority = authority();
    let issue = |subject| authority.issue(&subject, 30, NOW).unwrap();
    let tls = issue(Subject::Client(party("north")));
    let (one, two) = (
        issue(Subject::Signer(party("north"))),
        issue(Subject::Signer(party("north"))),
    );
    assert!(SigningIdentity::new(tls.chain, tls.key.as_ref().unwrap()).is_err());
    assert_eq!(
        SigningIdentity::new(one.chain, two.key.as_ref().unwrap()).err(),
        Some(IdentityError::WrongKey)
    );
}

#[test]
fn only_the_key_is_taken_from_a_signing_request() {
    let authority = authority();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(["mallory.example".to_owned()]).unwrap();
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = wish.serialize_request(&key).unwrap().pem().unwrap();
    let subject = Subject::Client(party("north"));
    let issued = authority
        .issue_for_request(&subject, &request, 30, NOW)
        .unwrap();
    assert!(issued.key.is_none());
    assert_eq!(issued.certificate.public_key, key.public_key_raw());
    assert_eq!(issued.certificate.identity, Some(party("north")));
    assert!(
        anchors(&authority, NOW)
            .verify_client(&issued.chain, NOW)
            .is_ok()
    );
    let forged = request.replacen("MII", "MIJ", 1);
    assert!(
        authority
            .issue_for_request(&subject, &forged, 30, NOW)
            .is_err()
    );
}

#[test]
fn an_authority_keeps_to_its_profiles() {
    let authority = authority();
    let client = Subject::Client(party("north"));
    assert!(authority.issue(&client, 91, NOW).is_err());
    assert!(authority.issue(&client, 0, NOW).is_err());
    for name in ["", "bad name", "-x.example"] {
        let server = Subject::Server(vec![name.to_owned()]);
        assert!(authority.issue(&server, 30, NOW).is_err(), "{name:?}");
    }
    assert!(authority.issue(&Subject::Server(vec![]), 30, NOW).is_err());
    assert!(matches!(
        authority.issue(&client, 90, NOW.after(DAY * 1800)),
        Err(AuthorityError::OutlivesIssuer)
    ));
}

#[test]
fn an_authority_survives_its_pem() {
    let before = authority();
    let chain = before
        .issue(&Subject::Client(party("north")), 30, NOW)
        .unwrap()
        .chain;
    let (root, issuing) = ([before.root()], [before.issuing()]);
    let after = Authority::from_pem(
        (
            pem::of_certificates(root).as_bytes(),
            before.root_key_pem().expose(),
        ),
        (
            pem::of_certificates(issuing).as_bytes(),
            before.issuing_key_pem().expose(),
        ),
    )
    .unwrap();
    assert!(anchors(&after, NOW).verify_client(&chain, NOW).is_ok());
    let mixed = Authority::from_pem(
        (
            pem::of_certificates(root).as_bytes(),
            before.issuing_key_pem().expose(),
        ),
        (
            pem::of_certificates(issuing).as_bytes(),
            before.issuing_key_pem().expose(),
        ),
    );
    assert!(mixed.is_err());
}

#[test]
fn a_certificate_is_inspected_as_what_it_is() {
    let authority = authority();
    let issue = |subject| {
        authority
            .issue(&subject, 30, NOW)
            .unwrap()
            .chain
            .swap_remove(0)
    };
    for (der, sort) in [
        (authority.root().clone(), profile::Sort::Root),
        (authority.issuing().clone(), profile::Sort::Issuing),
        (issue(Subject::Client(party("a"))), profile::Sort::Client),
        (issue(Subject::Signer(party("a"))), profile::Sort::Signing),
        (
            issue(Subject::Server(vec!["a".to_owned()])),
            profile::Sort::Server,
        ),
    ] {
        assert_eq!(Certificate::inspect(&der).unwrap().sort, sort);
    }
    assert_eq!(
        Certificate::inspect(&CertificateDer::from(vec![0x30, 0x00])),
        Err(Violation::Malformed)
    );
}
