//! The directory and its sealing keys.

use super::{OPERATING, PARTY, WRITING};
use crate::http::openapi::operation::Operation;
use crate::http::parties::PartyPage;
use crate::identity::Kind;
use crate::types::Code;

pub(super) fn parties() -> Vec<Operation> {
    let new =
        |route, id, summary| Operation::new(route, "parties", id, summary).for_kinds(OPERATOR);
    let changed = |operation: Operation, schema| {
        operation
            .answers(200, schema, "The change is recorded.")
            .refuses(OPERATING)
            .refuses(&[Code::NotFound, Code::PartyUnknown])
    };
    vec![
        Operation::new(
            ("get", "/v1/parties"),
            "parties",
            "list_parties",
            "Who takes part",
        )
        .for_kinds(&[Kind::Operator, Kind::Auditor])
        .query::<PartyPage>()
        .answers(200, "PartyPage", "A page of the directory.")
        .refuses(&[Code::NotFound]),
        new(("post", "/v1/parties"), "add_party", "Add a party")
            .maybe_idempotent()
            .takes("NewParty")
            .answers(201, "PartyChanged", "The party takes part.")
            .refuses(OPERATING)
            .refuses(&[Code::WrongState]),
        changed(
            new(
                ("post", "/v1/parties/{id}/suspend"),
                "suspend_party",
                "Stop a party at once",
            ),
            "PartyChanged",
        ),
        changed(
            new(
                ("post", "/v1/parties/{id}/resume"),
                "resume_party",
                "Let a party act again",
            ),
            "PartyChanged",
        ),
        changed(
            new(
                ("post", "/v1/parties/{id}/mpids"),
                "add_mpid",
                "Give a party an MPID",
            )
            .takes("MpidChange"),
            "MpidChanged",
        )
        .refuses(&[Code::WrongState]),
        changed(
            new(
                ("post", "/v1/parties/{id}/mpids/end"),
                "end_mpid",
                "End a party's hold of an MPID",
            )
            .takes("MpidChange"),
            "MpidChanged",
        )
        .refuses(&[Code::WrongState]),
    ]
}

pub(super) fn sealing_keys() -> Vec<Operation> {
    let new = |route, id, summary| Operation::new(route, "parties", id, summary);
    vec![
        new(
            ("put", "/v1/parties/me/sealing-keys"),
            "offer_sealing_key",
            "Offer a sealing key: first to be challenged, then with the proof of possession",
        )
        .for_kinds(PARTY)
        .takes("KeyOfferBody")
        .answers(200, "KeyPublished", "The key is published.")
        .answers(
            202,
            "Challenge",
            "Open the challenge and send the offer again with what it sealed.",
        )
        .refuses(WRITING)
        .refuses(&[
            Code::StatementInvalid,
            Code::SignatureInvalid,
            Code::PossessionFailed,
            Code::StatementSequence,
        ]),
        new(
            ("post", "/v1/parties/me/sealing-keys/retire"),
            "retire_sealing_key",
            "Retire a sealing key, by a signed statement",
        )
        .for_kinds(PARTY)
        .takes("SignedDocument")
        .answers(200, "KeyRetired", "Nothing is sealed to the key any more.")
        .refuses(WRITING)
        .refuses(&[
            Code::NotFound,
            Code::StatementInvalid,
            Code::SignatureInvalid,
        ]),
        new(
            ("get", "/v1/parties/{id}/sealing-keys"),
            "list_sealing_keys",
            "The keys of a party, or of `escrow`, each with its proof",
        )
        .answers(200, "SealingKeys", "Newest first.")
        .refuses(&[Code::NotFound, Code::Fenced]),
    ]
}

const OPERATOR: &[Kind] = &[Kind::Operator];
