//! What is said about a handover and refused is an entry, as refused deposits and releases are.

use super::ledger::{Act, Ledger};
use super::sequencer::{Command, Verdict};
use super::{Caller, Failure};
use crate::store::Needs;
use crate::types::{Code, HandoverId, SupplyPoint};

/// A use case about a handover whose refusals are recorded.
pub(super) struct Recorded<C> {
    /// What is said, as the entry names it.
    pub(super) act: &'static str,
    pub(super) supply_point: SupplyPoint,
    pub(super) handover: HandoverId,
    pub(super) command: C,
}

impl<C: Command> Command for Recorded<C> {
    fn needs(&self, needs: &mut Needs) {
        self.command.needs(needs);
    }

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        match self.command.decide(caller, ledger) {
            Verdict::Refused(failure) => Verdict::Refused(self.record(failure, caller, ledger)),
            decided => decided,
        }
    }
}

impl<C> Recorded<C> {
    /// Appends the entry, unless there is one, or the party is only told to wait, or is not to blame.
    fn record(&self, failure: Failure, caller: &Caller, ledger: &mut Ledger<'_>) -> Failure {
        let code = match failure.unrecorded() {
            None | Some(Code::AllowanceSpent) => return failure,
            Some(code) => code,
        };
        let act = Act::of("handover.refused", caller)
            .refused(code)
            .shows("act", self.act)
            .hides("handover", self.handover.to_string());
        let known = &ledger.point(&self.supply_point).handovers;
        let act = match known.iter().any(|h| h.id == self.handover) {
            true => {
                let outside = !ledger.has_part(&caller.identity.id, &self.supply_point);
                act.about(&self.supply_point).outside(outside)
            }
            // There is no such handover, hence no supply point that the entry could be about.
            false => act.hides("supply_point", serde_json::Value::Null),
        };
        ledger.append(act);
        failure.entered()
    }
}
