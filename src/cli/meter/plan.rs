//! `meter plan`: what a takeover would send, step by step, keys redacted.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::head_end::Rotation;
use super::releases::{self, Loaded, SealingKeys, Source};
use crate::cli::config::{self, Settings};
use crate::cli::exit::Failure;
use crate::cli::output::{Output, Row};
use crate::meter::plan::plan;
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

/// The steps for one release.
pub fn steps(
    source: &Source,
    keys: &SealingKeys,
    rotation: &Rotation,
) -> Result<Vec<Step>, Failure> {
    let profiles = rotation.profiles()?;
    let meter = Loaded::read(&source.release, keys)?.meter(source, &profiles)?;
    let profile = profiles.get(&meter.profile).map(Arc::as_ref);
    let profile = profile.ok_or_else(|| Failure::failed("the profile was just chosen"))?;
    let planned = plan(&meter, profile, &rotation.settings());
    let step = |(number, action): (usize, &dyn std::fmt::Display)| Step {
        serial: meter.serial.clone(),
        supply_point: meter.supply_point.clone(),
        step: number,
        action: action.to_string(),
    };
    let numbered = (1..).zip(&planned);
    Ok(numbered
        .map(|(number, action)| step((number, action)))
        .collect())
}

/// Prints the plan of every release.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let settings = Settings::offline(&arguments.offline)?;
    let keys = SealingKeys::new(arguments.sealing_key.as_deref(), &settings.keys)?;
    let mut all = Vec::new();
    for source in arguments.releases.sources()? {
        all.extend(steps(&source?, &keys, &arguments.rotation)?);
    }
    output.rows(&all)
}
