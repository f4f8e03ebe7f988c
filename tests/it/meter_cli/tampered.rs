//! What was tampered with is told from what was refused, and no meter is touched because of it.

use std::path::Path;
use std::process::Output;

use cos_escrow::envelope::{Body, Item, Recipient, Release, Stanza};
use cos_escrow::meter::journal::{Query, State};
use cos_escrow::tlog::LogKey;
use cos_escrow::types::{Secret, SystemRandom};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::program::{CONFIG, DESK, json_of, run};
use super::world::{Wall, World};

async fn take_over(world: &World, release: &str, wall: &Wall, more: &[&str]) -> Output {
    let address = wall.meter.label.address.to_string();
    let what = [
        "meter",
        "takeover",
        "--release",
        release,
        "--address",
        &address,
    ];
    run(
        world,
        &[&what, &CONFIG[..], &DESK, more, &["-o", "json"]].concat(),
    )
    .await
}

/// Exit code 5, `tampered`, and a meter that has the keys it had.
fn assert_tampered(output: &Output, wall: &Wall) -> Value {
    let endings = json_of(output);
    assert_eq!(output.status.code(), Some(5), "{endings}");
    assert_eq!(endings[0]["outcome"], "tampered", "{endings}");
    assert!(wall.is_untouched());
    endings
}

/// A copy of a release with one piece of its bytes replaced by another one.
fn forge(world: &World, name: &str, piece: &[u8], by: &[u8]) {
    let bytes = std::fs::read(&world.releases[0]).unwrap();
    let at = bytes.windows(piece.len()).position(|w| w == piece).unwrap();
    let forged = [&bytes[..at], by, &bytes[at + piece.len()..]].concat();
    assert!(Release::decode(&forged).is_ok(), "still a release");
    std::fs::write(world.path(name), forged).unwrap();
}

fn signature(release: &Path) -> Vec<u8> {
    let release = Release::decode(&std::fs::read(release).unwrap()).unwrap();
    let signature = release.items()[0].body.signature().unwrap();
    signature.as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_its_depositor_did_not_sign_is_used_on_no_meter() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let good = signature(&world.releases[0]);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    forge(&world, "forged.release", &good, &bad);

    let output = take_over(&world, "forged.release", &wall, &[]).await;
    let endings = assert_tampered(&output, &wall);
    assert!(
        endings[0]["reason"]
            .as_str()
            .unwrap()
            .contains("credentials")
    );
    // Nor is it because of a flag that is for what nobody signed.
    let output = take_over(&world, "forged.release", &wall, &["--accept-unsigned"]).await;
    assert_tampered(&output, &wall);
    let desk = world.desk().await;
    assert!(
        desk.journal
            .list(&Query::default())
            .await
            .unwrap()
            .is_empty()
    );
}

/// The same release with its packages sealed as the service seals what a depositor sent in clear.
fn unsigned(world: &World, name: &str) {
    let bytes = std::fs::read(&world.releases[0]).unwrap();
    let release = Release::decode(&bytes).unwrap();
    let (key, issue) = (&world.gainer().sealing, release.issue());
    let recipient = Recipient::Party(issue.recipient.clone());
    let sealed = |item: &Item| {
        let content = item.open(key).unwrap();
        let header = item.body.header().clone();
        let (body, dek) = Body::seal(content.expose(), header, &SystemRandom).unwrap();
        let digest = body.header().digest();
        let stanza = Stanza::seal(&dek, &digest, &recipient, key.public(), &SystemRandom);
        Item {
            body,
            stanza: stanza.unwrap(),
            ..item.clone()
        }
    };
    let items = release.items().iter().map(sealed).collect();
    let release = Release::assemble(issue.clone(), items).unwrap();
    std::fs::write(world.path(name), release.encode()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_is_used_only_when_that_is_accepted() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    unsigned(&world, "unsigned.release");

    let output = take_over(&world, "unsigned.release", &wall, &[]).await;
    let endings = json_of(&output);
    assert_eq!(output.status.code(), Some(4), "{endings}");
    assert_eq!(endings[0]["outcome"], "unsigned", "{endings}");
    assert_eq!(endings[0]["needs"], "review", "{endings}");
    let reason = endings[0]["reason"].as_str().unwrap();
    assert!(reason.contains("`--accept-unsigned`"), "{reason}");
    assert!(wall.is_untouched());

    let accepted = take_over(&world, "unsigned.release", &wall, &["--accept-unsigned"]).await;
    assert_eq!(json_of(&accepted)[0]["outcome"], "rotated");
    assert!(accepted.status.success());
    assert!(!wall.is_untouched());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_does_not_go_on_with_papers_that_were_changed() {
    let world = World::with_released(1).await;
    world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let desk = world.desk().await;
    let head_end = world.head_end(&desk);
    let work = super::claimed(&world, &head_end, std::slice::from_ref(&wall)).await;
    super::run_until(&head_end, work, State::Inventoried).await;
    desk.journal.close().await;
    drop(desk);
    let journal = SqliteConnectOptions::new().filename(world.path("night.db"));
    let mut journal = SqliteConnection::connect_with(&journal).await.unwrap();
    let change = "UPDATE papers SET sealed = zeroblob(length(sealed))";
    sqlx::raw_sql(change).execute(&mut journal).await.unwrap();
    journal.close().await.unwrap();

    let resume = ["meter", "resume", "-o", "json"];
    let output = run(&world, &[&resume, &CONFIG[..], &DESK].concat()).await;
    assert_tampered(&output, &wall);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_takeover_that_meets_another_log_ends_as_tampered() {
    let world = World::with_released(1).await;
    let config = world.write_configuration();
    let wall = world.meters(&[]).await.remove(0);
    let ours = world.market.instance.escrow.log_key().to_string();
    let origin = ours.split_once('+').unwrap().0;
    let seed = Secret::new(vec![7; 32]);
    let other = LogKey::from_seed(origin.parse().unwrap(), &seed).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace(&ours, &other.verifier().to_string());
    std::fs::write(&config, text).unwrap();

    let output = take_over(&world, "0.release", &wall, &[]).await;
    assert_tampered(&output, &wall);
}
