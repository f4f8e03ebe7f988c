//! A refusal takes the same work whether or not there is something that the asker has no part in: what the service does
//! is counted, statement by statement, row by row, and each use of a sealing key.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Command;
use std::sync::Mutex;

use hyper::Method;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::door::{Door, Reply};
use super::outsiders::{assert_alike, confirmation};
use super::world::{
    NOWHERE, POINT, World, closing_read, deposit_body, handover_of, package_at, release_body,
    switched,
};

/// What was done: a line for each statement with the rows it read and changed, and one for each use of a sealing key.
type Work = Vec<String>;

/// Everything that was done in this process since it was last taken.
static DONE: Mutex<Work> = Mutex::new(Vec::new());

/// Notes the statements that the database driver reports, and the service's uses of sealing keys.
struct Counter;

impl<S: Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if !matches!(target, "sqlx::query" | "cos_escrow::kem") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let named = [
            "summary",
            "rows_returned",
            "rows_affected",
            "message",
            "kem",
        ];
        let line: Vec<_> = named
            .iter()
            .filter_map(|name| fields.0.remove(name))
            .collect();
        DONE.lock().unwrap().push(line.join(" "));
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// A request that can be made again, under a key of its own each time.
struct Question {
    method: Method,
    path: String,
    body: Vec<u8>,
}

impl Question {
    fn new(method: Method, path: String, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { method, path, body }
    }

    async fn ask(&self, door: &Door, n: usize) -> (Reply, Work) {
        DONE.lock().unwrap().clear();
        let key = format!("{}-{}-{n}", self.method, self.path);
        let headers = [("idempotency-key", key.as_str())];
        let (method, body) = (self.method.clone(), self.body.clone());
        let reply = door.send(method, &self.path, &headers, body).await;
        (reply, std::mem::take(&mut DONE.lock().unwrap()))
    }

    /// The least work of a few tries: what the service does beside may only add to it.
    async fn least(&self, door: &Door) -> (Reply, Work) {
        let mut least: Option<(Reply, Work)> = None;
        for n in 0..3 {
            let asked = self.ask(door, n).await;
            if least
                .as_ref()
                .is_none_or(|(_, work)| asked.1.len() < work.len())
            {
                least = Some(asked);
            }
        }
        least.unwrap()
    }
}

/// About something of others, and the same about nothing.
async fn pairs(world: &World) -> Vec<(Question, Question)> {
    let stranger = world.stranger();
    let package = |point| async move {
        let package = package_at(point);
        deposit_body(&[world.sealed(stranger, &package).await.encode()])
    };
    let read = closing_read("head end", "10229.9");
    let read = deposit_body(&[world.sealed_read(stranger, &read).await.encode()]);
    let (theirs, none) = (switched(), handover_of("R2"));
    let mut pairs = Vec::new();
    for (what, body) in [
        ("release", release_body()),
        ("deposit", package(POINT).await),
        ("reject", r#"{"reason":"r"}"#.to_owned()),
        ("accept-read", String::new()),
        ("dispute", read),
    ] {
        let about = |id| {
            let path = format!("/v1/handovers/{id}/{what}");
            Question::new(Method::POST, path, body.clone())
        };
        pairs.push((about(theirs), about(none)));
    }
    let shown = |id| Question::new(Method::GET, format!("/v1/handovers/{id}"), "");
    pairs.push((shown(theirs), shown(none)));
    let confirmed = |id| {
        let path = format!("/v1/handovers/{id}/confirm");
        Question::new(Method::POST, path, confirmation(world, id))
    };
    pairs.push((confirmed(theirs), confirmed(none)));

    let statement = r#"{"smart":true,"serial":"E19B762798"}"#;
    for (method, what, body) in [
        (Method::GET, "", String::new()),
        (Method::POST, "/release", release_body()),
        (Method::PUT, "/meter", statement.to_owned()),
    ] {
        let about = |point| {
            let path = format!("/v1/supply-points/{point}{what}");
            Question::new(method.clone(), path, body.clone())
        };
        pairs.push((about(POINT), about(NOWHERE)));
    }
    let standing = |body| Question::new(Method::POST, "/v1/deposits".to_owned(), body);
    let standing = (
        standing(package(POINT).await),
        standing(package(NOWHERE).await),
    );
    pairs.push(standing);
    pairs
}

/// Counting is for a whole process, so it has one of its own.
#[tokio::test]
async fn a_refusal_takes_the_same_work_whether_there_is_something_or_not() {
    if std::env::var_os(ALONE).is_none() {
        return alone();
    }
    let everything = tracing_subscriber::registry().with(Counter);
    tracing::subscriber::set_global_default(everything).unwrap();
    let world = World::releasable().await;
    let door = world.door_of("THRD").await;
    // The first entry of an actor makes its key.
    door.get(&format!("/v1/supply-points/{NOWHERE}")).await;
    for (theirs, none) in pairs(&world).await {
        let what = format!("{} {}", theirs.method, theirs.path);
        let (exists, work) = theirs.least(&door).await;
        let (does_not, same_work) = none.least(&door).await;
        assert_alike(&exists, &does_not, &what);
        assert!(!work.is_empty(), "{what}: nothing was counted");
        assert_eq!(work, same_work, "{what}");
        let sealed = work
            .iter()
            .filter(|line| line.starts_with("encapsulated"))
            .count();
        assert_eq!(sealed, usize::from(what.ends_with("/release")), "{what}");
    }
}

fn alone() {
    let name = module_path!().split_once("::").unwrap().1;
    let name = format!("{name}::a_refusal_takes_the_same_work_whether_there_is_something_or_not");
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    let talk = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}\n{talk}");
    assert!(said.contains("1 passed"), "{said}");
}

const ALONE: &str = "COS_ESCROW_TEST_ALONE";
