//! Suppliers at work: whole handovers, one after the other, by clients that try again until they have an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cos_escrow::cli::demo::events::Event;
use cos_escrow::client::{Client, ClientError, Request};
use cos_escrow::envelope::{Kem, Release, SealingPublicKey};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::live::{Acknowledged, Live, Service, What, confirmation, deposit_of, now, release_of};

/// The three clients of a worker, connected to one process of the service.
#[derive(Clone)]
struct Connected {
    loser: Client,
    gainer: Client,
    registrar: Client,
}

/// Workers under way.
pub(super) struct Load {
    workers: JoinSet<()>,
    services: Vec<watch::Sender<Option<Connected>>>,
    live: Arc<Live>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Load {
    /// Starts this many workers; each has supply points of its own.
    pub(super) async fn start(live: &Arc<Live>, service: &Service, workers: u64) -> Self {
        let loser = live.client(&live.loser.tls, service);
        let escrow = loser.escrow_key(Kem::XWing).await.unwrap().key;
        let mut load = Self {
            workers: JoinSet::new(),
            services: Vec::new(),
            live: Arc::clone(live),
            stop: Arc::default(),
            acknowledged: Arc::default(),
        };
        for number in 0..workers {
            let (sender, service) = watch::channel(None);
            load.services.push(sender);
            let worker = Worker {
                live: Arc::clone(live),
                service,
                escrow: escrow.clone(),
                stop: Arc::clone(&load.stop),
                acknowledged: Arc::clone(&load.acknowledged),
            };
            load.workers.spawn(worker.run(number * PER_WORKER));
        }
        load.connect(service);
        load
    }

    /// Points everybody at a new process. Their clients remember the log of the one before.
    pub(super) fn connect(&self, service: &Service) {
        for (number, sender) in self.services.iter().enumerate() {
            let live = &self.live;
            let registrar = live.issue("urn:cos-escrow:registrar:live", now());
            let pinned =
                |who, issued| live.pinned(issued, service, &format!("pinned-{who}-{number}"));
            sender.send_replace(Some(Connected {
                loser: pinned("loser", &live.loser.tls),
                gainer: pinned("gainer", &live.gainer.tls),
                registrar: live.client(&registrar, service),
            }));
        }
    }

    /// What was acknowledged since this was asked last.
    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }

    /// Lets everybody finish the handover they are at. Returns what was acknowledged since this was asked last.
    pub(super) async fn finish(mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers);
        workers.join_all().await;
        self.acknowledged()
    }
}

struct Worker {
    live: Arc<Live>,
    service: watch::Receiver<Option<Connected>>,
    escrow: SealingPublicKey,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Worker {
    async fn run(mut self, first: u64) {
        for chunk in (first..).step_by(CHUNK) {
            let numbers = (chunk..).take(CHUNK);
            let events: Vec<_> = numbers.map(|number| self.live.event(number)).collect();
            self.register(&events).await;
            for event in &events {
                self.hand_over(event).await;
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
        unreachable!("there are always more supply points")
    }

    async fn register(&mut self, events: &[Event]) {
        loop {
            let registrar = self.connected().await.registrar;
            match self.live.register(&registrar, events).await {
                Ok(()) => return,
                Err(error) => may_be_lost(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn hand_over(&mut self, event: &Event) {
        let deposit = deposit_of(event, &self.live.loser, &self.escrow);
        self.until_done(What::Deposit, event, deposit).await;
        let answer = self
            .until_done(What::Release, event, release_of(event))
            .await;
        self.opens(event, &answer);
        let confirm = confirmation(event, &self.live.gainer);
        self.until_done(What::Confirmation, event, confirm).await;
        self.log_continues().await;
    }

    /// Whatever was seen of the log before, by whichever process, is part of it.
    async fn log_continues(&mut self) {
        let Connected { loser, gainer, .. } = self.connected().await;
        for client in [loser, gainer] {
            if let Err(error) = client.verified_checkpoint().await {
                may_be_lost(&error);
            }
        }
    }

    /// The release is what was deposited.
    fn opens(&self, event: &Event, answer: &Value) {
        let release = BASE64_STANDARD.decode(answer["release"].as_str().unwrap());
        let release = Release::decode(&release.unwrap()).unwrap();
        let package = event.package().unwrap().to_json();
        let mut opened = release.open(&self.live.gainer.sealing);
        assert!(opened.any(|(_, content)| content.unwrap().expose() == package.expose()));
    }

    /// Sends the same request until it is answered, across deaths of the service.
    async fn until_done(&mut self, what: What, event: &Event, request: Request) -> Value {
        loop {
            let connected = self.connected().await;
            let client = match what {
                What::Deposit => &connected.loser,
                What::Release | What::Confirmation => &connected.gainer,
            };
            match client.send(request.clone()).await {
                Ok(answer) => {
                    let answer: Value = answer.json().unwrap();
                    // From here on it must never be lost.
                    let receipt = Acknowledged::read(what, event, &answer);
                    self.acknowledged.lock().unwrap().push(receipt);
                    return answer;
                }
                Err(error) => may_be_lost(&error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connected(&mut self) -> Connected {
        let connected = self.service.wait_for(Option::is_some).await.unwrap();
        connected.clone().expect("it was waited for")
    }
}

/// A killed service loses answers, and must do nothing else.
fn may_be_lost(error: &ClientError) {
    let is_lost = matches!(
        error,
        ClientError::Unreachable(_) | ClientError::Indeterminate(_)
    );
    assert!(is_lost, "{error}");
}

/// Supply points of each worker.
const PER_WORKER: u64 = 10_000_000;
/// Handovers that are registered together.
const CHUNK: usize = 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
