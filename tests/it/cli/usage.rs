//! Mistakes in arguments and configuration, and services that are not there.

use super::desk::Desk;

const ID: &str = "ho_3f2a9c0d1e4b5a69788796a5b4c3d2e1";

#[test]
fn mistakes_in_arguments_are_exit_2() {
    let desk = Desk::new();
    for line in [
        "handover".to_owned(),
        "handover list".to_owned(),
        "handover list --role watching".to_owned(),
        "handover list --role losing --state gone".to_owned(),
        "handover show 4711".to_owned(),
        "handover deposit --package p.json".to_owned(),
        format!("handover deposit {ID}"),
        format!("handover deposit {ID} --standing --package p.json"),
        format!("handover deposit {ID} --from d.ndjson"),
        format!("handover release {ID} --out x"),
        format!("handover confirm {ID} --outcome rotated"),
        "lookup".to_owned(),
        "lookup 9693016118874".to_owned(),
        "lookup 9693016118873 --from x".to_owned(),
        "meter-statement put 9693016118873 --smart yes".to_owned(),
        "party add NORTH --name x".to_owned(),
        "party mpid add north ZHTL --role Z".to_owned(),
        "key create --kem rsa".to_owned(),
        "registration import x".to_owned(),
        "log verify --against x".to_owned(),
    ] {
        let ended = desk.run(&line);
        assert_eq!(ended.code, 2, "{line}: {ended:?}");
        assert_eq!(ended.stdout, "", "{line}");
    }
}

#[test]
fn what_is_not_configured_is_named_with_the_ways_to_give_it() {
    let desk = Desk::new();
    let ended = desk.run("handover list --role losing");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: `cert` is not configured\n\
         hint: give `--cert`, set `COS_ESCROW_CERT`, or write `cert = …` in the configuration file\n"
    );
}

#[test]
fn a_party_does_not_start_without_the_key_of_the_log() {
    let desk = Desk::new();
    desk.with_party();
    let ended = desk.run("handover list --role losing --config client.toml");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.stderr.contains("`log_key` is not configured"),
        "{ended:?}"
    );
}

#[test]
fn a_service_that_is_not_there_is_exit_6() {
    let desk = Desk::new();
    desk.with_party();
    desk.write("log.vkey", super::log::vkey());
    // Nothing listens on port 1.
    let ended = desk.run(
        "handover list --role losing --config client.toml --log-key log.vkey --url https://127.0.0.1:1",
    );
    assert_eq!(ended.code, 6, "{ended:?}");
}

#[test]
fn a_dry_run_needs_no_service_and_shows_no_secret() {
    let desk = Desk::new();
    desk.write("package.json", PACKAGE);
    let outline = desk.json("handover deposit --standing --package package.json --dry-run");
    assert_eq!(outline["supply_point"], "9693016118873");
    assert!(!outline.to_string().contains("NB6ZHGHW"), "{outline}");
    desk.write(
        "batch.ndjson",
        format!("{{\"package\":{PACKAGE}}}\nnonsense\n"),
    );
    let ended = desk.run("handover deposit --from batch.ndjson --dry-run -o json");
    assert_eq!(ended.code, 4, "{ended:?}");
    let lines: Vec<serde_json::Value> = (ended.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["line"], &lines[0]["code"]),
        (&1.into(), &().into())
    );
    assert_eq!(
        (&lines[1]["line"], &lines[1]["code"]),
        (&2.into(), &"not_sent".into())
    );
}

#[test]
fn the_placeholder_of_an_example_is_no_password() {
    let desk = Desk::new();
    desk.write("package.json", PACKAGE.replace("NB6ZHGHW", "…"));
    let ended = desk.run("handover deposit --standing --package package.json --dry-run");
    assert_eq!(ended.code, 4, "{ended:?}");
    let place = "credentials[0].password.levels[0].password";
    assert!(ended.stderr.contains(place), "{ended:?}");
}

#[test]
fn a_configuration_shows_every_setting_and_who_set_it() {
    let desk = Desk::new();
    desk.with_party();
    let shown = desk.json("config client --config client.toml --url https://escrow.example");
    let setting = |name: &str| {
        let mut all = shown.as_array().unwrap().iter();
        let found = all.find(|setting| setting["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name}: {shown}"));
        (found["value"].clone(), found["source"].clone())
    };
    assert_eq!(
        setting("url"),
        ("https://escrow.example".into(), "argument".into())
    );
    assert_eq!(setting("cert").1, "file");
    assert_eq!(setting("key").1, "default");
    assert_eq!(setting("signing_cert"), (().into(), "unset".into()));
    desk.write("escrow.toml", super::missing::SERVICE);
    let table = desk.run("config show").stdout;
    for row in [
        &["origin", "escrow.example/log", "file"][..],
        &["readers", "4", "default"],
        &["policies", "unset"],
        &["witnesses", "unset"],
    ] {
        let there = (table.lines()).any(|line| line.split_whitespace().eq(row.iter().copied()));
        assert!(there, "no {row:?}: {table}");
    }
}

#[test]
fn a_sealing_key_is_private_and_is_never_overwritten() {
    let desk = Desk::new();
    let made = desk.json("key create --out north.key");
    assert_eq!(made["kem"], "x-wing");
    assert!(desk.is_private("north.key"));
    let before = desk.read("north.key");
    assert_eq!(desk.run("key create --out north.key").code, 4);
    assert_eq!(desk.read("north.key"), before);
    let other = desk.json("key create --kem p256");
    assert!(desk.is_private(&format!(
        ".config/cos-escrow/keys/{}.key",
        other["key_id"].as_str().unwrap()
    )));
    assert_eq!(desk.run("key create --out -").code, 2);
}

#[test]
fn what_cannot_be_taken_back_is_not_done_unasked() {
    let desk = Desk::new();
    let ended = desk.run("party suspend north");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("`--yes`"), "{ended:?}");
}

impl Desk {
    /// A party's certificates and a configuration that names them.
    pub(super) fn with_party(&self) {
        assert_eq!(self.run("pki init ca").code, 0);
        let issue = "pki issue --pki ca --kind party --id north --out north";
        assert_eq!(self.run(issue).code, 0);
        let config = "cert = \"north/party-north.tls.pem\"\n\
                      roots = \"ca/root.pem\"\n\
                      lists = \"ca/lists.pem\"\n";
        self.write("client.toml", config);
    }
}

pub(super) const PACKAGE: &str = r#"{"format":"cos-escrow/package/1","supply_point":"9693016118873","meter":{"serial":"E19B762798"},"comms":{},"credentials":[{"password":{"levels":[{"level":1,"password":"NB6ZHGHW"}]}}]}"#;
