use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Directory, StoreError};
use crate::handover::{GenerationStatus, Registration, RegistrationVersion, State};
use crate::types::{
    Component, Digest, EnvelopeId, GrantId, HandoverId, KeyId, MeterSerial, Mpid, PartyId,
    RegistrationId, SupplyPoint, SupplyStartDate, Timestamp,
};

/// What a batch knows, as it stands inside the transaction. Deciding changes it in place, so that each request sees
/// what the ones before it in the batch did.
#[derive(Debug, Default)]
pub struct Facts {
    /// The end of the log.
    pub head: Head,
    /// Who takes part.
    pub directory: Arc<Directory>,
    /// The supply points that were asked for, known or not.
    pub supply_points: BTreeMap<SupplyPoint, SupplyPointFacts>,
    /// Answers given before under the idempotency keys that were asked for, each with the identity that chose it.
    pub idempotency: BTreeMap<(String, String), IdempotentAnswer>,
    /// Length and last entry of each actor's chain.
    pub actors: BTreeMap<String, (u64, u64)>,
    /// Those of the asked registration events that were seen before, with what they said.
    pub known_events: BTreeMap<(String, String), Digest>,
    /// Where those of the asked registrations are that are known.
    pub registered_at: BTreeMap<RegistrationId, SupplyPoint>,
    /// Those of the asked envelope ids that were used before.
    pub known_envelopes: BTreeSet<EnvelopeId>,
    /// The wrapped disclosure keys of the asked scopes.
    pub disclosure_keys: BTreeMap<String, Vec<u8>>,
}

/// The end of the log, and what else changes with every batch.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// How many entries there are.
    pub size: u64,
    /// Root of the tree over them.
    pub root: [u8; 32],
    /// The tree's frontier, as `tlog::Frontier` writes it.
    pub frontier: Vec<u8>,
    /// When the newest entry was made.
    pub last_at: Timestamp,
    /// Grows with every change of the directory.
    pub directory_epoch: u64,
    /// When the registration feed last said something.
    pub feed_at: Timestamp,
    /// Numbers of actors' entries up to this one may have been used in entries that hide whose they are.
    pub numbered_above: u64,
}

impl Head {
    /// Size and root.
    pub fn tree(&self) -> crate::tlog::TreeHead {
        crate::tlog::TreeHead {
            size: self.size,
            root: crate::tlog::Hash(self.root),
        }
    }
}

/// All that is known of one supply point.
#[derive(Clone, Debug, Default)]
pub struct SupplyPointFacts {
    /// The newest version of each registration.
    pub registrations: Vec<Registration>,
    /// Versions before the newest that deposits rest on, or may come to rest on.
    pub earlier: Vec<Registration>,
    /// Every change of supplier.
    pub handovers: Vec<Handover>,
    /// Every envelope that is not erased, without its body.
    pub envelopes: Vec<StoredEnvelope>,
    /// The greatest number that a generation of each component has had, erased ones too.
    pub numbered: BTreeMap<Component, u32>,
    /// Every grant.
    pub grants: Vec<Grant>,
    /// What is stated of the meter that is there now.
    pub meter: Option<Meter>,
    /// How many statements about its meters there have been.
    pub meter_versions: u64,
}

impl SupplyPointFacts {
    /// One version of a registration, newest or not, if a deposit rests on it.
    pub fn version(&self, name: &RegistrationVersion) -> Option<&Registration> {
        let mut known = self.registrations.iter().chain(&self.earlier);
        known.find(|registration| registration.name() == *name)
    }
}

/// One change of supplier at one supply point.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Handover {
    /// Its id, a function of supply point and registration.
    pub id: HandoverId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// The registration that causes it.
    pub registration_id: RegistrationId,
    /// From which date the gaining supplier supplies.
    pub supply_start_date: SupplyStartDate,
    /// The instant of that date.
    pub effective_at: Timestamp,
    /// Who supplies until then, if known.
    pub losing_party: Option<PartyId>,
    /// Its MPID.
    pub losing_mpid: Option<Mpid>,
    /// The registration by which it supplies until then, as it was known when it became the losing one.
    pub losing_registration: Option<RegistrationVersion>,
    /// Who supplies from then on, if it takes part.
    pub gaining_party: Option<PartyId>,
    /// Its MPID.
    pub gaining_mpid: Mpid,
    /// Where it stands.
    pub state: State,
    /// Grows with every change: the strong ETag.
    pub version: u64,
    /// When the registration was first heard of.
    pub opened_at: Timestamp,
    /// When the losing supplier's package came.
    pub deposited_at: Option<Timestamp>,
    /// When the package was first released.
    pub released_at: Option<Timestamp>,
    /// When the gaining supplier confirmed, and with what outcome.
    pub confirmed_at: Option<Timestamp>,
    /// The confirmed outcome.
    pub outcome: Option<String>,
    /// The generation that it was last confirmed that the meter holds.
    pub confirmed_generation: Option<u32>,
    /// The entry of the newest confirmation.
    pub confirmed_entry: Option<u64>,
    /// The entry of the newest rejection.
    pub rejected_entry: Option<u64>,
    /// From when what was retired is erased: fixed when a generation is first confirmed. None once that is done for a
    /// handover that has left the state by then.
    pub erased_after: Option<Timestamp>,
    /// Whether the closing read is agreed.
    pub read: ReadState,
    /// The entry that says so.
    pub read_entry: Option<u64>,
    /// Whether it gives back a supply point that was switched in error.
    pub erroneous_return: bool,
}

impl Handover {
    /// Whether `party` is one of the two suppliers.
    pub fn involves(&self, party: &PartyId) -> bool {
        self.losing_party.as_ref() == Some(party) || self.gaining_party.as_ref() == Some(party)
    }
}

/// Whether the two suppliers use the same closing read.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ReadState {
    /// Nobody has said anything about it.
    #[default]
    Open,
    /// The gaining supplier accepts the losing supplier's read.
    Accepted {
        /// Commitment of the read that both use.
        commitment: Digest,
    },
    /// The gaining supplier has deposited another read.
    Disputed {
        /// Commitment of the gaining supplier's read.
        commitment: Digest,
    },
}

/// Why a generation was deposited.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// By the registered supplier, with no switch in sight.
    Standing,
    /// By the losing supplier of a handover.
    Losing,
    /// By the gaining supplier, before it changes the meter.
    WriteAhead,
    /// By the gaining supplier, its own closing read.
    GainingRead,
    /// By a supplier that was granted the keys once, and neither supplies the point nor takes it over.
    Former,
}

/// The ground on which a deposit was admitted, as it was recorded then: what is recorded later does not touch it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// By this version of a registration the depositor supplied the point, or did until the switch of the handover.
    Registration(RegistrationVersion),
    /// The depositor had been granted the keys.
    Grant(GrantId),
}

/// Which key of an envelope the service holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The data key: it can be sealed to whoever is registered.
    DataKey,
    /// None that opens it: the depositor sealed it to the gaining supplier alone.
    Nothing,
}

/// Who has sealed a data key to somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// The depositor, along with its envelope.
    Depositor,
    /// The escrow, for a release.
    Escrow,
}

impl Maker {
    /// The word in columns.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Depositor => "depositor",
            Self::Escrow => "escrow",
        }
    }
}

/// How sure it is who deposited.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribution {
    /// Signed by the depositor's signing leaf.
    Signed,
    /// Only by the TLS connection it came through.
    MtlsOnly,
}

/// A data key as it is kept. Its epoch stands beside it and nowhere else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrappedKey {
    /// Which epoch's key wraps it.
    pub epoch: u32,
    /// The key, wrapped.
    pub bytes: Vec<u8>,
}

/// An envelope whose key is wrapped under an old epoch.
#[derive(Debug)]
pub struct Wrapped {
    /// The epoch, and where the row is.
    pub place: (u32, i64),
    /// The key.
    pub wrapped: Vec<u8>,
    /// The envelope; an error if its row no longer reads.
    pub envelope: Result<StoredEnvelope, StoreError>,
}

/// An envelope without its body.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StoredEnvelope {
    /// The depositor's random id.
    pub id: EnvelopeId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// What is in it.
    pub component: Component,
    /// Generation of the credentials at this supply point; reads are numbered too.
    pub generation: u32,
    /// Where it stands.
    pub status: GenerationStatus,
    /// For which handover it was deposited, if for one.
    pub handover: Option<HandoverId>,
    /// Who deposited it.
    pub depositor: PartyId,
    /// When.
    pub deposited_at: Timestamp,
    /// By what right.
    pub ground: Ground,
    /// Why.
    pub origin: Origin,
    /// How sure it is who did.
    pub attribution: Attribution,
    /// The meter's serial, normalised.
    pub serial: MeterSerial,
    /// Short names of the fields that a taker would miss.
    pub gaps: Vec<String>,
    /// Digest of the header.
    pub header: Digest,
    /// Digest of the body, as entries name it.
    pub body: Digest,
    /// Salted commitment of the closing read.
    pub read_commitment: Option<Digest>,
    /// Whether the service holds the data key; if not, only the recipients that the depositor chose can open it, and
    /// what is wrapped is a key for what is stored beside it.
    pub held: Held,
    /// Keys that the depositor itself sealed the data key to.
    pub sealed_to: Vec<(PartyId, KeyId)>,
}

impl StoredEnvelope {
    /// Whether its depositor sealed it to this key.
    pub fn is_sealed_to(&self, party: &PartyId, key: &KeyId) -> bool {
        let is_it = |(to, id): &(PartyId, KeyId)| to == party && id == key;
        self.sealed_to.iter().any(is_it)
    }

    /// Whose stanza for this key is released: the depositor's own where there is one, unless the escrow is to make
    /// another and can.
    pub fn maker(&self, party: &PartyId, key: &KeyId, reseal: bool) -> Maker {
        match self.is_sealed_to(party, key) && !(reseal && self.held == Held::DataKey) {
            true => Maker::Depositor,
            false => Maker::Escrow,
        }
    }
}

/// One permission to have a set of envelopes, sealed to one key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The handover it was given for.
    pub handover: HandoverId,
    /// Where.
    pub supply_point: SupplyPoint,
    /// To whom.
    pub party: PartyId,
    /// Sealed to this key.
    pub key_id: KeyId,
    /// When it was first given.
    pub granted_at: Timestamp,
    /// What it holds, in the order of the release.
    pub envelopes: Vec<GrantedEnvelope>,
    /// Whether the escrow has made the stanzas where it could, though the depositor had made some.
    pub resealed: bool,
    /// Digest of the release as handed out.
    pub release: Digest,
    /// The entry that records it.
    pub entry: u64,
}

/// One envelope of a grant, as it was when granted: a repeated delivery must be the same bytes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GrantedEnvelope {
    /// Which.
    pub id: EnvelopeId,
    /// What is in it.
    pub component: Component,
    /// Its generation.
    pub generation: u32,
    /// Its status then.
    pub status: GenerationStatus,
}

impl Grant {
    /// Whether it gave credentials, and not a closing read alone.
    pub fn has_credentials(&self) -> bool {
        let credentials = |granted: &GrantedEnvelope| granted.component == Component::Credentials;
        self.envelopes.iter().any(credentials)
    }

    /// Digest of what it holds: with handover, party and key it makes the grant unique.
    pub fn contents(&self) -> Digest {
        let ids = self.envelopes.iter();
        let mut pieces: Vec<&[u8]> = ids
            .map(|granted| granted.id.as_bytes().as_slice())
            .collect();
        if self.resealed {
            pieces.push(b"resealed");
        }
        Digest::of_pieces(&pieces)
    }
}

/// What a registered supplier says of its meter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Meter {
    /// Where.
    pub supply_point: SupplyPoint,
    /// Grows with each statement.
    pub version: u64,
    /// When it was said.
    pub recorded_at: Timestamp,
    /// By whom.
    pub recorded_by: PartyId,
    /// Whether it works as a smart or advanced meter.
    pub smart: bool,
    /// Its class, as the industry codes it.
    pub class: Option<String>,
    /// Its serial.
    pub serial: MeterSerial,
    /// Who runs the head end that talks to it.
    pub head_end_manager: Option<String>,
    /// The date it was installed.
    pub installed: Option<SupplyStartDate>,
    /// From when this holds. Of all statements the one that holds from the latest date is in force.
    pub effective_from: SupplyStartDate,
    /// The entry that records it.
    pub entry: Option<u64>,
}

/// What was answered under an idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotentAnswer {
    /// Digest of the request that was answered.
    pub request: Digest,
    /// When.
    pub created_at: Timestamp,
    /// The entry that recorded it.
    pub entry: u64,
    /// The answer without its receipt, as JSON.
    pub answer: String,
}
