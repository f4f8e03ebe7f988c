//! The commands on a folder of their own.

use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;

use super::*;
use crate::cli::output::{Colour, Format};
use crate::identity::Anchors;
use crate::tls::{Files, Material};

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A folder with an authority in `ca`.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.run("init @/ca").unwrap();
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `@` stands for the folder.
    fn run(&self, line: &str) -> Result<(), Failure> {
        let line = line.replace('@', self.0.path().to_str().unwrap());
        let words = ["pki"].into_iter().chain(line.split_whitespace());
        let output = Output {
            format: Format::Json,
            quiet: true,
            colour: Colour::Off,
        };
        run(Line::try_parse_from(words).unwrap().command, &output)
    }

    fn exit(&self, line: &str) -> Exit {
        self.run(line)
            .err()
            .map_or(Exit::Ok, |failure| failure.exit)
    }

    fn verify(&self, file: &str) -> Result<String, crate::identity::IdentityError> {
        let read = |name: &str| fs::read(self.path(name)).unwrap();
        let roots = pem::certificates(&read("ca/root.pem")).unwrap();
        let lists = pem::lists(&read("ca/lists.pem")).unwrap();
        let now = SystemClock.now();
        let anchors = Anchors::new(&roots, &lists, now).unwrap();
        let chain = pem::certificates(&read(file)).unwrap();
        let verify = match file.contains("signing") {
            true => Anchors::verify_signer,
            false => Anchors::verify_client,
        };
        verify(&anchors, &chain, now).map(|leaf| leaf.identity.to_string())
    }
}

#[test]
fn what_is_issued_verifies_until_it_is_revoked() {
    let desk = Desk::new();
    desk.run("issue --pki @/ca --kind party --id north --out @/north")
        .unwrap();
    desk.run("issue --pki @/ca --kind party --id north --use signing --out @/north")
        .unwrap();
    let (tls, signing) = ("north/party-north.tls.pem", "north/party-north.signing.pem");
    assert_eq!(desk.verify(tls).unwrap(), "urn:cos-escrow:party:north");
    desk.run(&format!("revoke --pki @/ca @/{tls}")).unwrap();
    assert!(desk.verify(tls).is_err());
    assert!(desk.verify(signing).is_ok());
    // A later list must still have it.
    desk.run("crl --pki @/ca").unwrap();
    assert!(desk.verify(tls).is_err());
    assert_eq!(
        desk.exit(&format!("renew --pki @/ca @/{tls} --out @/new")),
        Exit::Refused
    );
    desk.run(&format!("renew --pki @/ca @/{signing} --out @/new"))
        .unwrap();
    assert!(desk.verify("new/party-north.signing.pem").is_ok());
    desk.run("list --pki @/ca").unwrap();
}

#[test]
fn a_serial_number_revokes_too() {
    let desk = Desk::new();
    desk.run("issue --pki @/ca --kind auditor --id kate --out @/kate")
        .unwrap();
    let serial = first_certificate(&desk.path("kate/auditor-kate.tls.pem"))
        .unwrap()
        .serial;
    desk.run(&format!("revoke --pki @/ca {serial}")).unwrap();
    assert!(desk.verify("kate/auditor-kate.tls.pem").is_err());
    assert_eq!(desk.exit("revoke --pki @/ca 0badc0de"), Exit::NotFound);
}

#[test]
fn private_keys_are_for_the_owner_and_are_never_overwritten() {
    let desk = Desk::new();
    let order = "issue --pki @/ca --kind party --id north --out @/north";
    desk.run(order).unwrap();
    for key in [
        "ca/root.key",
        "ca/issuing.key",
        "ca/server.key",
        "north/party-north.tls.key",
    ] {
        let mode = fs::metadata(desk.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = fs::read(desk.path("north/party-north.tls.key")).unwrap();
    assert_eq!(desk.exit(order), Exit::Refused);
    assert_eq!(desk.exit("init @/ca"), Exit::Refused);
    assert_eq!(
        fs::read(desk.path("north/party-north.tls.key")).unwrap(),
        before
    );
}

#[test]
fn the_service_can_start_from_the_folder() {
    let desk = Desk::new();
    let material = Material::load(&Files {
        chain: desk.path("ca/server.pem"),
        key: desk.path("ca/server.key"),
        roots: desk.path("ca/root.pem"),
        lists: desk.path("ca/lists.pem"),
    });
    let clock = std::sync::Arc::new(SystemClock);
    crate::tls::LiveTls::new(&material.unwrap(), Default::default(), clock).unwrap();
}

#[test]
fn inspection_tells_good_from_bad() {
    let desk = Desk::new();
    for good in [
        "ca/root.pem",
        "ca/issuing.pem",
        "ca/server.pem",
        "ca/lists.pem",
    ] {
        assert_eq!(desk.exit(&format!("inspect @/{good}")), Exit::Ok, "{good}");
    }
    assert_eq!(desk.exit("inspect @/ca/root.key"), Exit::Failed);
    assert_eq!(desk.exit("inspect @/nothing"), Exit::Usage);
    let bad = pem::of_certificates([&crate::identity::CertificateDer::from(vec![0x30, 0])]);
    fs::write(desk.path("bad.pem"), bad).unwrap();
    assert_eq!(desk.exit("inspect @/bad.pem"), Exit::Unverified);
}

#[test]
fn nothing_happens_on_a_broken_index() {
    let desk = Desk::new();
    fs::write(desk.path("ca/index.jsonl"), "{}\n").unwrap();
    assert_eq!(desk.exit("crl --pki @/ca"), Exit::Unverified);
    assert_eq!(desk.exit("crl --pki @/elsewhere"), Exit::Usage);
}

#[test]
fn too_many_days_are_a_mistake_of_the_caller() {
    let desk = Desk::new();
    let order = "issue --pki @/ca --kind party --id north --out @/north --days 91";
    assert_eq!(desk.exit(order), Exit::Usage);
}

#[test]
fn a_browser_file_holds_nothing_in_clear() {
    let desk = Desk::new();
    desk.run("issue --pki @/ca --kind auditor --id kate --out @/kate")
        .unwrap();
    fs::write(desk.path("pw"), "correct horse\n").unwrap();
    let order = "p12 --cert @/kate/auditor-kate.tls.pem --key @/kate/auditor-kate.tls.key \
                 --password-file @/pw --out @/kate.p12";
    desk.run(order).unwrap();
    let store = fs::read(desk.path("kate.p12")).unwrap();
    assert!(!store.windows(4).any(|window| window == b"kate"));
    assert_eq!(desk.exit(order), Exit::Refused);
}
