use std::collections::BTreeMap;

use crate::types::{KeyId, Mpid, PartyId, Role, Timestamp};

/// Who takes part, with which identifiers and keys: small, read whole, and kept until its epoch changes.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Grows with every change of the directory.
    pub epoch: u64,
    /// The parties.
    pub parties: BTreeMap<PartyId, Party>,
    /// Which party holds an MPID, from when until when.
    pub mpids: Vec<PartyMpid>,
    /// Sealing keys by party, by sequence.
    pub sealing_keys: BTreeMap<PartyId, Vec<SealingKey>>,
}

/// An organisation that takes part.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its id.
    pub id: PartyId,
    /// Its name for people.
    pub name: String,
    /// Whether it may act.
    pub status: PartyStatus,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Whether a party may act.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyStatus {
    /// It may.
    Live,
    /// An operator has suspended it.
    Suspended,
}

impl PartyStatus {
    /// The word in columns and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Suspended => "suspended",
        }
    }
}

/// One MPID in one role, held by one party for a time.
#[derive(Clone, Debug)]
pub struct PartyMpid {
    /// The identifier.
    pub mpid: Mpid,
    /// The role that it is held in.
    pub role: Role,
    /// Who holds it.
    pub party: PartyId,
    /// From when, inclusive.
    pub from_at: Timestamp,
    /// Until when, exclusive; open if none.
    pub until_at: Option<Timestamp>,
}

impl PartyMpid {
    fn holds_at(&self, at: Timestamp) -> bool {
        self.from_at <= at && self.until_at.is_none_or(|until| at < until)
    }
}

/// A public key that packages for a party are sealed to, as its signed statement has it.
#[derive(Clone, Debug)]
pub struct SealingKey {
    /// Whose key.
    pub party: PartyId,
    /// SHA-256 of the public key.
    pub key_id: KeyId,
    /// The KEM's number in the HPKE registry.
    pub kem: u16,
    /// The public key.
    pub public_key: Vec<u8>,
    /// Grows with each statement of the party.
    pub sequence: u64,
    /// The statement's validity.
    pub not_before: Timestamp,
    /// The statement's validity.
    pub not_after: Timestamp,
    /// When it may first be sealed to: later than its publication unless it is the party's first.
    pub active_at: Timestamp,
    /// When the party retired it.
    pub retired_at: Option<Timestamp>,
    /// The signed statement, as JSON.
    pub statement: String,
    /// The log entry that published it.
    pub entry: u64,
}

impl SealingKey {
    /// Whether packages may be sealed to it now.
    pub fn active_at(&self, now: Timestamp) -> bool {
        let from = self.not_before.max(self.active_at);
        from <= now && now < self.not_after && self.retired_at.is_none_or(|at| now < at)
    }
}

impl Directory {
    /// The party, if it takes part.
    pub fn party(&self, id: &PartyId) -> Option<&Party> {
        self.parties.get(id)
    }

    /// Whether the party takes part and is not suspended.
    pub fn is_live(&self, id: &PartyId) -> bool {
        self.party(id)
            .is_some_and(|party| party.status == PartyStatus::Live)
    }

    /// Who holds `mpid` in `role` at `at`.
    pub fn holder(&self, mpid: Mpid, role: Role, at: Timestamp) -> Option<&PartyId> {
        self.mpids
            .iter()
            .find(|held| held.mpid == mpid && held.role == role && held.holds_at(at))
            .map(|held| &held.party)
    }

    /// Whether `party` had come to hold `mpid` in `role` by `at`. That it was ended since, and from when, is no matter.
    pub fn had(&self, party: &PartyId, mpid: Mpid, role: Role, at: Timestamp) -> bool {
        self.mpids.iter().any(|held| {
            held.party == *party && held.mpid == mpid && held.role == role && held.from_at <= at
        })
    }

    /// The party's keys, oldest first.
    pub fn keys_of(&self, party: &PartyId) -> &[SealingKey] {
        self.sealing_keys.get(party).map_or(&[], Vec::as_slice)
    }

    /// The party's key of that id.
    pub fn key(&self, party: &PartyId, key_id: &KeyId) -> Option<&SealingKey> {
        self.keys_of(party).iter().find(|key| key.key_id == *key_id)
    }

    /// The newest key of the party that is active at `now`.
    pub fn active_key(&self, party: &PartyId, now: Timestamp) -> Option<&SealingKey> {
        self.keys_of(party)
            .iter()
            .rev()
            .find(|key| key.active_at(now))
    }
}
