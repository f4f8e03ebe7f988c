//! Deposits, releases, and how a handover ends.

use super::{PARTY, RELEASING, WRITING};
use crate::http::openapi::operation::Operation;
use crate::service::HandoverQuery;
use crate::types::Code;

pub(super) fn handovers() -> Vec<Operation> {
    let new = |route, id, summary| Operation::new(route, "handovers", id, summary).for_kinds(PARTY);
    vec![
        new(
            ("get", "/v1/handovers"),
            "list_handovers",
            "The caller's handovers on one side",
        )
        .query::<HandoverQuery>()
        .answers(200, "HandoverPage", "A page of the work list."),
        new(
            ("get", "/v1/handovers/{id}"),
            "show_handover",
            "One handover of the caller's",
        )
        .answers(200, "Handover", "The handover.")
        .with_header("etag", "ETag")
        .refuses(&[Code::NotFound]),
        new(
            ("post", "/v1/handovers/{id}/release"),
            "release",
            "Release the package to the gaining supplier",
        )
        .idempotent()
        .takes("ReleaseRequest")
        .answers(
            200,
            "Released",
            "The release, recorded before it was handed out.",
        )
        .with_header("cache-control", "CacheControl")
        .refuses(WRITING)
        .refuses(RELEASING)
        .refuses(&[
            Code::NotRegisteredSupplier,
            Code::RegistrationNotSecured,
            Code::RegistrationWithdrawn,
            Code::RegistrationAnnulled,
            Code::AfterWindow,
        ]),
    ]
}

pub(super) fn deposits() -> Vec<Operation> {
    let new = |route, id, summary| {
        Operation::new(route, "handovers", id, summary)
            .for_kinds(PARTY)
            .idempotent()
            .takes("DepositBody")
            .answers(
                201,
                "Deposited",
                "Deposited: each envelope is known to open and is a generation.",
            )
            .refuses(WRITING)
            .refuses(DEPOSITING)
    };
    vec![
        new(
            ("post", "/v1/handovers/{id}/deposit"),
            "deposit",
            "Deposit a package for a handover",
        )
        .refuses(&[Code::NotFound]),
        new(
            ("post", "/v1/deposits"),
            "standing_deposit",
            "Deposit a package before any switch is known; the next handover is served by it",
        )
        .refuses(&[Code::DepositorNotAllowed]),
    ]
}

/// How a handover, and the question of its closing read, ends.
pub(super) fn endings() -> Vec<Operation> {
    let new = |route, id, summary| {
        Operation::new(route, "handovers", id, summary)
            .for_kinds(PARTY)
            .refuses(WRITING)
            .refuses(&[Code::NotFound, Code::NotGainingSupplier])
    };
    vec![
        new(
            ("post", "/v1/handovers/{id}/confirm"),
            "confirm",
            "Say how the takeover ended, by a signed confirmation",
        )
        .idempotent()
        .takes("SignedDocument")
        .answers(200, "Confirmed", "The confirmation is recorded.")
        .refuses(&[Code::SignatureInvalid, Code::StaleRequest])
        .refuses(&[Code::WrongState, Code::AllowanceSpent]),
        new(
            ("post", "/v1/handovers/{id}/reject"),
            "reject",
            "Say that the credentials do not open the meter",
        )
        .idempotent()
        .takes("RejectBody")
        .answers(200, "Rejected", "The losing supplier owes others.")
        .refuses(&[Code::WrongState]),
        new(
            ("post", "/v1/handovers/{id}/accept-read"),
            "accept_read",
            "Accept the losing supplier's closing read",
        )
        .maybe_idempotent()
        .answers(200, "ReadSettled", "Both suppliers use this read.")
        .refuses(&[Code::MalformedRequest, Code::NoPackage]),
        new(
            ("post", "/v1/handovers/{id}/dispute"),
            "dispute",
            "Dispute the closing read with another one",
        )
        .idempotent()
        .takes("DepositBody")
        .answers(200, "ReadSettled", "The other read is deposited.")
        .refuses(DEPOSITING)
        .refuses(&[Code::NoPackage]),
    ]
}

/// How a deposit may be refused.
const DEPOSITING: &[Code] = &[
    Code::TooLarge,
    Code::EnvelopeMalformed,
    Code::EnvelopeDoesNotOpen,
    Code::EnvelopeMismatch,
    Code::EnvelopeReused,
    Code::SignatureInvalid,
    Code::EscrowLeftOut,
    Code::StanzaForeign,
    Code::PackageInvalid,
    Code::ReadInvalid,
    Code::SealServerForbidden,
    Code::Forbidden,
];
