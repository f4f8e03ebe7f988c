//! Operators add parties, give them MPIDs, suspend and resume them.

use serde_json::json;

use super::ledger::{Act, Ledger};
use super::sequencer::{Answer, Command, Idempotency, Verdict};
use super::{Caller, Escrow, Failure};
use crate::identity::Kind;
use crate::store::{Needs, Party, PartyMpid, PartyStatus};
use crate::types::{Code, Mpid, PartyId, Role, Timestamp};

/// A party to add.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewParty {
    /// Its id, as in its certificates.
    #[schema(value_type = String, example = "gainer")]
    pub id: PartyId,
    /// Its name for people.
    #[schema(example = "Gaining Energy Ltd")]
    pub name: String,
}

/// An MPID that a party holds from an instant on, or no longer.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MpidChange {
    /// The identifier.
    #[schema(value_type = String, example = "ZALF")]
    pub mpid: Mpid,
    /// The role that it is held in: `X` supplier, `M` meter operator.
    #[schema(value_type = String, example = "X")]
    pub role: Role,
    /// From when, or until when.
    #[schema(value_type = String, example = "2025-01-01T00:00:00.000Z")]
    pub at: Timestamp,
}

impl Escrow {
    /// Adds a party. Adding it again with the same name changes nothing.
    pub async fn add_party(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        party: NewParty,
    ) -> Result<Answer, Failure> {
        caller.require(Kind::Operator)?;
        if RESERVED.contains(&party.id.as_str()) {
            return Err(Failure::because(
                Code::MalformedRequest,
                "this id has a meaning of its own in paths",
            ));
        }
        if party.name.is_empty() || party.name.len() > MAX_NAME {
            return Err(Failure::because(
                Code::MalformedRequest,
                "`name` must have 1 to 200 bytes",
            ));
        }
        self.submit(caller, idempotency, AddParty { party }).await
    }

    /// Lets a party act, or stops it at once.
    pub async fn set_party_status(
        &self,
        caller: Caller,
        party: PartyId,
        status: PartyStatus,
    ) -> Result<Answer, Failure> {
        caller.require(Kind::Operator)?;
        self.submit(caller, None, SetStatus { party, status }).await
    }

    /// Gives a party an MPID.
    pub async fn add_mpid(
        &self,
        caller: Caller,
        party: PartyId,
        change: MpidChange,
    ) -> Result<Answer, Failure> {
        caller.require(Kind::Operator)?;
        self.submit(caller, None, AddMpid { party, change }).await
    }

    /// Ends a party's hold of an MPID.
    pub async fn end_mpid(
        &self,
        caller: Caller,
        party: PartyId,
        change: MpidChange,
    ) -> Result<Answer, Failure> {
        caller.require(Kind::Operator)?;
        self.submit(caller, None, EndMpid { party, change }).await
    }

    /// The parties behind a cursor, with the MPIDs that each holds or held. For operators and auditors.
    pub async fn parties(
        &self,
        caller: &Caller,
        after: Option<&PartyId>,
        limit: usize,
    ) -> Result<Vec<serde_json::Value>, Failure> {
        if !matches!(caller.identity.kind, Kind::Operator | Kind::Auditor) {
            return Err(Failure::refused(Code::WrongRole));
        }
        let directory = self.shared.store.directory().await?;
        let shown = directory
            .parties
            .values()
            .filter(|party| after.is_none_or(|after| party.id > *after))
            .take(limit)
            .map(|party| {
                let mpids: Vec<_> = directory
                    .mpids
                    .iter()
                    .filter(|held| held.party == party.id)
                    .map(|held| {
                        json!({
                            "mpid": held.mpid, "role": held.role,
                            "from": held.from_at, "until": held.until_at,
                        })
                    })
                    .collect();
                json!({
                    "id": party.id, "name": party.name, "status": party.status,
                    "created_at": party.created_at, "mpids": mpids,
                })
            });
        Ok(shown.collect())
    }
}

pub(super) struct AddParty {
    pub(super) party: NewParty,
}

impl Command for AddParty {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let NewParty { id, name } = &self.party;
        if let Some(known) = ledger.facts.directory.party(id) {
            if known.name == *name {
                return Verdict::Done {
                    answer: json!({ "id": id, "status": known.status }),
                    entry: None,
                };
            }
            return Verdict::Refused(Failure::because(
                Code::WrongState,
                "a party of this id has another name",
            ));
        }
        let party = Party {
            id: id.clone(),
            name: name.clone(),
            status: PartyStatus::Live,
            created_at: ledger.now,
        };
        let act = Act::of("party.added", caller)
            .shows("party", id.as_str())
            .hides("name", name.as_str());
        put_party(ledger, party, act)
    }
}

struct SetStatus {
    party: PartyId,
    status: PartyStatus,
}

impl Command for SetStatus {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let Some(known) = ledger.facts.directory.party(&self.party).cloned() else {
            return Verdict::Refused(Failure::refused(Code::PartyUnknown));
        };
        if known.status == self.status {
            return Verdict::Done {
                answer: json!({ "id": known.id, "status": known.status }),
                entry: None,
            };
        }
        let kind = match self.status {
            PartyStatus::Live => "party.resumed",
            PartyStatus::Suspended => "party.suspended",
        };
        let act = Act::of(kind, caller).shows("party", self.party.as_str());
        let party = Party {
            status: self.status,
            ..known
        };
        put_party(ledger, party, act)
    }
}

struct AddMpid {
    party: PartyId,
    change: MpidChange,
}

impl Command for AddMpid {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let MpidChange { mpid, role, at } = self.change;
        let directory = &ledger.facts.directory;
        if directory.party(&self.party).is_none() {
            return Verdict::Refused(Failure::refused(Code::PartyUnknown));
        }
        // INVARIANT: at no instant does an MPID belong to two parties, or it would be chance who gets packages.
        let mut live = directory.mpids.iter().filter(|held| {
            let ended = held.until_at.is_some_and(|until| until <= at);
            held.mpid == mpid && held.role == role && !ended
        });
        let held = match (live.next(), live.next()) {
            (None, _) => PartyMpid {
                mpid,
                role,
                party: self.party.clone(),
                from_at: at,
                until_at: None,
            },
            (Some(held), None) if held.party == self.party && held.from_at <= at => {
                if held.until_at.is_none() {
                    return Verdict::Done {
                        answer: json!({ "party": self.party, "mpid": mpid, "role": role }),
                        entry: None,
                    };
                }
                // Its end is taken back.
                PartyMpid {
                    until_at: None,
                    ..held.clone()
                }
            }
            _ => {
                return Verdict::Refused(Failure::because(
                    Code::WrongState,
                    "the MPID is held at that time or later",
                ));
            }
        };
        let act = Act::of("party.mpid_added", caller);
        put_mpid(ledger, held, act)
    }
}

struct EndMpid {
    party: PartyId,
    change: MpidChange,
}

impl Command for EndMpid {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let MpidChange { mpid, role, at } = self.change;
        let open = ledger.facts.directory.mpids.iter().find(|held| {
            held.mpid == mpid
                && held.role == role
                && held.party == self.party
                && held.until_at.is_none()
                && held.from_at < at
        });
        let Some(held) = open.cloned() else {
            return Verdict::Refused(Failure::because(
                Code::WrongState,
                "the party does not hold this MPID then",
            ));
        };
        let held = PartyMpid {
            until_at: Some(at),
            ..held
        };
        put_mpid(ledger, held, Act::of("party.mpid_ended", caller))
    }
}

fn put_party(ledger: &mut Ledger<'_>, party: Party, act: Act<'_>) -> Verdict {
    let entry = ledger.append(act);
    let answer = json!({ "id": party.id, "status": party.status });
    ledger.change_directory(|directory| {
        directory.parties.insert(party.id.clone(), party.clone());
    });
    ledger.changes.parties.insert(party.id.clone(), party);
    Verdict::Done {
        answer,
        entry: Some(entry),
    }
}

fn put_mpid(ledger: &mut Ledger<'_>, held: PartyMpid, act: Act<'_>) -> Verdict {
    let act = act
        .shows("party", held.party.as_str())
        .shows("mpid", held.mpid.as_str())
        .shows("role", held.role.as_str())
        .shows("from", held.from_at.to_string());
    let act = match held.until_at {
        Some(until) => act.shows("until", until.to_string()),
        None => act,
    };
    let entry = ledger.append(act);
    let answer = json!({ "party": held.party, "mpid": held.mpid, "role": held.role });
    ledger.change_directory(|directory| {
        directory.mpids.retain(|other| {
            (other.mpid, other.role, other.from_at) != (held.mpid, held.role, held.from_at)
        });
        directory.mpids.push(held.clone());
    });
    ledger.changes.mpids.push(held);
    Verdict::Done {
        answer,
        entry: Some(entry),
    }
}

/// What stands for the caller, and for the service, where the id of a party may stand.
const RESERVED: &[&str] = &["me", "escrow"];
/// Bytes of a party's name.
const MAX_NAME: usize = 200;
