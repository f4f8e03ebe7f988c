//! A file that the arguments name and that is not there is a mistake in the arguments, whatever the command.

use super::desk::Desk;

/// A desk with an authority, a party, a configuration for both and a folder for the rest.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.with_party();
    let signing = "pki issue --pki ca --kind party --id north --use signing --out north";
    assert_eq!(desk.run(signing).code, 0);
    let config = String::from_utf8(desk.read("client.toml")).unwrap();
    // Nothing listens on port 1: what is missing is found before anybody is asked.
    let more = "signing_cert = \"north/party-north.signing.pem\"\nurl = \"https://127.0.0.1:1\"\n";
    desk.write("client.toml", config + more);
    desk.write("log.vkey", super::log::vkey());
    desk.write("escrow.toml", SERVICE);
    desk.write("package.json", super::usage::PACKAGE);
    assert_eq!(desk.run("key create --out own.key").code, 0);
    desk
}

#[test]
fn a_file_that_is_not_there_is_exit_2_in_every_command() {
    let desk = desk();
    for line in SERVICES {
        assert_missing(&desk, line);
    }
    for line in CLIENTS {
        assert_missing(&desk, &format!("{line} --config client.toml"));
    }
    for line in ALONE {
        assert_missing(&desk, line);
    }
}

#[track_caller]
fn assert_missing(desk: &Desk, line: &str) {
    let ended = desk.run(line);
    assert_eq!(ended.code, 2, "{line}: {ended:?}");
    // And not because the line itself makes no sense.
    let first = ended.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("error: ") && first.contains("`absent"),
        "{line}: {ended:?}"
    );
}

#[test]
fn a_database_that_is_not_there_is_neither_sound_nor_backed_up_nor_made() {
    let desk = desk();
    let config = format!("store = \"absent.db\"\n{SERVICE}");
    desk.write("mistyped.toml", config);
    for line in [
        "db check --config mistyped.toml",
        "db backup --config mistyped.toml --to copy.db",
        "db anchor --config mistyped.toml",
    ] {
        let ended = desk.run(line);
        assert_eq!(ended.code, 2, "{line}: {ended:?}");
        assert!(ended.stderr.contains("absent.db`: No such"), "{ended:?}");
    }
    assert!(!desk.path("absent.db").exists() && !desk.path("copy.db").exists());
    // Nor does what is no backup replace a database.
    desk.write("absent.db", "a database");
    for (name, content) in [("empty.db", ""), ("other.db", "something else")] {
        desk.write(name, content);
        let restore = format!("db restore --config mistyped.toml --from {name} --yes");
        let ended = desk.run(&restore);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains("is no backup"), "{ended:?}");
        assert_eq!(desk.read("absent.db"), b"a database");
    }
}

#[test]
fn a_url_that_is_none_is_exit_2() {
    let desk = desk();
    for url in [
        "http://localhost:8443",
        "localhost:8443",
        "https://",
        "https://localhost:port",
        "https://localhost:8443/v1",
        "https://local host",
        "nonsense",
    ] {
        let line = "handover list --role losing --config client.toml --log-key log.vkey";
        let ended = desk.run(&format!("{line} --url '{url}'"));
        assert_eq!(ended.code, 2, "{url}: {ended:?}");
        assert!(ended.stderr.contains(url), "{url}: {ended:?}");
    }
}

/// Commands of who runs the service.
const SERVICES: [&str; 11] = [
    "serve --config absent",
    "config show --config absent",
    "healthcheck --config absent",
    "db backup --config absent --to copy.db",
    "db check --config absent",
    "db anchor --config absent --yes",
    "db restore --config absent --from copy.db --yes",
    "db restore --from absent --yes",
    "db recover --config absent --mirror .",
    "db recover --mirror absent",
    "demo --events absent",
];

/// Commands of who has a configuration.
const CLIENTS: [&str; 28] = [
    "handover deposit --standing --package absent --dry-run",
    "handover list --role losing --cert absent",
    "handover list --role losing --key absent",
    "handover list --role losing --roots absent",
    "handover list --role losing --lists absent",
    "handover list --role losing --log-key absent",
    "handover deposit --from absent --log-key log.vkey",
    "handover deposit --from absent --dry-run",
    "handover deposit --standing --package package.json --log-key log.vkey --signing-cert absent",
    "handover deposit --standing --package package.json --log-key log.vkey --signing-key absent",
    "lookup --from absent --log-key log.vkey",
    "meter-statement put --from absent --log-key log.vkey",
    "registration import absent --format css",
    "key publish absent --log-key log.vkey",
    "meter plan --release absent",
    "meter plan --from absent",
    "meter plan --release package.json --profiles absent",
    "meter plan --release package.json --sealing-key absent",
    "meter simulate --release absent",
    "meter takeover --release absent --journal new.db --journal-key new.key --log-key log.vkey",
    "meter takeover --from absent --journal new.db --journal-key new.key --log-key log.vkey",
    "meter resume --journal absent --journal-key own.key --log-key log.vkey",
    "log verify --dir absent --log-key log.vkey",
    "log verify --dir . --log-key log.vkey --policy absent",
    "log monitor --once --policy absent --log-key log.vkey",
    "log export new --policy absent --log-key log.vkey",
    "envelope open absent --out new",
    "envelope verify absent",
];

/// Commands that need no configuration.
const ALONE: [&str; 15] = [
    "config client --config absent",
    "envelope inspect absent",
    "key public absent",
    "meter status --journal absent --journal-key own.key",
    "meter export-keys --journal absent --journal-key own.key --to own.key --out new",
    "meter open-keys absent --key own.key --out new",
    "pki inspect absent",
    "pki list --pki absent",
    "pki crl --pki absent",
    "pki issue --pki absent --kind party --id south --out south",
    "pki issue --pki ca --kind party --id south --out south --csr absent",
    "pki renew --pki ca absent --out new",
    "pki p12 --cert absent --key own.key --password-file own.key --out new.p12",
    "witness serve absent",
    "witness add-log absent log.vkey",
];

pub(super) const SERVICE: &str = r#"origin = "escrow.example/log"
[tls]
chain = "ca/server.pem"
key = "ca/server.key"
roots = "ca/root.pem"
lists = "ca/lists.pem"
"#;
