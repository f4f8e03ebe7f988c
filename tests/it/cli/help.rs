//! What `--help` says is part of the interface.

use clap::Command;

use super::desk::words;

/// Every command at the end of its branch, with its words.
fn leaves(command: &Command, path: &[String]) -> Vec<(Vec<String>, Command)> {
    let path = [path, &[command.get_name().to_owned()]].concat();
    let below: Vec<_> = command.get_subcommands().collect();
    if below.is_empty() {
        return vec![(path, command.clone())];
    }
    let below = below
        .into_iter()
        .filter(|command| command.get_name() != "help" && !command.is_hide_set());
    below.flat_map(|command| leaves(command, &path)).collect()
}

fn built() -> Command {
    let mut command = cos_escrow::cli::command().term_width(100);
    command.build();
    command
}

/// The help of a command and of all below it.
fn help(command: &mut Command) -> String {
    let mut text = format!("{}\n", command.render_long_help());
    for below in command.get_subcommands_mut() {
        if below.get_name() != "help" {
            text.push_str(&format!("{:=<100}\n{}", "", help(below)));
        }
    }
    text
}

#[test]
fn help_reads_as_it_was_reviewed() {
    for command in built().get_subcommands_mut() {
        let name = command.get_name().to_owned();
        if OURS.contains(&name.as_str()) {
            insta::assert_snapshot!(format!("help_{name}"), help(command));
        }
    }
}

#[test]
fn every_command_has_examples_that_parse() {
    for (path, command) in leaves(&built(), &[]) {
        let name = path.join(" ");
        let after = command.get_after_help().map(ToString::to_string);
        let after = after.unwrap_or_default();
        let examples: Vec<_> = after
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("cos-escrow "))
            .collect();
        assert!(
            examples.iter().any(|line| line.starts_with(&name)),
            "`{name}` has no example of its own"
        );
        for example in examples {
            let parsed = cos_escrow::cli::understands(&words(example));
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn a_key_whose_name_begins_with_a_hyphen_can_be_named() {
    for first in ["-a", "-o", "-q", "--"] {
        let key = format!("{first}3CGSvH9C6vhs38w7-lFUZ-ZZFSWUizZxv59dby3Ew");
        for line in [
            format!("cos-escrow key retire {key} --yes -o json"),
            format!("cos-escrow key retire --yes {key}"),
            format!(
                "cos-escrow handover recover 9693016118873 --meter-serial X --out y --key-id {key}"
            ),
        ] {
            let parsed = cos_escrow::cli::understands(&words(&line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn the_environment_stays_out_of_the_help() {
    let desk = super::desk::Desk::new();
    let ended = desk.run("handover list --help");
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("COS_ESCROW_URL"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(desk.path("").to_str().unwrap()));
}

/// The commands that others than the service's operator use.
const OURS: [&str; 13] = [
    "handover",
    "lookup",
    "meter-statement",
    "party",
    "key",
    "registration",
    "log",
    "envelope",
    "meter",
    "witness",
    "healthcheck",
    "completions",
    "man",
];
