//! Files of records that are larger than what a command may hold in memory.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::{Child, Stdio};

use cos_escrow::types::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::service::World;

/// Bytes of a record that is not one.
const BAD: usize = 60_000;
/// How many of them there are: 150 MB.
const COUNT: usize = 2_500;
/// Bytes that the program may ever have in memory: its own code, and a few portions.
const ROOM: u64 = 72_000_000;

/// The most memory that a process has had, in bytes.
fn peak(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() * 1_024
}

/// An event that goes in.
fn event(number: usize) -> String {
    let event = json!({
        "eventId": format!("e{number}"),
        "eventType": "RegistrationPendingNotification",
        "eventDate": SystemClock.now(),
        "data": {
            "registrationId": format!("N{number}"), "mpxn": "9693016118873",
            "supplierMpid": "ZHTL", "supplyStartDate": "2030-01-01",
        },
    });
    event.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_feed_far_larger_than_memory_goes_in_line_by_line() {
    let world = World::start().await;
    let line = "registration import - --format css -o json --config css.toml";
    let mut child = world
        .desk
        .command(line)
        .stdin(Stdio::piped())
        .stdout(File::create(world.desk.path("out")).unwrap())
        .stderr(File::create(world.desk.path("talk")).unwrap())
        .spawn()
        .unwrap();
    let mut feed = BufWriter::new(child.stdin.take().unwrap());
    writeln!(feed, "{}", event(1)).unwrap();
    let bad = vec![b'x'; BAD];
    for _ in 0..COUNT {
        feed.write_all(&bad).unwrap();
        feed.write_all(b"\n").unwrap();
    }
    feed.write_all(event(2).as_bytes()).unwrap();
    // All but what is on its way has been read, and the last record waits for its end.
    feed.flush().unwrap();
    let peak = peak(&child);
    drop(feed);
    let ended = child.wait().unwrap();

    let talk = String::from_utf8(world.desk.read("talk")).unwrap();
    assert_eq!(ended.code(), Some(4), "{talk}");
    let printed = String::from_utf8(world.desk.read("out")).unwrap();
    let mut lines = printed.lines().rev();
    let summary: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let expected = json!({ "recorded": 2, "known": 0, "refused": COUNT });
    assert_eq!(summary, expected, "{talk}");
    for (number, line) in (2..COUNT + 2).rev().zip(lines) {
        let problem: Value = serde_json::from_str(line).unwrap();
        let expected = (&json!(number), &json!("registration_invalid"));
        assert_eq!((&problem["line"], &problem["code"]), expected);
    }
    let sent = (BAD * COUNT) as u64;
    assert!(sent > 2 * ROOM, "the file is what would not fit");
    assert!(peak < ROOM, "{peak} bytes for a file of {sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_line_longer_than_any_record_is_one_bad_record() {
    let world = World::start().await;
    let long = "x".repeat(600_000);
    let text = format!("{long}\n{}\n", event(1));
    world.desk.write("events.ndjson", text);
    let import = "registration import events.ndjson --format css -o csv";
    let ended = world.run("css", import);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "line,code,detail\n1,too_large,the line is longer than a record may be\n"
    );
    assert!(
        ended.stderr.contains("1 recorded, 0 known, 1 refused"),
        "{ended:?}"
    );
    // What went in is known when the whole file is imported again.
    let again = world.run("css", import);
    assert!(
        again.stderr.contains("0 recorded, 1 known, 1 refused"),
        "{again:?}"
    );
}
