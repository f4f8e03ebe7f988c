//! The load generator: a closed loop over keep-alive connections, or a new connection for each request.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::plan::{Plan, Planned};
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::client::{Client, Endpoint, Request};
use crate::tls::{Material, PostQuantum, client_config};
use crate::types::SystemClock;

/// Sends the requests of a plan. Started by `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to send.
    #[arg(long)]
    plan: PathBuf,
    /// Over how many connections at the same time.
    #[arg(long)]
    connections: usize,
}

/// What was measured.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Runs the load and prints what was measured, as JSON.
pub async fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let text = std::fs::read(&arguments.plan).map_err(Failure::failed)?;
    let plan: Plan = serde_json::from_slice(&text).map_err(Failure::failed)?;
    let material = Material::load(&plan.files).map_err(Failure::failed)?;
    let tls = client_config(&material, PostQuantum::Preferred, Arc::new(SystemClock))
        .map_err(Failure::failed)?;
    let endpoint = Endpoint {
        host: "localhost".to_owned(),
        port: plan.address.port(),
        tls: Arc::new(tls),
    };
    let plan = Arc::new(plan);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let workers: Vec<_> = (0..arguments.connections)
        .map(|_| tokio::spawn(work(endpoint.clone(), Arc::clone(&plan), Arc::clone(&next))))
        .collect();
    let mut millis = Vec::new();
    for worker in workers {
        millis.extend(worker.await.map_err(Failure::failed)??);
    }
    let seconds = began.elapsed().as_secs_f64();
    millis.sort_by(f64::total_cmp);
    output.json(&Measured {
        seconds,
        p50_ms: percentile(&millis, 50),
        p99_ms: percentile(&millis, 99),
    })
}

/// One connection's share; how long each request took, in milliseconds.
async fn work(
    endpoint: Endpoint,
    plan: Arc<Plan>,
    next: Arc<AtomicUsize>,
) -> Result<Vec<f64>, Failure> {
    let mut client = Client::new(endpoint.clone(), None);
    let mut millis = Vec::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(planned) = plan.requests.get(at) else {
            return Ok(millis);
        };
        let began = Instant::now();
        if plan.new_connections {
            client = Client::new(endpoint.clone(), None);
        }
        client.send(request(planned)).await?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
}

fn request(planned: &Planned) -> Request {
    if planned.body.is_empty() {
        return Request::get(planned.path.clone());
    }
    let request = Request::post(planned.path.clone(), planned.body.clone());
    match &planned.key {
        Some(key) => request.idempotent(key),
        None => request,
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}
