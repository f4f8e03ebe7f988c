//! `meter plan`: what a takeover would send, step by step, keys redacted.

use std::path::PathBuf;

use serde::Serialize;

use super::head_end::Rotation;
use super::releases::{self, Loaded, SealingKeys, Source, Unsigned};
use crate::cli::config::{self, Settings};
use crate::cli::connect::now;
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Row};
use crate::cli::takeover::{Readied, Voices};
use crate::cli::trust;
use crate::identity::Anchors;
use crate::meter::plan::plan;
use crate::meter::released::Way;
use crate::types::{MeterSerial, SupplyPoint};

/// Of what to show the plan.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    releases: releases::Chosen,
    /// Our sealing key; by default the one that fits from the folder for keys.
    #[arg(long, visible_alias = "key", value_name = "FILE")]
    sealing_key: Option<PathBuf>,
    #[command(flatten)]
    rotation: Rotation,
    /// Plan with packages that bear no depositor's signature, too, as `meter takeover --accept-unsigned` does.
    #[arg(long)]
    accept_unsigned: bool,
    #[command(flatten)]
    offline: config::Offline,
}

/// One step of one meter's takeover.
#[derive(Debug, Serialize)]
pub struct Step {
    /// The meter.
    pub serial: MeterSerial,
    /// Where it is.
    pub supply_point: SupplyPoint,
    /// The step's number, from 1.
    pub step: usize,
    /// What is sent.
    pub action: String,
}

impl Row for Step {
    const COLUMNS: &'static [&'static str] = &["serial", "supply_point", "step", "action"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.serial.to_string(),
            self.supply_point.to_string(),
            self.step.to_string(),
            self.action.clone(),
        ]
    }
}

/// The steps for one release: what is not used of it, the likeliest way to its meter, and the other ones.
pub fn steps(
    source: &Source,
    keys: &SealingKeys,
    rotation: &Rotation,
    trust: Option<(&Anchors, Unsigned)>,
) -> Result<Vec<Step>, Failure> {
    let profiles = rotation.profiles()?;
    let loaded = Loaded::read(&source.release, keys)?;
    let Readied {
        meter, left_out, ..
    } = match trust {
        None => loaded.ready(source, &profiles)?,
        Some((anchors, unsigned)) => {
            let verified = loaded.verified(anchors, unsigned)?;
            verified.ready(source, &profiles, &Voices::All)?.readied
        }
    };
    let Some((first, others)) = meter.ways.split_first() else {
        return Ok(Vec::new());
    };
    let profile = profiles.get(&first.profile);
    let profile = profile.ok_or_else(|| Failure::failed("the profile was just chosen"))?;
    let planned = plan(&meter, profile, &rotation.settings());
    let mut actions: Vec<_> = (left_out.iter())
        .map(|left| format!("LEAVE OUT {left}"))
        .collect();
    actions.push(format!("CONNECT to {}", place(first)));
    actions.extend(planned.iter().map(ToString::to_string));
    let another = |way| format!("OR, if that leads nowhere, the same at {}", place(way));
    actions.extend(others.iter().map(another));
    let step = |(step, action)| Step {
        serial: meter.serial.clone(),
        supply_point: meter.supply_point.clone(),
        step,
        action,
    };
    Ok((1..).zip(actions).map(step).collect())
}

fn place(way: &Way) -> String {
    let Way {
        address,
        generation,
        ..
    } = way;
    match &way.address_of {
        Some(party) => format!("{address} [as generation {generation} of `{party}` says]"),
        None => format!("{address} [with generation {generation}]"),
    }
}

/// Prints the plan of every release.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::offline(&arguments.offline)?;
    let keys = SealingKeys::new(arguments.sealing_key.as_deref(), &settings.keys)?;
    let anchors = match settings.has_trust() {
        true => Some(trust::anchors(&settings, now())?),
        false => {
            output.note("nobody's signature was verified; give `--roots` and `--lists`");
            None
        }
    };
    let unsigned = Unsigned::by_flag(arguments.accept_unsigned);
    let trust = anchors.as_ref().map(|anchors| (anchors, unsigned));
    let mut all = Vec::new();
    for source in arguments.releases.sources()? {
        all.extend(steps(&source?, &keys, &arguments.rotation, trust)?);
    }
    output.rows(&all)
}
