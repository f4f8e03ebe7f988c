//! One handover from registration to confirmation, each step by the command that its user runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use cos_escrow::custody::Custody;
use cos_escrow::handover::Terms;
use cos_escrow::http::listen::{Limits, serve};
use cos_escrow::http::{Doors, api};
use cos_escrow::policy::Engine;
use cos_escrow::service::{Escrow, Foundation, Rules, SealServer, may_begin};
use cos_escrow::store::{Store, StoreOptions};
use cos_escrow::tls::{Files, LiveTls, Material, PostQuantum};
use cos_escrow::types::{Clock as _, SupplyStartDate, SystemClock, SystemRandom};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use super::desk::{Desk, Ended};

const MPAN: &str = "9693016118873";
const PACKAGE: &str = r#"{"format":"cos-escrow/package/1","supply_point":"9693016118873","meter":{"serial":"E19B762798"},"comms":{},"credentials":[{"password":{"levels":[{"level":1,"password":"NB6ZHGHW"}]}}]}"#;
const READ: &str = r#"{"format":"cos-escrow/read/1","supply_point":"9693016118873","meter_serial":"E19B762798","type":"D","registers":[{"id":"01","value":"1.5","at":"2025-10-18T23:00:00.000Z"}]}"#;

/// A service on a free port, and a desk with a configuration for everybody.
pub(super) struct World {
    pub(super) desk: Desk,
    _stop: DropGuard,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(|router| router).await
    }

    /// The same, with something between the listener and the service.
    async fn with(between: impl FnOnce(Router) -> Router) -> Self {
        let desk = Desk::new();
        assert_eq!(desk.run("pki init ca").code, 0);
        let (escrow, tls) = open(&desk).await;
        desk.write("log.vkey", escrow.log_key().to_string());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let doors = Doors {
            escrow,
            tls: Arc::clone(&tls),
            clock: Arc::new(SystemClock),
        };
        let stop = CancellationToken::new();
        let limits = Limits::default();
        let app = between(api(doors));
        tokio::spawn(serve(listener, tls, app, limits, stop.clone()));
        let world = Self {
            desk,
            _stop: stop.drop_guard(),
        };
        let people = [
            ("operator", "olga"),
            ("registrar", "css"),
            ("auditor", "kate"),
            ("party", "north"),
            ("party", "south"),
            ("party", "other"),
        ];
        for (kind, id) in people {
            world.introduce(kind, id, port);
        }
        world
    }

    /// Certificates and a configuration for one identity.
    fn introduce(&self, kind: &str, id: &str, port: u16) {
        let issue = format!("pki issue --pki ca --kind {kind} --id {id} --out {id}");
        assert_eq!(self.desk.run(&issue).code, 0);
        let mut config = format!(
            "url = \"https://127.0.0.1:{port}\"\ncert = \"{id}/{kind}-{id}.tls.pem\"\n\
             roots = \"ca/root.pem\"\nlists = \"ca/lists.pem\"\nlog_key = \"log.vkey\"\n\
             state_dir = \"{id}/state\"\nkeys = \"{id}/keys\"\n"
        );
        if kind == "party" {
            assert_eq!(self.desk.run(&format!("{issue} --use signing")).code, 0);
            config += &format!("signing_cert = \"{id}/{kind}-{id}.signing.pem\"\n");
        }
        self.desk.write(&format!("{id}.toml"), config);
    }

    /// A party's signing leaf is revoked, and the party has another one.
    fn change_signing_leaf(&self, who: &str) {
        let new = format!("{who}/new/party-{who}.signing");
        std::fs::create_dir(self.desk.path(&format!("{who}/new"))).unwrap();
        self.desk
            .run(&format!("key create --use signing --out {new}.key"));
        assert!(self.desk.is_private(&format!("{new}.key")));
        let issue = format!("pki issue --pki ca --kind party --id {who} --use signing");
        let issued = format!("{issue} --csr {new}.csr --out {who}/new");
        assert_eq!(self.desk.run(&issued).code, 0);
        let leaf = format!("{who}/party-{who}.signing.pem");
        let revoked = self.desk.run(&format!("pki revoke --pki ca {leaf}"));
        assert_eq!(revoked.code, 0, "{revoked:?}");
        let config = String::from_utf8(self.desk.read(&format!("{who}.toml"))).unwrap();
        let new = format!("{who}/new/party-{who}.signing.pem");
        self.desk
            .write(&format!("{who}.toml"), config.replace(&leaf, &new));
    }

    pub(super) fn run(&self, who: &str, line: &str) -> Ended {
        self.desk.run(&format!("{line} --config {who}.toml"))
    }

    pub(super) fn json(&self, who: &str, line: &str) -> Value {
        self.desk.json(&format!("{line} --config {who}.toml"))
    }

    /// Parties, their keys, and a change of supplier from north to south today.
    pub(super) fn prepare(&self) -> String {
        for (id, mpid) in [("north", "ZCHL"), ("south", "ZHTL"), ("other", "ZALF")] {
            self.json("olga", &format!("party add {id} --name '{id} ltd'"));
            let from = "--role X --from 2020-01-01T00:00:00Z";
            self.json("olga", &format!("party mpid add {id} {mpid} {from}"));
            let key = self.json(id, "key create --kem x25519");
            let file = key["file"].as_str().unwrap().to_owned();
            self.json(id, &format!("key publish {file} --days 30"));
        }
        let snapshot = "registration_id,mpxn,supplier_mpid,supply_start_date\n\
                        R1,9693016118873,ZCHL,2020-01-01\nR0,9693016118874,ZCHL,2020-01-01\n";
        self.desk.write("snapshot.csv", snapshot);
        let import = "registration import snapshot.csv --format snapshot -o json";
        let ended = self.run("css", import);
        assert_eq!(ended.code, 4, "{ended:?}");
        let printed: Vec<Value> = (ended.stdout.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [problem, summary] = &printed[..] else {
            panic!("{ended:?}");
        };
        assert_eq!(
            (&summary["recorded"], &summary["refused"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(
            (&problem["line"], &problem["code"]),
            (&json!(3), &json!("check_digit"))
        );
        self.desk.write("events.ndjson", events());
        let summary = self.json("css", "registration import events.ndjson --format css");
        assert_eq!(summary["recorded"], 2, "{summary}");
        let list = self.json("north", "handover list --role losing --all");
        list[0]["id"].as_str().unwrap().to_owned()
    }
}

/// South asks to supply from today on, and will.
fn events() -> String {
    let now = SystemClock.now();
    let today = SupplyStartDate::containing(now).unwrap();
    let event = |id: &str, kind: &str, data: Value| {
        json!({ "eventId": id, "eventType": kind, "eventDate": now, "data": data }).to_string()
    };
    let pending = json!({
        "registrationId": "R2", "mpxn": MPAN, "supplierMpid": "ZHTL", "supplyStartDate": today,
    });
    let secured = json!({
        "registrationId": "R2", "mpxn": MPAN, "registrationStatus": "SecuredActive",
        "registrationActiveDate": today.effective_at(),
    });
    let pending = event("e1", "RegistrationPendingNotification", pending);
    pending + "\n" + &event("e2", "RegistrationSecuredActiveNotification", secured) + "\n"
}

async fn open(desk: &Desk) -> (Escrow, Arc<LiveTls>) {
    let material = Material::load(&Files {
        chain: desk.path("ca/server.pem"),
        key: desk.path("ca/server.key"),
        roots: desk.path("ca/root.pem"),
        lists: desk.path("ca/lists.pem"),
    });
    let clock = Arc::new(SystemClock);
    let tls = LiveTls::new(&material.unwrap(), PostQuantum::Preferred, clock.clone());
    let tls = Arc::new(tls.unwrap());
    let options = StoreOptions {
        path: desk.path("escrow.db"),
        readers: 2,
    };
    assert!(may_begin(&desk.path("anchor"), false).await.unwrap());
    let foundation = Foundation {
        store: Store::open(&options).await.unwrap(),
        custody: Custody::open_or_create(&desk.path("custody"), clock.now(), &SystemRandom)
            .unwrap(),
        rules: Rules {
            policy: Engine::builtin(),
            terms: Terms::default(),
            anchors: Arc::clone(tls.trust().anchors()),
            seal_server: SealServer::Allowed,
        },
        origin: "escrow.example/log".parse().unwrap(),
        anchor: desk.path("anchor"),
        witnessing: None,
        clock,
        random: Arc::new(SystemRandom),
    };
    (Escrow::start(foundation).await.unwrap(), tls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handover_goes_through_by_commands_alone() {
    let world = World::start().await;
    let id = world.prepare();
    let desk = &world.desk;
    desk.write("package.json", PACKAGE);
    desk.write("read.json", READ);

    let stated = format!("meter-statement put {MPAN} --smart yes --serial E19B762798");
    assert_eq!(world.run("other", &stated).code, 3);
    let deposit = format!("handover deposit {id} --package package.json --read read.json");
    assert_eq!(world.run("other", &deposit).code, 3);
    let deposited = world.json("north", &deposit);
    assert_eq!(deposited["envelopes"][0]["component"], "credentials");
    assert_eq!(
        world.json("north", &format!("handover show {id}"))["state"],
        "deposited"
    );

    let release = format!("handover release {id} --meter-serial E19B762798 --out");
    assert_eq!(world.run("other", &format!("{release} x")).code, 3);
    assert_eq!(world.run("north", &format!("{release} x")).code, 4);
    assert!(!desk.path("x").exists());
    let wrong = format!("handover release {id} --meter-serial E19B762799 --out x");
    let ended = world.run("south", &wrong);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("`meter_mismatch`"), "{ended:?}");
    let released = world.json("south", &format!("{release} meter.release"));
    assert_eq!(released["items"][0]["signature"], "verified");
    assert!(released.get("release").is_none());
    assert!(desk.is_private("meter.release"));
    let open = "envelope open meter.release --out meter --config south.toml";
    assert_eq!(desk.run(open).code, 0);
    let package = String::from_utf8(desk.read("meter/credentials-1.json")).unwrap();
    assert!(package.contains("NB6ZHGHW"));

    world.json("south", &format!("handover accept-read {id}"));
    let outcome = "--outcome not-rotatable";
    let confirmed = world.json("south", &format!("handover confirm {id} {outcome}"));
    assert_eq!(confirmed["state"], "confirmed");
    for who in ["north", "south", "other"] {
        let waiting = desk.path(&format!("{who}/state/outbox"));
        let left = std::fs::read_dir(waiting).unwrap().count();
        assert_eq!(left, 0, "{who} has requests without an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_gets_a_new_signing_leaf_for_a_revoked_one_goes_on_as_before() {
    let world = World::start().await;
    let id = world.prepare();
    let desk = &world.desk;
    desk.write("package.json", PACKAGE);
    let deposit = format!("handover deposit {id} --package package.json");
    world.json("north", &deposit);
    for who in ["north", "south"] {
        world.change_signing_leaf(who);
    }

    // What was stated and signed before stands, for others and for itself.
    for (of, by) in [("north", "south"), ("south", "south")] {
        let keys = world.json(by, &format!("key list {of}"));
        assert_eq!(keys[0]["statement"], "verified", "{of}: {keys}");
    }
    let key = world.json("south", "key create --kem x25519");
    let file = key["file"].as_str().unwrap();
    world.json("south", &format!("key publish {file}"));
    let keys = world.json("north", "key list south");
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_ne!(keys[0]["signed_by"], keys[1]["signed_by"], "{keys}");
    world.json("north", &deposit);
    let release = format!("handover release {id} --meter-serial E19B762798 --out meter.release");
    let released = world.json("south", &release);
    for item in released["items"].as_array().unwrap() {
        assert_eq!(item["signature"], "verified", "{released}");
    }
    let trust = "--roots ca/root.pem --lists ca/lists.pem";
    let verify = format!("envelope verify meter.release {trust}");
    let verified = desk.json(&verify);
    assert_eq!(verified[0]["verdict"], "verified", "{verified}");
    // What is logged from now on it cannot have signed.
    let later = SystemClock.now().after(std::time::Duration::from_secs(60));
    let ended = desk.run(&format!("{verify} --at {later}"));
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("an earlier time"), "{ended:?}");
}

/// Does what is asked by POST, and loses the first answer after it is armed.
fn lossy(router: Router, armed: &Arc<AtomicBool>) -> Router {
    let armed = Arc::clone(armed);
    router.layer(from_fn(move |request: Request, next: Next| {
        let armed = Arc::clone(&armed);
        async move {
            let post = request.method() == Method::POST;
            let answer = next.run(request).await;
            match post && armed.swap(false, Ordering::SeqCst) {
                true => StatusCode::REQUEST_TIMEOUT.into_response(),
                false => answer,
            }
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_command_whose_answer_was_lost_is_run_again_and_done_once() {
    let armed = Arc::new(AtomicBool::new(false));
    let world = World::with(|router| lossy(router, &armed)).await;
    let id = world.prepare();
    let desk = &world.desk;
    desk.write("package.json", PACKAGE);
    for (who, line) in [
        (
            "north",
            format!("handover deposit {id} --package package.json"),
        ),
        (
            "north",
            format!("handover deposit {id} --package package.json --seal server"),
        ),
        (
            "south",
            format!("handover release {id} --meter-serial E19B762798 --out meter.release"),
        ),
        (
            "south",
            format!("handover reject {id} --reason 'password refused'"),
        ),
        (
            "south",
            format!("handover confirm {id} --outcome not-wanted"),
        ),
    ] {
        let before = entries(&world);
        armed.store(true, Ordering::SeqCst);
        let lost = world.run(who, &line);
        assert_eq!(lost.code, 6, "{line}: {lost:?}");
        let between = entries(&world);
        assert!(between > before, "`{line}` was done");
        world.json(who, &line);
        // Each delivery of a release is an entry; anything else is done once.
        let more = u64::from(line.contains("release"));
        assert_eq!(entries(&world), between + more, "{line}");
    }
}

/// How many entries the log has.
fn entries(world: &World) -> u64 {
    world.json("kate", "log checkpoint")["size"]
        .as_u64()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_records_are_answered_one_by_one() {
    let world = World::start().await;
    let id = world.prepare();
    let desk = &world.desk;
    let good = format!("{{\"handover\":\"{id}\",\"package\":{PACKAGE}}}");
    desk.write(
        "deposits.ndjson",
        format!("{good}\nnonsense\n\n{{\"package\":{PACKAGE}}}\n"),
    );
    let ended = world.run("north", "handover deposit --from deposits.ndjson -o csv");
    assert_eq!(ended.code, 4, "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(
        lines[1].starts_with(&format!("1,{id},deposited,")),
        "{ended:?}"
    );
    assert!(
        lines[2].starts_with("2,") && lines[2].contains("not_sent"),
        "{ended:?}"
    );

    desk.write("points.txt", format!("{MPAN}\n9693016118874\n{MPAN}\n"));
    let ended = world.run("south", "lookup --from points.txt -o json");
    assert_eq!(ended.code, 4, "{ended:?}");
    let answers: Vec<Value> = (ended.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&answers[0]["line"], &answers[0]["smart"]),
        (&json!(1), &json!("unknown"))
    );
    assert_eq!(answers[1]["line"], 2);
    assert!(answers[1]["code"].is_string());
    let meters = "{\"supply_point\":\"9693016118873\",\"smart\":true,\"serial\":\"E19B762798\"}\n";
    desk.write("meters.ndjson", meters);
    assert_eq!(
        world
            .run("south", "meter-statement put --from meters.ndjson")
            .code,
        0
    );
    assert_eq!(
        world.json("south", &format!("lookup {MPAN}"))["smart"],
        "yes"
    );
    desk.write(
        "meters.csv",
        format!("smart,supply_point,serial\nno,{MPAN},E19B762798\n{MPAN}\n"),
    );
    let ended = world.run("south", "meter-statement put --from meters.csv -o csv");
    assert_eq!(ended.code, 4, "{ended:?}");
    let (good, bad) = (format!("\n2,{MPAN},2,"), "\n3,,,,malformed_request,");
    for line in [good.as_str(), bad] {
        assert!(ended.stdout.contains(line), "{ended:?}");
    }
    desk.write(
        "points.csv",
        format!("supply_point,purpose\n{MPAN},\"a, b\"\n"),
    );
    let ended = world.run("south", "lookup --from points.csv -o csv");
    assert!(ended.stdout.contains(&format!("2,{MPAN},no,")), "{ended:?}");
    let plain = world.run(
        "north",
        "handover deposit --standing --seal server --package package.json",
    );
    assert_eq!(plain.code, 2, "there is no such file: {plain:?}");
}

/// Leaves the last line out of what many look-ups are answered.
fn forgetful(router: Router) -> Router {
    router.layer(from_fn(|request: Request, next: Next| async move {
        let many = request.uri().path().ends_with("lookup");
        let answer = next.run(request).await;
        if !many {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap().trim_end();
        let cut = text.rfind('\n').map_or(0, |feed| feed + 1);
        (
            parts.status,
            [("content-type", "application/x-ndjson")],
            text[..cut].to_owned(),
        )
            .into_response()
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_that_the_service_leaves_out_is_told_as_one_without_an_answer() {
    let world = World::with(forgetful).await;
    world.prepare();
    world.desk.write("points.txt", format!("{MPAN}\n{MPAN}\n"));
    let ended = world.run("south", "lookup --from points.txt -o json");
    let answers: Vec<Value> = (ended.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ended.code, 6, "{ended:?}");
    assert_eq!(answers[0]["smart"], "unknown", "{ended:?}");
    assert_eq!(answers[1]["line"], 2);
    assert_eq!(answers[1]["code"], "unreachable", "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_a_work_list_advances_what_was_seen_of_the_log() {
    let world = World::start().await;
    world.prepare();
    let list = "handover list --role gaining";
    world.json("other", list);
    let logs = world.desk.path("other/state/logs");
    let log = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap();
    let seen = || std::fs::read_to_string(log.path().join("checkpoint")).unwrap();
    let before = seen();
    world.json("olga", "party suspend south --yes");
    world.json("other", list);
    assert_ne!(seen(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_auditor_mirrors_and_verifies_the_log() {
    let world = World::start().await;
    let id = world.prepare();
    let desk = &world.desk;
    desk.write("package.json", PACKAGE);
    let deposit = format!("handover deposit {id} --seal server --package package.json");
    assert_eq!(
        world.json("north", &deposit)["envelopes"][0]["attributed"],
        "signed"
    );
    let first = world.json("kate", "log mirror mirror");
    let verified = desk.json("log verify --dir mirror --log-key log.vkey");
    assert_eq!(verified["root"], first["root"]);
    let search = format!("log search --supply-point {MPAN} --kind package.deposited");
    let found = world.json("kate", &search);
    assert_eq!(found[0]["disclosed"]["actor"], "urn:cos-escrow:party:north");
    let index = found[0]["index"].as_u64().unwrap();
    let shown = world.json("kate", &format!("log show {index}"));
    assert_eq!(shown["kind"], "package.deposited");
    let beyond = world.run("kate", "log show 4711");
    assert_eq!(beyond.code, 3, "{beyond:?}");
    let hint = "hint: `cos-escrow log checkpoint` shows its size; the first entry is 0\n";
    assert!(beyond.stderr.ends_with(hint), "{beyond:?}");
    world.json("kate", "log verify");
    let second = world.json("kate", "log mirror mirror");
    assert!(second["size"].as_u64() > first["size"].as_u64());
    assert_eq!(world.run("north", "log mirror other").code, 4);
    assert!(!desk.path("other/checkpoint").exists());

    let listed = world.json("kate", "party list");
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let keys = world.json("north", "key list south");
    assert_eq!(keys[0]["statement"], "verified");
    let key = keys[0]["key_id"].as_str().unwrap();
    world.json("south", &format!("key retire {key} --yes"));
    // Nothing brings it back, nor is a key published for longer than it was.
    for (who, days) in [("south", 30), ("north", 40)] {
        let key = world.json(who, "key list")[0]["key_id"].clone();
        let file = format!("{who}/keys/{}.key", key.as_str().unwrap());
        let again = world.run(who, &format!("key publish {file} --days {days}"));
        assert_eq!(again.code, 4, "{again:?}");
        assert!(again.stderr.contains("successor"), "{again:?}");
    }
    let keys = world.json("south", "key list");
    assert_eq!(
        (&keys[0]["active"], &keys[0]["held"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        world
            .json("north", "key list escrow")
            .as_array()
            .unwrap()
            .len(),
        3
    );
    world.json("olga", "party suspend other --yes");
    assert_eq!(
        world.json("olga", "party show other")["status"],
        "suspended"
    );
}
