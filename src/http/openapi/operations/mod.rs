//! All operations of the API, resource by resource.

mod handovers;
mod log;
mod parties;
mod supply_points;

use super::operation::Operation;
use crate::identity::Kind;
use crate::types::Code;

/// Every operation.
pub(super) fn all() -> Vec<Operation> {
    let resources = [
        handovers::handovers(),
        handovers::deposits(),
        handovers::endings(),
        supply_points::supply_points(),
        supply_points::registrations(),
        parties::parties(),
        parties::sealing_keys(),
        log::log(),
        log::service(),
    ];
    resources.into_iter().flatten().collect()
}

const PARTY: &[Kind] = &[Kind::Party];
/// How whatever makes an entry may be refused.
const OPERATING: &[Code] = &[Code::Fenced, Code::ClockBack];
/// The same, where a party makes it.
const WRITING: &[Code] = &[
    Code::PartyUnknown,
    Code::PartySuspended,
    Code::Fenced,
    Code::ClockBack,
];
/// How every release may be refused.
const RELEASING: &[Code] = &[
    Code::NotFound,
    Code::RateLimited,
    Code::AllowanceSpent,
    Code::NoPackage,
    Code::DepositorNotAllowed,
    Code::RegistrationStale,
    Code::BeforeWindow,
    Code::MeterMismatch,
    Code::RecipientKeyInactive,
    Code::SealedToOthers,
    Code::Quarantined,
    Code::ReadMismatch,
    Code::OnHold,
    Code::Forbidden,
];
