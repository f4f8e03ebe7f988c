//! Whoever has the database, or changes it under the running service: nothing opens, and nothing wrong comes out.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::cli::instance::Instance;
use cos_escrow::cli::settings::Settings;
use cos_escrow::client::seal_package;
use cos_escrow::custody::Custody;
use cos_escrow::envelope::{Recipient, Release};
use cos_escrow::types::SystemRandom;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::time::timeout;

use super::door::Reply;
use super::world::{SECRET, SWITCH, World, deposit_body, package, release_body, switched};

#[tokio::test]
async fn no_file_of_the_database_holds_a_secret_of_a_package() {
    let world = World::releasable().await;
    // One of which the depositor also knows the key that its content is under.
    let recipients = [
        (Recipient::Escrow, world.escrow_key().await),
        (
            Recipient::Party(world.loser().party.clone()),
            world.loser().sealing.public().clone(),
        ),
    ];
    let depositor = world.loser().depositor(world.now());
    let known = seal_package(&package(), None, &recipients, &depositor).unwrap();
    let data_key = known.dek(&world.loser().sealing).unwrap();
    let deposited = world.deposit("LOSE", Some(switched()), &[&known]).await;
    assert_eq!(deposited.status, 201, "{deposited:?}");
    let released = world.release("GAIN", switched(), "r1").await;
    assert_eq!(opened(&world, &released), 2);
    let backup = world.market.folder.join("escrow.db-backup");
    world
        .market
        .instance
        .escrow
        .store()
        .backup(&backup)
        .await
        .unwrap();
    let raw: Vec<u8> = (0..16).collect();
    let others = ["101112131415161718191A1B1C1D1E1F", "10.1.2.3"];
    let secrets = [SECRET, others[0], others[1]].map(str::as_bytes);
    let keys = [raw.as_slice(), data_key.expose()];
    for secret in secrets.into_iter().chain(keys) {
        assert!(!is_kept(&world, secret));
    }
    // The same search finds what is in clear.
    assert!(is_kept(&world, super::world::POINT.as_bytes()));
}

/// With keys made anew a stolen database is not served at all; with its own it is.
#[tokio::test]
async fn a_stolen_database_is_not_served_with_other_keys() {
    let world = World::releasable().await;
    let stolen = tempfile::tempdir().unwrap();
    let folder = &world.market.folder;
    fs::create_dir(stolen.path().join("pki")).unwrap();
    for file in
        ["server.pem", "server.key", "root.pem", "lists.pem"].map(|name| format!("pki/{name}"))
    {
        fs::copy(folder.join(&file), stolen.path().join(&file)).unwrap();
    }
    for file in ["escrow.toml", "anchor"] {
        fs::copy(folder.join(file), stolen.path().join(file)).unwrap();
    }
    let store = world.market.instance.escrow.store();
    let backup = stolen.path().join("escrow.db");
    store.backup(&backup).await.unwrap();
    let start = || async {
        let settings = Settings::load(&stolen.path().join("escrow.toml")).unwrap();
        let clock = Arc::new(world.market.clock.clone());
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        Instance::start(settings, clock, Arc::new(SystemRandom), metrics).await
    };

    assert!(start().await.is_err(), "no keys");
    let keys = stolen.path().join("keys");
    Custody::open_or_create(&keys, world.now(), &SystemRandom).unwrap();
    for anchored in [true, false] {
        if !anchored {
            fs::remove_file(stolen.path().join("anchor")).unwrap();
        }
        let others = start().await.err().expect("other keys");
        let said = format!("{others:?}");
        assert!(said.contains("the log began with the key"), "{said}");
    }

    fs::remove_dir_all(&keys).unwrap();
    fs::create_dir(&keys).unwrap();
    for file in fs::read_dir(folder.join("keys")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), keys.join(file.file_name())).unwrap();
    }
    start().await.unwrap().stop().await;
}

#[tokio::test]
async fn rows_swapped_under_the_service_release_nothing_that_opens() {
    let world = World::releasable().await;
    let envelope = world.sealed(world.loser(), &package()).await;
    let second = world.deposit("LOSE", Some(switched()), &[&envelope]).await;
    assert_eq!(second.status, 201, "{second:?}");
    assert_eq!(
        opened(&world, &world.release("GAIN", switched(), "before").await),
        2
    );
    let mut database = open(&world).await;
    for (table, column) in [
        ("sealed", "wrapped_dek"),
        ("sealed", "body"),
        ("stanza", "sealed"),
    ] {
        swap(&mut database, table, column).await;
        let swapped = world
            .release("GAIN", switched(), &format!("swapped-{column}"))
            .await;
        assert_eq!(opened(&world, &swapped), 0, "{column}: {swapped:?}");
        swap(&mut database, table, column).await;
        let back = world
            .release("GAIN", switched(), &format!("back-{column}"))
            .await;
        assert_eq!(opened(&world, &back), 2, "{column}: {back:?}");
    }
}

/// The registration goes while the package is asked for: no entry after that one is a release.
#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_goes_while_releases_are_asked_ends_them_at_its_entry() {
    for round in 0..3 {
        let world = World::releasable().await;
        let door = world.door_of("GAIN").await;
        let path = format!("/v1/handovers/{}/release", switched());
        let annul = world.event(
            super::world::POINT,
            SWITCH.0,
            ("RegistrationCancelledNotification", "Annulled"),
            json!({}),
        );
        let ask = async {
            let mut answers = Vec::new();
            while answers.iter().all(|status| *status == 200) {
                let asked = (0..8).map(|number| {
                    let key = format!("race-{round}-{}-{number}", answers.len());
                    let (door, path) = (&door, &path);
                    async move { door.post_as(&key, path, release_body()).await.status }
                });
                answers.extend(futures_util::future::join_all(asked).await);
            }
            answers
        };
        let go = async {
            while world.entries("release.delivered").await.len() < 8 {}
            world.market.register(false, &[annul]).await.unwrap();
        };
        let (answers, ()) = tokio::join!(ask, go);
        let recorded = newest(&world, "registration.recorded").await.unwrap();
        let granted = newest(&world, "release.granted").await.unwrap();
        let delivered = newest(&world, "release.delivered").await.unwrap();
        assert!(
            granted.max(delivered) < recorded,
            "{granted}, {delivered}, {recorded}"
        );
        let released = answers.iter().filter(|status| **status == 200).count();
        let entries = world.entries("release.delivered").await.len() + 1;
        assert_eq!(released, entries, "every answer is an entry");
        assert!(
            answers.iter().all(|status| matches!(status, 200 | 403)),
            "{answers:?}"
        );
    }
}

/// Connections are cut while the answer is on its way, sooner and later; repetitions get what was answered first.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_off_is_given_again() {
    let world = World::releasable().await;
    let of = |what: &str| format!("/v1/handovers/{}/{what}", switched());
    let envelope = world.sealed(world.loser(), &package()).await;
    let deposit = deposit_body(&[envelope.encode()]);
    let deposits = cut_off(&world, "LOSE", &of("deposit"), &deposit).await;
    let indexes: Vec<_> = deposits
        .iter()
        .map(|answer| &answer["receipt"]["index"])
        .collect();
    assert!(indexes.iter().all(|index| *index == indexes[0]));
    assert_eq!(world.entries("package.deposited").await.len(), 2);

    let releases = cut_off(&world, "GAIN", &of("release"), &release_body()).await;
    let bytes: Vec<_> = releases.iter().map(|answer| &answer["release"]).collect();
    assert!(bytes.iter().all(|release| *release == bytes[0]));
    assert_eq!(world.entries("release.granted").await.len(), 1);
}

/// Sends the same request over connections that last longer and longer. Returns the answers that came through.
async fn cut_off(world: &World, who: &str, path: &str, body: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for patience in (0..60).step_by(3).chain([60_000, 60_000]) {
        let door = world.door_of(who).await;
        let asked = door.post_as("cut", path, body.to_owned());
        if let Ok(answer) = timeout(Duration::from_millis(patience), asked).await {
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            answers.push(answer.json());
        }
    }
    assert!(
        (2..22).contains(&answers.len()),
        "{} came through",
        answers.len()
    );
    answers
}

/// The index of the newest entry of a kind.
async fn newest(world: &World, kind: &str) -> Option<u64> {
    world.entries(kind).await.first()?["index"].as_u64()
}

/// How many envelopes of a release its taker can open; none of what is no release.
fn opened(world: &World, reply: &Reply) -> usize {
    if reply.status != 200 {
        return 0;
    }
    let bytes = BASE64_STANDARD.decode(reply.json()["release"].as_str().unwrap());
    let release = Release::decode(&bytes.unwrap()).unwrap();
    let opened = release.open(&world.gainer().sealing);
    opened.filter(|(_, content)| content.is_ok()).count()
}

/// Swaps a column between the two rows of the two generations.
async fn swap(database: &mut SqliteConnection, table: &str, column: &str) {
    let select = format!("SELECT envelope_id, {column} FROM {table} ORDER BY envelope_id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(select))
        .fetch_all(&mut *database)
        .await
        .unwrap();
    assert_eq!(rows.len(), 2, "{table}");
    for (from, to) in [(0, 1), (1, 0)] {
        let update = format!("UPDATE {table} SET {column} = $1 WHERE envelope_id = $2");
        sqlx::query(sqlx::AssertSqlSafe(update))
            .bind(rows[from].get::<Vec<u8>, _>(1))
            .bind(rows[to].get::<String, _>(0))
            .execute(&mut *database)
            .await
            .unwrap();
    }
}

pub(super) async fn open(world: &World) -> SqliteConnection {
    let file = world.market.folder.join("escrow.db");
    let url = format!("sqlite://{}", file.display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// Whether a file of the database holds these bytes.
fn is_kept(world: &World, secret: &[u8]) -> bool {
    let files = fs::read_dir(&world.market.folder).unwrap();
    files.map(|file| file.unwrap()).any(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with("escrow.db") && contains(&fs::read(file.path()).unwrap(), secret)
    })
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}
