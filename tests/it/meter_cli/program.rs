//! The shipped program, with its arguments, files and exit codes.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::world::World;
use crate::child;

pub(super) fn program(arguments: &[&str], folder: &Path) -> Command {
    let mut command = child::command(env!("CARGO_BIN_EXE_cos-escrow"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CONFIG_HOME", folder);
    command
}

pub(super) async fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = program(arguments, world.folder.path());
    command.output().await.unwrap()
}

pub(super) fn json_of(output: &Output) -> Value {
    let talk = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {talk}"))
}

/// Starts simulated meters, and waits until they have been printed.
pub(super) async fn simulate(folder: &Path, arguments: &[&str]) -> (Child, Vec<String>) {
    let fixed = ["meter", "simulate", "-o", "csv"];
    let mut command = program(&[&fixed[..], arguments].concat(), folder);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // They are told to listen once all that is data has been printed.
    let mut talk = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = talk.next_line().await.unwrap().unwrap_or_default();
    let count = said
        .strip_prefix("cos-escrow: ")
        .and_then(|s| s.split_once(' '));
    let count: usize = count.unwrap_or_else(|| panic!("{said}")).0.parse().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut rows = Vec::new();
    for _ in 0..=count {
        rows.push(lines.next_line().await.unwrap().unwrap());
    }
    rows.remove(0);
    (child, rows)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_from_the_command_line_goes_on_when_the_meters_answer() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let folder = world.folder.path();
    let port = free_port();
    let list = [
        json!({ "release": "0.release", "address": format!("127.0.0.1:{port}") }),
        json!({ "release": "missing.release" }),
    ];
    let list = list.map(|line| line.to_string()).join("\n");
    std::fs::write(world.path("releases.ndjson"), list).unwrap();
    let patience = ["--retry-after", "0", "--lease", "60", "-o", "json"];

    let takeover = ["meter", "takeover", "--from", "releases.ndjson"];
    let first = run(&world, &[&takeover, &CONFIG[..], &DESK, &patience].concat()).await;
    assert_eq!(first.status.code(), Some(4));
    let endings = json_of(&first);
    let outcomes: Vec<_> = endings
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["outcome"])
        .collect();
    assert_eq!(outcomes, ["refused", "waiting"], "people first");

    let resume = [&["meter", "resume"], &CONFIG[..], &DESK, &patience].concat();
    let second = run(&world, &resume).await;
    assert_eq!(second.status.code(), Some(6), "{}", json_of(&second));

    let text = port.to_string();
    let like = [
        "--release",
        "0.release",
        "--config",
        "config.toml",
        "--key",
        "gainer.key",
    ];
    let like = [
        &like[..],
        &["--port-base", text.as_str(), "--fault", "drop-response"],
    ]
    .concat();
    let (_meter, rows) = simulate(folder, &like).await;
    assert!(rows[0].starts_with("E19B000001,127.0.0.1:"), "{rows:?}");

    let third = run(&world, &resume).await;
    let endings = json_of(&third);
    assert_eq!(third.status.code(), Some(0), "{endings}");
    assert_eq!(endings[0]["outcome"], "rotated");
    let status = run(
        &world,
        &[&["meter", "status"], &DESK[..], &["-o", "json"]].concat(),
    )
    .await;
    let status = json_of(&status);
    assert_eq!(status[0]["state"], "reported");
    let handover = status[0]["handover"].as_str().unwrap().parse().unwrap();
    assert_eq!(world.state_of(handover).await, "confirmed");
    let fourth = run(&world, &resume).await;
    assert_eq!(
        (fourth.status.code(), json_of(&fourth)),
        (Some(0), json!([]))
    );
}

/// Starts a takeover of the first release, and waits until it has connected to the meter, which never answers.
async fn connected(world: &World) -> (Child, TcpStream) {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let text = silent.local_addr().unwrap().to_string();
    let takeover = [
        "meter",
        "takeover",
        "--release",
        "0.release",
        "--address",
        &text,
    ];
    let mut command = program(
        &[&takeover, &CONFIG[..], &DESK, &JSON].concat(),
        world.folder.path(),
    );
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::select! {
        accepted = silent.accept() => (child, accepted.unwrap().0),
        ended = child.wait() => panic!("{ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_that_is_killed_goes_on_at_once() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let (mut killed, line) = connected(&world).await;
    killed.kill().await.unwrap();
    std::fs::rename(world.path("0.release"), world.path("moved.release")).unwrap();

    let port = line.local_addr().unwrap().port().to_string();
    let like = ["--release", "moved.release", "--config", "config.toml"];
    let like = [&like[..], &["--key", "gainer.key", "--port-base", &port]].concat();
    let _meter = simulate(world.folder.path(), &like).await;
    let resume = [&["meter", "resume"], &CONFIG[..], &DESK, &JSON].concat();
    let resumed = run(&world, &resume).await;
    let endings = json_of(&resumed);
    assert_eq!(endings[0]["outcome"], "rotated", "{endings}");
    assert_eq!(resumed.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_program_says_so() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let (mut child, _line) = connected(&world).await;
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    rustix::process::kill_process(id.unwrap(), rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
}

#[tokio::test]
async fn the_seeds_of_simulated_meters_are_packages_to_deposit() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--count", "4", "--protocol", "mixed"];
    let arguments = [&arguments[..], &["--seed-file", "seeds.ndjson"]].concat();
    let (_meters, rows) = simulate(folder.path(), &arguments).await;
    let path = folder.path().join("seeds.ndjson");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let dry = ["handover", "deposit", "--dry-run", "--from", "seeds.ndjson"];
    let checked = program(&dry, folder.path()).output().await.unwrap();
    let talk = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{talk}");
    let seeds = std::fs::read_to_string(&path).unwrap();
    assert_eq!((seeds.lines().count(), rows.len()), (4, 4));
    let kinds = ["dlms", "password"].into_iter().cycle();
    for ((seed, row), kind) in seeds.lines().zip(&rows).zip(kinds) {
        let seed: Value = serde_json::from_str(seed).unwrap();
        assert!(seed["package"]["credentials"][0][kind].is_object(), "{row}");
        let comms = &seed["package"]["comms"];
        let address = format!("{}:{}", comms["address"].as_str().unwrap(), comms["port"]);
        assert!(row.contains(&address), "{row}");
    }
    let again = program(
        &["meter", "simulate", "--seed-file", "seeds.ndjson"],
        folder.path(),
    );
    let refused = { again }.output().await.unwrap();
    assert_eq!(refused.status.code(), Some(4), "nothing is overwritten");
}

pub(super) const CONFIG: [&str; 4] = ["--config", "config.toml", "--sealing-key", "gainer.key"];
pub(super) const DESK: [&str; 4] = ["--journal", "night.db", "--journal-key", "journal.key"];
const JSON: [&str; 2] = ["-o", "json"];
