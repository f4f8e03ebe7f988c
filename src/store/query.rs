use super::{Maker, WrappedKey};
use crate::types::{EnvelopeId, HandoverId, KeyId, PartyId, SupplyPoint, Timestamp};

/// A stretch of a listing: rows after a cursor.
#[derive(Clone, Debug)]
pub struct Page<C> {
    /// Only rows behind this one.
    pub after: Option<C>,
    /// At most this many.
    pub limit: u32,
}

/// Which side of a handover a party is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The supplier that the customer leaves.
    Losing,
    /// The supplier that the customer joins.
    Gaining,
}

/// Which handovers a work list shows.
#[derive(Clone, Debug)]
pub struct HandoverFilter {
    /// Whose list.
    pub party: PartyId,
    /// On which side.
    pub side: Side,
    /// Only these states, if any.
    pub state: Option<String>,
    /// Only this supply point, if any.
    pub supply_point: Option<SupplyPoint>,
    /// Which stretch.
    pub page: Page<HandoverId>,
}

/// Which entries a search shows.
#[derive(Clone, Debug)]
pub struct EntryFilter {
    /// Only of this actor.
    pub party: Option<String>,
    /// Only of this supply point, as the keyed digest has it.
    pub subject: Option<[u8; 32]>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only refusals with this code.
    pub code: Option<String>,
    /// Only at or after this instant.
    pub from_at: Option<Timestamp>,
    /// Only before this instant.
    pub until_at: Option<Timestamp>,
    /// Which stretch, by index.
    pub page: Page<u64>,
}

/// An entry as stored.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Scope of the key that the disclosures are encrypted under.
    pub scope: String,
    /// The disclosures, encrypted; gone once erased.
    pub disclosures: Option<Vec<u8>>,
}

/// The parts of a stored envelope that are needed to release it.
#[derive(Debug)]
pub struct Sealed {
    /// The envelope's body as deposited.
    pub body: Vec<u8>,
    /// The data key.
    pub key: WrappedKey,
}

/// Names one stanza.
#[derive(Clone, Debug)]
pub struct StanzaAddress {
    /// Of which envelope.
    pub envelope: EnvelopeId,
    /// Sealed for whom.
    pub party: PartyId,
    /// To which key.
    pub key_id: KeyId,
    /// By whom.
    pub made_by: Maker,
}

/// A cosignature of a head, as it stands in a note.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredCosignature {
    /// The size of the log that was cosigned.
    pub size: u64,
    /// The signature line.
    pub line: String,
}
