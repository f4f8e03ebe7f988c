//! What simulated meters have seen in their time: for drills, which count what must never happen, and for measurements.

use serde::Serialize;

use crate::cli::exit::Failure;
use crate::meter::simulate::{Simulator, Traffic};
use crate::types::{Digest, Secret};

/// The life of one simulated meter.
#[derive(Serialize)]
struct Life<'a> {
    serial: &'a str,
    /// The names of its keys: GUEK, GBEK, GAK, KEK.
    keys: [Option<Digest>; 4],
    /// How many different keys it was ever given, in the same order.
    keys_seen: [usize; 4],
    /// How often a client protected two messages under one nonce.
    nonce_reuses: u32,
    logins: u32,
    /// Bad tags and failed proofs.
    failures: u32,
    transfers: u32,
    #[serde(flatten)]
    traffic: Traffic,
}

/// The lives of meters, each with its serial, as a JSON list.
pub(super) fn lives<'a>(
    meters: impl Iterator<Item = (&'a str, &'a Simulator)>,
) -> Result<Secret, Failure> {
    let life = |(serial, meter): (&'a str, &Simulator)| {
        let state = meter.state();
        Life {
            serial,
            keys: state.key_names(),
            keys_seen: state.keys_seen,
            nonce_reuses: state.nonce_reuses,
            logins: state.logins,
            failures: state.failures_in_all,
            transfers: state.transfers,
            traffic: meter.traffic(),
        }
    };
    let lives: Vec<_> = meters.map(life).collect();
    let json = serde_json::to_vec(&lives).map_err(Failure::failed)?;
    Ok(Secret::new(json))
}
