//! Completions, manual pages and the health check, from the real binary.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use cos_escrow::cli::demo::market::Market;
use cos_escrow::types::{Clock as _, SystemClock};
use serde_json::json;

use super::desk::{Desk, files_below};

#[test]
fn every_shell_gets_completions_of_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = desk.run(&format!("completions {shell}"));
        assert_eq!(ended.code, 0, "{ended:?}");
        for word in ["handover", "takeover", "meter-serial"] {
            assert!(ended.stdout.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(desk.run("completions tcsh").code, 2);
}

#[test]
fn bash_takes_its_completions_and_completes() {
    let desk = Desk::new();
    let script = desk.run("completions bash").stdout;
    let ask = "COMP_WORDS=(cos-escrow handover rel); COMP_CWORD=2\n\
               _cos__escrow cos-escrow rel handover; echo \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash")
        .arg("--norc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut typed = bash.stdin.take().unwrap();
    typed.write_all((script + ask).as_bytes()).unwrap();
    drop(typed);
    let said = bash.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(said).unwrap(), "release\n");
}

#[test]
fn every_command_has_a_manual_page_with_its_examples() {
    let desk = Desk::new();
    let ended = desk.run("man --out man1");
    assert_eq!(ended.code, 0, "{ended:?}");
    let pages: BTreeSet<_> = files_below(&desk.path("man1"))
        .iter()
        .map(|page| page.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(pages, pages_of(&cos_escrow::cli::command(), ""));
    let page = String::from_utf8(desk.read("man1/cos-escrow-handover-release.1")).unwrap();
    for heading in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", "Example:"] {
        assert!(page.contains(heading), "{heading}: {page}");
    }
    assert_eq!(desk.run("man --out man1").code, 0, "pages are written anew");
}

/// The page of a command, and those of all below it.
fn pages_of(command: &clap::Command, above: &str) -> BTreeSet<String> {
    let name = format!("{above}{}", command.get_name());
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    let below = below.flat_map(|command| pages_of(command, &format!("{name}-")));
    below.chain([format!("{name}.1")]).collect()
}

#[test]
fn a_service_that_does_not_run_is_not_healthy() {
    let desk = Desk::new();
    assert_eq!(desk.run("pki init ca").code, 0);
    let tls = "chain = \"ca/server.pem\"\nkey = \"ca/server.key\"\nroots = \"ca/root.pem\"\nlists = \"ca/lists.pem\"\n";
    // Port 1 is nobody's.
    let config = format!("origin = \"escrow.example/log\"\nadmin = \"127.0.0.1:1\"\n[tls]\n{tls}");
    desk.write("escrow.toml", config);
    let ended = desk.run("healthcheck");
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
    assert_eq!(desk.run("healthcheck --config nowhere.toml").code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_says_what_the_service_says() {
    let desk = Desk::new();
    let now = SystemClock.now();
    let market = Market::open(&desk.path("market"), now, []).await.unwrap();
    let config = String::from_utf8(desk.read("market/escrow.toml")).unwrap();
    let free = "admin = \"127.0.0.1:0\"";
    assert!(config.contains(free));
    let bound = format!("admin = \"{}\"", market.instance.admin);
    desk.write("market/bound.toml", config.replace(free, &bound));
    let check = "healthcheck --config market/bound.toml";

    // Nothing has come from the registration source yet.
    let ended = desk.run(check);
    assert_eq!(ended.code, 6, "{ended:?}");
    let silent = "registration_feed  false  nothing has been imported yet";
    assert!(ended.stdout.contains(silent), "{ended:?}");
    let ended = desk.run(&format!("{check} -o json"));
    assert_eq!(ended.code, 6, "{ended:?}");
    let checks: Vec<serde_json::Value> = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        checks[0],
        json!({ "check": "store", "ok": true, "reason": null })
    );
    let feed = checks.iter().find(|c| c["check"] == "registration_feed");
    assert_eq!(feed.unwrap()["reason"], "nothing has been imported yet");
    let ended = desk.run(&format!("{check} -o csv"));
    let silent = "registration_feed,false,nothing has been imported yet\n";
    assert!(ended.stdout.contains(silent), "{ended:?}");
    let header = "registration_id,mpxn,supplier_mpid,supply_start_date".to_owned();
    let row = "P1,9693016118873,LOSE,2020-01-01".to_owned();
    market.register(true, &[header, row]).await.unwrap();
    let ended = desk.run(check);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("registration_feed  true"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("false"), "{ended:?}");
    let quiet = desk.run(&format!("{check} --quiet"));
    assert_eq!((quiet.code, quiet.stdout.as_str()), (0, ""));
}
