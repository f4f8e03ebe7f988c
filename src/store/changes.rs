use std::collections::BTreeMap;

use super::{
    Grant, Handover, Head, IdempotentAnswer, Meter, Party, PartyMpid, SealingKey, StanzaAddress,
    StoredEnvelope, WrappedKey,
};
use crate::handover::Registration;
use crate::types::{Digest, EnvelopeId, HandoverId, PartyId, Timestamp};

/// All that a batch changes, grouped as it is written: one statement a table.
#[derive(Debug, Default)]
pub struct Changes {
    /// Added or changed parties.
    pub parties: BTreeMap<PartyId, Party>,
    /// Added or ended MPIDs.
    pub mpids: Vec<PartyMpid>,
    /// Added or retired sealing keys.
    pub sealing_keys: Vec<SealingKey>,
    /// New versions of registrations.
    pub registrations: Vec<(Registration, Timestamp)>,
    /// Events now seen: source, event id and content.
    pub registration_events: Vec<(String, String, Digest)>,
    /// New statements about meters.
    pub meters: Vec<Meter>,
    /// Handovers as they now stand.
    pub handovers: BTreeMap<HandoverId, Handover>,
    /// New envelopes: facts, wrapped data key, body.
    pub envelopes: Vec<(StoredEnvelope, WrappedKey, Vec<u8>)>,
    /// Envelopes whose status changed.
    pub statuses: BTreeMap<EnvelopeId, StoredEnvelope>,
    /// Keys that are wrapped anew, whatever else becomes of their envelopes.
    pub rewrapped: Vec<(EnvelopeId, WrappedKey)>,
    /// Envelopes whose secrets are destroyed.
    pub erased: Vec<EnvelopeId>,
    /// New stanzas, encrypted under the record.
    pub stanzas: Vec<(StanzaAddress, Vec<u8>)>,
    /// New grants.
    pub grants: Vec<Grant>,
    /// Answers to remember.
    pub idempotency: Vec<((String, String), IdempotentAnswer)>,
    /// New entries of the log.
    pub entries: Vec<EntryRow>,
    /// Subtrees that the new entries completed, of the levels that are stored.
    pub nodes: Vec<NodeRow>,
    /// New disclosure keys by scope, wrapped.
    pub disclosure_keys: Vec<(String, Vec<u8>)>,
    /// Chains as they now stand.
    pub actors: BTreeMap<String, (u64, u64)>,
    /// The head before and after; equal if nothing was appended.
    pub head: Head,
}

impl Changes {
    /// Whether there is nothing to write, the head having been `before`.
    pub fn is_empty(&self, before: &Head) -> bool {
        let Self {
            parties,
            mpids,
            sealing_keys,
            registrations,
            registration_events,
            meters,
            handovers,
            envelopes,
            statuses,
            rewrapped,
            erased,
            stanzas,
            grants,
            idempotency,
            entries,
            nodes,
            disclosure_keys,
            actors,
            head,
        } = self;
        head == before
            && parties.is_empty()
            && mpids.is_empty()
            && sealing_keys.is_empty()
            && registrations.is_empty()
            && registration_events.is_empty()
            && meters.is_empty()
            && handovers.is_empty()
            && envelopes.is_empty()
            && statuses.is_empty()
            && rewrapped.is_empty()
            && erased.is_empty()
            && stanzas.is_empty()
            && grants.is_empty()
            && idempotency.is_empty()
            && entries.is_empty()
            && nodes.is_empty()
            && disclosure_keys.is_empty()
            && actors.is_empty()
    }
}

/// One entry of the log with what is searched by.
#[derive(Debug)]
pub struct EntryRow {
    /// Its index.
    pub index: u64,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// The leaf's hash.
    pub hash: [u8; 32],
    /// Scope of the key that its disclosures are encrypted under.
    pub scope: String,
    /// The encrypted disclosures.
    pub disclosures: Vec<u8>,
    /// When.
    pub at: Timestamp,
    /// What kind of entry.
    pub kind: String,
    /// Whose act it records.
    pub party: Option<String>,
    /// Keyed digest of the supply point.
    pub subject: Option<[u8; 32]>,
    /// The refusal code, if it records one.
    pub code: Option<&'static str>,
}

/// A complete subtree of a stored level.
#[derive(Clone, Copy, Debug)]
pub struct NodeRow {
    /// Its level: a multiple of eight.
    pub level: u8,
    /// Its index in the level.
    pub index: u64,
    /// Its hash.
    pub hash: [u8; 32],
}
