//! A service that lies, between a client and the true one: whoever holds the service can answer what it likes.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use cos_escrow::client::{Client, Request};
use cos_escrow::identity::{Identity, Subject, pem};
use cos_escrow::meter::journal::State;
use cos_escrow::tlog::leaf_hash;
use cos_escrow::types::{Clock as _, SystemClock};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::program::{CONFIG, DESK, json_of, run};
use super::world::{Suite, World};

/// Changes an answer to a request with this path.
type Lie = dyn Fn(&str, &mut Value) + Send + Sync;

/// Passes on what it is asked in the name of `upstream`, and answers as it likes.
struct Liar {
    port: u16,
    _task: JoinSet<()>,
}

impl Liar {
    async fn between(world: &World, upstream: Client, lie: Arc<Lie>) -> Self {
        let files = world.market.service_files();
        let chain = pem::certificates(&std::fs::read(files.chain).unwrap()).unwrap();
        let key = pem::key(&std::fs::read(files.key).unwrap()).unwrap();
        let key = PrivateKeyDer::try_from(key.expose().to_vec()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                let lie = Arc::clone(&lie);
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let serve =
                        service_fn(move |asked| answer(upstream.clone(), Arc::clone(&lie), asked));
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), serve).await;
                });
            }
        });
        Self { port, _task: task }
    }
}

async fn answer(
    upstream: Client,
    lie: Arc<Lie>,
    asked: hyper::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = asked.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let mut request = match parts.method {
        Method::POST => Request::post(path.clone(), body),
        _ => Request::get(path.clone()),
    };
    if let Some(key) = parts.headers.get("idempotency-key") {
        request = request.idempotent(key.to_str().unwrap());
    }
    let Ok(answer) = upstream.send(request).await else {
        let refused = Response::builder().status(500).body(Full::default());
        return Ok(refused.unwrap());
    };
    let body = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(mut json) => {
            lie(&path, &mut json);
            json.to_string().into()
        }
        Err(_) => answer.body,
    };
    let response = Response::builder().status(answer.status);
    Ok(response.body(Full::new(body)).unwrap())
}

/// Answers to requests that end so bear a receipt that it has given before, or none.
fn with_receipt_of_before(ending: &'static str, is_none: bool) -> Arc<Lie> {
    let before = Mutex::new(Value::Null);
    Arc::new(move |path: &str, answer: &mut Value| {
        let mut before = before.lock().unwrap();
        if path.ends_with(ending) {
            answer["receipt"] = match is_none {
                true => Value::Null,
                false => before.clone(),
            };
        } else if answer["receipt"].is_object() {
            *before = answer["receipt"].clone();
        }
    })
}

/// The configuration of the gaining supplier, with this port for the service.
fn configure(world: &World, port: u16) {
    let path = world.path("config.toml");
    if !path.exists() {
        world.write_configuration();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("url = ") {
        true => format!("url = \"https://localhost:{port}\"\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(path, lines.collect::<String>()).unwrap();
}

async fn take_over(world: &World, address: &str) -> Output {
    let what = ["meter", "takeover", "--release", "0.release"];
    let how = ["--address", address, "-o", "json"];
    run(world, &[&what[..], &how, &CONFIG, &DESK].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_meter_is_told_keys_whose_deposit_the_log_does_not_record() {
    for is_none in [true, false] {
        let world = World::with_released(1).await;
        let wall = world.meters(&[]).await.remove(0);
        let lie = with_receipt_of_before("/deposit", is_none);
        let liar = Liar::between(&world, world.gainer().client.clone(), lie).await;
        configure(&world, liar.port);
        let output = take_over(&world, &wall.meter.label.address.to_string()).await;
        let endings = json_of(&output);
        assert_eq!(output.status.code(), Some(5), "{endings}");
        assert_eq!(endings[0]["outcome"], "tampered", "{endings}");
        assert!(wall.is_untouched());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ending_that_the_log_does_not_record_is_not_over() {
    let world = World::with(&[Suite::Dlms]).await;
    let wall = world.meters(&[]).await.remove(0);
    let lie = with_receipt_of_before("/confirm", false);
    let liar = Liar::between(&world, world.gainer().client.clone(), lie).await;
    configure(&world, liar.port);
    let output = take_over(&world, &wall.meter.label.address.to_string()).await;
    assert_eq!(json_of(&output)[0]["outcome"], "tampered");
    let desk = world.desk().await;
    let record = desk.journal.record(wall.handover).await.unwrap();
    assert_eq!(record.progress.state, State::Verified);
    drop(desk);

    configure(&world, world.market.instance.address.port());
    let resume = ["meter", "resume", "-o", "json"];
    let output = run(&world, &[&resume, &CONFIG[..], &DESK].concat()).await;
    assert_eq!(json_of(&output)[0]["outcome"], "rotated");
}

/// The configuration of an auditor who asks at this port.
fn audit(world: &World, port: u16) -> PathBuf {
    let identity: Identity = "urn:cos-escrow:auditor:kate".parse().unwrap();
    let subject = Subject::Client(identity);
    let name = format!("kate-{port}");
    let files = world
        .market
        .write_identity(&subject, &name, SystemClock.now());
    let config = format!(
        "url = \"https://localhost:{port}\"\ncert = {:?}\nroots = {:?}\nlists = {:?}\nlog_key = \"{}\"\nstate_dir = \"{name}\"\n",
        files.unwrap().0,
        world.market.root_file(),
        world.market.root_file().with_file_name("lists.pem"),
        world.market.instance.escrow.log_key(),
    );
    let path = world.path(&format!("{name}.toml"));
    std::fs::write(&path, config).unwrap();
    path
}

/// What the log's newest release looks like to an auditor who asks a liar for it.
async fn asked(world: &World, lie: Arc<Lie>, what: &[&str]) -> Output {
    let upstream = world.market.auditor.clone();
    let liar = Liar::between(world, upstream, lie).await;
    let config = audit(world, liar.port);
    let config = config.to_str().unwrap();
    run(world, &[what, &["--config", config]].concat()).await
}

fn each_entry(answer: &mut Value, change: impl Fn(&mut Value)) {
    if answer["leaf"].is_object() {
        change(answer);
    }
    for entry in answer["entries"].as_array_mut().into_iter().flatten() {
        change(entry);
    }
}

const SEARCH: [&str; 6] = ["log", "search", "--kind", "release.granted", "-o", "json"];

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_believes_nothing_that_the_log_does_not_hold() {
    let world = World::with_released(1).await;
    let gainer = format!("urn:cos-escrow:party:{}", world.gainer().party);
    let show = |path: &str| path.starts_with("/v1/log/entries");

    // A word that no digest binds is not even looked at.
    let word: Arc<Lie> = Arc::new(move |path: &str, answer: &mut Value| {
        if show(path) {
            each_entry(answer, |entry| {
                entry["disclosed"]["actor"] = json!("urn:cos-escrow:party:nobody");
                entry["kind"] = json!("release.refused");
            });
        }
    });
    let output = asked(&world, word, &SEARCH).await;
    let found = json_of(&output);
    assert_eq!(found[0]["disclosed"]["actor"], gainer.as_str(), "{found}");
    assert_eq!(found[0]["kind"], "release.granted");
    let index = found[0]["index"].to_string();

    let disclosure: Arc<Lie> = Arc::new(move |path: &str, answer: &mut Value| {
        if show(path) {
            each_entry(answer, |entry| {
                let first = &mut entry["disclosures"][0];
                *first = json!(format!("{}A", first.as_str().unwrap()));
            });
        }
    });
    // Another leaf, with the hash that it has.
    let leaf: Arc<Lie> = Arc::new(move |path: &str, answer: &mut Value| {
        if show(path) {
            each_entry(answer, |entry| {
                entry["leaf"]["at"] = json!("2020-01-01T00:00:00.000Z");
                let bytes = serde_json_canonicalizer::to_vec(&entry["leaf"]).unwrap();
                entry["leaf_hash"] = json!(leaf_hash(&bytes).to_string());
            });
        }
    });
    let show_one = ["log", "show", &index, "-o", "json"];
    for lie in [disclosure, leaf] {
        for what in [&SEARCH[..], &show_one] {
            let output = asked(&world, Arc::clone(&lie), what).await;
            let talk = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(5), "{what:?}: {talk}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_opens_evidence_against_the_leaf_that_it_read() {
    let world = World::with_released(1).await;
    let monitor = ["log", "monitor", "--once", "--memory", "memory.json"];
    let honest = asked(&world, Arc::new(|_: &str, _: &mut Value| {}), &monitor).await;
    assert_eq!(honest.status.code(), Some(0), "{honest:?}");
    std::fs::remove_file(world.path("memory.json")).unwrap();
    let swapped: Arc<Lie> = Arc::new(|path: &str, answer: &mut Value| {
        if path.starts_with("/v1/log/entries") {
            each_entry(answer, |entry| {
                let disclosures = entry["disclosures"].as_array_mut().unwrap();
                disclosures[0] = json!("WyJhIiwiYWN0b3IiLCJ4Il0");
            });
        }
    });
    let told = asked(&world, swapped, &monitor).await;
    assert_eq!(told.status.code(), Some(5), "{told:?}");
    let lines = String::from_utf8_lossy(&told.stdout);
    assert!(lines.contains("is not its own"), "{lines}");
}
