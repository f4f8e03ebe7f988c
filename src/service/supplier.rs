//! Who supplies a supply point, gains it, or has a part in a handover: by the registrations and the directory as they
//! stand when it is asked.

use super::ledger::Ledger;
use crate::handover::{Registration, standing, supplier_at};
use crate::policy::Standing;
use crate::store::{Directory, Handover, SupplyPointFacts};
use crate::types::{PartyId, Role, SupplyPoint, Timestamp};

/// The registration behind a handover.
pub(super) fn registration_of<'p>(
    point: &'p SupplyPointFacts,
    handover: &Handover,
) -> Option<&'p Registration> {
    point
        .registrations
        .iter()
        .find(|r| r.registration_id == handover.registration_id)
}

/// Who holds the registration's MPID: from its start on, or now if it has started.
pub(super) fn holder<'d>(
    directory: &'d Directory,
    registration: &Registration,
    now: Timestamp,
) -> Option<&'d PartyId> {
    let at = registration.effective_at()?.max(now);
    directory.holder(registration.supplier?, Role::Supplier, at)
}

/// How a registration stands, in the words of the policies.
pub(super) fn stands(
    all: &[Registration],
    registration: &Registration,
    now: Timestamp,
) -> Standing {
    use crate::handover::Standing as Stands;
    match standing(all, registration, now) {
        Stands::Secured => Standing::Secured,
        Stands::NotSecured => Standing::NotSecured,
        Stands::Withdrawn => Standing::Withdrawn,
        Stands::Annulled => Standing::Annulled,
        Stands::Superseded => Standing::Superseded,
    }
}

/// Who gains the supply point by a handover. What the handover itself says is as old as the last event about it: an
/// MPID may have changed hands since.
pub(super) fn gainer<'d>(
    directory: &'d Directory,
    point: &SupplyPointFacts,
    handover: &Handover,
    now: Timestamp,
) -> Option<&'d PartyId> {
    holder(directory, registration_of(point, handover)?, now)
}

/// Whether a party is one of the two suppliers of a handover, or was the gaining one at its last event.
pub(super) fn is_involved(
    party: &PartyId,
    directory: &Directory,
    point: &SupplyPointFacts,
    handover: &Handover,
    now: Timestamp,
) -> bool {
    handover.involves(party) || gainer(directory, point, handover, now) == Some(party)
}

impl Ledger<'_> {
    /// Who is registered at a supply point at an instant, if it takes part.
    pub(super) fn registered_party(
        &self,
        supply_point: &SupplyPoint,
        at: Timestamp,
    ) -> Option<PartyId> {
        let point = self.point(supply_point);
        let registration = supplier_at(&point.registrations, at)?;
        holder(&self.facts.directory, registration, at).cloned()
    }

    /// Whether a party gains a supply point by a handover.
    pub(super) fn gains(&self, party: &PartyId, handover: &Handover) -> bool {
        let point = self.point(&handover.supply_point);
        gainer(&self.facts.directory, point, handover, self.now) == Some(party)
    }

    /// Whether a party has a part in a handover.
    pub(super) fn is_involved(&self, party: &PartyId, handover: &Handover) -> bool {
        let point = self.point(&handover.supply_point);
        is_involved(party, &self.facts.directory, point, handover, self.now)
    }

    /// Whether the party supplies the point or did, is about to, or holds or deposited keys of it. Whoever does not is an
    /// outsider there.
    pub(super) fn has_part(&self, party: &PartyId, supply_point: &SupplyPoint) -> bool {
        let point = self.point(supply_point);
        point.handovers.iter().any(|h| self.is_involved(party, h))
            || point.grants.iter().any(|grant| grant.party == *party)
            || point.envelopes.iter().any(|e| e.depositor == *party)
            || self.registered_party(supply_point, self.now).as_ref() == Some(party)
    }
}
