//! Registered suppliers say what meter hangs at their supply points, before any switch is in sight.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::allowance::Use;
use super::ledger::{Act, Ledger};
use super::sequencer::{Answer, Command, Verdict};
use super::{Caller, Escrow, Failure, Shared};
use crate::store::{Meter, Needs};
use crate::types::{Code, MeterSerial, SupplyPoint, SupplyStartDate};

/// What a registered supplier says of its meter.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeterStatement {
    /// Whether it works as a smart or advanced meter.
    pub smart: bool,
    /// Its class, as the industry codes it.
    #[schema(example = "S1")]
    pub class: Option<String>,
    /// Its serial.
    #[schema(value_type = String, example = "E19B762798")]
    pub serial: MeterSerial,
    /// Who runs the head end that talks to it.
    pub head_end_manager: Option<String>,
    /// The date it was installed.
    #[schema(value_type = Option<String>, example = "2019-11-28")]
    pub installed: Option<SupplyStartDate>,
    /// From when this holds, today at the latest; from today if not given.
    #[schema(value_type = Option<String>)]
    pub effective_from: Option<SupplyStartDate>,
}

impl MeterStatement {
    /// Whether it says nothing that was not said before.
    fn repeats(&self, known: &Meter) -> bool {
        let said = (
            (self.smart, &self.class, &self.serial),
            (&self.head_end_manager, self.installed),
        );
        let had = (
            (known.smart, &known.class, &known.serial),
            (&known.head_end_manager, known.installed),
        );
        let from = self.effective_from;
        said == had && from.is_none_or(|from| from == known.effective_from)
    }
}

impl Escrow {
    /// Records what the registered supplier says of its meter. Saying the same again changes nothing.
    pub async fn put_meter(
        &self,
        caller: Caller,
        supply_point: SupplyPoint,
        statement: MeterStatement,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let short = |text: &Option<String>| text.as_ref().is_none_or(|t| t.len() <= MAX_TEXT);
        if !short(&statement.class) || !short(&statement.head_end_manager) {
            return Err(Failure::because(
                Code::MalformedRequest,
                "`class` and `head_end_manager` have at most 64 bytes",
            ));
        }
        let command = PutMeter {
            supply_point,
            statement,
            shared: Arc::clone(&self.shared),
        };
        self.limited(&party, self.submit(caller, None, command))
            .await
    }
}

struct PutMeter {
    supply_point: SupplyPoint,
    statement: MeterStatement,
    /// For how often the party has said something else.
    shared: Arc<Shared>,
}

impl Command for PutMeter {
    fn needs(&self, needs: &mut Needs) {
        needs.guarded.insert(self.supply_point.clone());
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let party = &caller.identity.id;
        if ledger
            .registered_party(&self.supply_point, ledger.now)
            .as_ref()
            != Some(party)
        {
            // The same for a supply point that nobody knows and one that is another supplier's.
            return Verdict::Refused(Failure::refused(Code::NotFound));
        }
        let Ok(today) = SupplyStartDate::containing(ledger.now) else {
            return Verdict::Refused(Failure::refused(Code::ClockBack));
        };
        let effective_from = self.statement.effective_from.unwrap_or(today);
        if effective_from > today {
            return Verdict::Refused(Failure::because(
                Code::MalformedRequest,
                "`effective_from` lies in the future: state a meter when it is there",
            ));
        }
        let point = ledger.point(&self.supply_point);
        let version = point.meter_versions + 1;
        // What held before the meter of today is history.
        let known = point.meter.as_ref();
        let in_force = known.is_none_or(|known| known.effective_from <= effective_from);
        if let Some(known) = known.filter(|known| known.recorded_by == *party) {
            if self.statement.repeats(known) {
                return answered(known, true);
            }
            // A meter is not exchanged twice a day; who says so, or tells of the past, uses up what it may repeat.
            let lately = ledger.now.since(known.recorded_at) < A_DAY;
            let terms = &ledger.rules.terms;
            if (lately || !in_force)
                && let Err(spent) = self.shared.allow(Use::Repeat, party, terms)
            {
                return Verdict::Refused(spent);
            }
        }
        let said = self.statement.clone();
        let mut meter = Meter {
            supply_point: self.supply_point.clone(),
            version,
            recorded_at: ledger.now,
            recorded_by: party.clone(),
            smart: said.smart,
            class: said.class,
            serial: said.serial,
            head_end_manager: said.head_end_manager,
            installed: said.installed,
            effective_from,
            entry: None,
        };
        let entry = ledger.append(
            Act::of("meter.stated", caller)
                .about(&self.supply_point)
                .shows("version", meter.version)
                .hides("smart", meter.smart)
                .hides("class", json!(meter.class))
                .hides("serial", meter.serial.normalised())
                .hides("head_end_manager", json!(meter.head_end_manager)),
        );
        meter.entry = Some(entry);
        let answer = answered(&meter, in_force);
        let point = ledger.point_mut(&self.supply_point);
        point.meter_versions = meter.version;
        if in_force {
            point.meter = Some(meter.clone());
        }
        ledger.changes.meters.push(meter);
        answer
    }
}

fn answered(meter: &Meter, in_force: bool) -> Verdict {
    Verdict::Done {
        answer: json!({
            "supply_point": meter.supply_point, "version": meter.version, "in_force": in_force,
        }),
        entry: meter.entry,
    }
}

const A_DAY: Duration = Duration::from_secs(86_400);
/// Bytes of a class or a name.
const MAX_TEXT: usize = 64;
