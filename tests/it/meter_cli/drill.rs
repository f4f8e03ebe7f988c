//! `kill -9` in the middle of takeovers, again and again, until every meter is taken over: the program that is shipped,
//! simulated meters in a process of their own, a real service.
//!
//! `COS_ESCROW_TAKEOVER_KILLS` says how many kills there are; the default is small.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cos_escrow::dlms::keys::{KeyRole, key_name};
use cos_escrow::types::{Clock as _, Random as _, SystemClock, SystemRandom};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

use super::program::{CONFIG, DESK, json_of, program, run, simulate};
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_is_killed_anywhere_loses_no_meter() {
    let kills = std::env::var_os("COS_ESCROW_TAKEOVER_KILLS");
    let kills: usize = kills.map_or(60, |kills| kills.to_str().unwrap().parse().unwrap());
    let began = Instant::now();
    let (mut done, mut meters, mut probes) = (0, 0, 0);
    while done < kills {
        let night = Night::begin((kills / 8).clamp(4, 60)).await;
        done += night.kill_until_over(kills - done).await;
        let lives = night.end().await;
        meters += lives.len();
        probes += lives
            .iter()
            .map(|life| life["failures"].as_u64().unwrap())
            .sum::<u64>();
    }
    let seconds = began.elapsed().as_secs();
    eprintln!(
        "{done} kills in {seconds} s, {meters} meters: all reachable with our keys alone, two key sets each, no nonce \
         used twice, {probes} refusals in all"
    );
}

/// A service, simulated meters and a list of their releases.
struct Night {
    world: World,
    simulator: Child,
}

impl Night {
    async fn begin(count: usize) -> Self {
        let world = World::with_released(count).await;
        world.write_configuration();
        let releases: Vec<_> = (0..count).map(|n| format!("{n}.release")).collect();
        let mut like = vec!["--config", "config.toml", "--key", "gainer.key"];
        // Slow enough for a kill to meet every step, from the first connection to the last confirmation.
        like.extend(["--latency", "20", "--report", "lives.json", "--release"]);
        like.extend(releases.iter().map(String::as_str));
        let (simulator, rows) = simulate(world.folder.path(), &like).await;
        let line = |(release, row): (&String, &String)| {
            let address = row.split(',').nth(1).unwrap();
            json!({ "release": release, "address": address }).to_string()
        };
        let list: Vec<_> = releases.iter().zip(&rows).map(line).collect();
        std::fs::write(world.path("releases.ndjson"), list.join("\n")).unwrap();
        Self { world, simulator }
    }

    fn arguments() -> Vec<&'static str> {
        let what = ["meter", "takeover", "--from", "releases.ndjson"];
        let how = [
            "--concurrency",
            "3",
            "--retry-after",
            "0",
            "--back-off",
            "0",
        ];
        [&what[..], &CONFIG, &DESK, &how, &["-o", "json"]].concat()
    }

    /// Starts takeovers and kills them, at most so often; then lets one come to its end. Returns how many were killed.
    async fn kill_until_over(&self, most: usize) -> usize {
        let folder = self.world.folder.path();
        for killed in 0..most {
            self.tell_the_time();
            if !self.killed(folder).await {
                return killed;
            }
        }
        // A meter that was given up on for now, after kills in the middle of its attempts, is taken up again.
        for _ in 0..PATIENCE {
            self.tell_the_time();
            let ended = run(&self.world, &Self::arguments()).await;
            match ended.status.code() {
                Some(0) => return most,
                Some(6) => {}
                other => panic!("{other:?}: {}", json_of(&ended)),
            }
        }
        panic!("it does not come to an end");
    }

    /// Whether the program was killed, and did not end before that.
    async fn killed(&self, folder: &Path) -> bool {
        let mut child = program(&Self::arguments(), folder);
        let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.unwrap();
        tokio::select! {
            ended = child.wait() => match ended.unwrap().code() {
                Some(0) => false,
                // Nothing could be done for now; that is no end.
                Some(6) => true,
                other => panic!("{other:?}"),
            },
            () = tokio::time::sleep(some_of(LIFE)) => {
                child.kill().await.unwrap();
                true
            }
        }
    }

    /// The service's clock is set by hand, and confirmations tell the time.
    fn tell_the_time(&self) {
        self.world.market.clock.set(SystemClock.now());
    }

    /// Ends the meters, and checks what they have seen.
    async fn end(mut self) -> Vec<Value> {
        let id = i32::try_from(self.simulator.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        assert!(self.simulator.wait().await.unwrap().success());
        let lives = std::fs::read(self.world.path("lives.json")).unwrap();
        let lives: Vec<Value> = serde_json::from_slice(&lives).unwrap();
        assert_eq!(lives.len(), self.world.releases.len());
        let desk = self.world.desk().await;
        for (release, life) in self.world.releases.iter().zip(&lives) {
            let handover = self.world.load(release).handover();
            let ours = desk.journal.newest_secrets(handover).await.unwrap();
            let ours = ours.keys().unwrap();
            let roles = [KeyRole::Guek, KeyRole::Gbek, KeyRole::Gak, KeyRole::Kek];
            let names = roles.map(|role| key_name(ours.key(role).unwrap()));
            assert_eq!(life["keys"], json!(names), "reachable: {life}");
            // One set a round: none was made while it was not known what became of another.
            assert_eq!(life["keys_seen"], json!([2, 2, 2, 2]), "{life}");
            assert_eq!(life["nonce_reuses"], 0, "{life}");
            let progress = desk.journal.record(handover).await.unwrap().progress;
            assert!(progress.released_refused, "{handover}");
            assert_eq!(self.world.state_of(handover).await, "confirmed");
        }
        lives
    }
}

/// A random part of a time.
fn some_of(most: Duration) -> Duration {
    let mut random = [0; 4];
    SystemRandom.fill(&mut random);
    most.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
}

/// How long a takeover lives at most before it is killed.
const LIFE: Duration = Duration::from_millis(450);
/// Runs at the end, each of which may leave some meters for the next.
const PATIENCE: usize = 100;
