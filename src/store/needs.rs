use std::collections::BTreeSet;

use crate::types::{EnvelopeId, RegistrationId, SupplyPoint};

/// What a batch must know before it can be decided; read in bulk, inside the transaction.
#[derive(Debug, Default)]
pub struct Needs {
    /// Supply points with all that hangs on them.
    pub supply_points: BTreeSet<SupplyPoint>,
    /// The same, where whoever asks must not learn from the work whether anybody is registered there.
    pub guarded: BTreeSet<SupplyPoint>,
    /// Idempotency keys, each with the text of the identity that chose it.
    pub idempotency: BTreeSet<(String, String)>,
    /// Whose chains of entries will grow: the text of an identity.
    pub actors: BTreeSet<String>,
    /// Events of registration sources that may have been seen before: source and event id.
    pub registration_events: BTreeSet<(String, String)>,
    /// Registrations of which it must be known where they are.
    pub registrations: BTreeSet<RegistrationId>,
    /// Envelope ids that may have been used before.
    pub envelopes: BTreeSet<EnvelopeId>,
    /// Scopes whose disclosure keys will be used.
    pub scopes: BTreeSet<String>,
}
