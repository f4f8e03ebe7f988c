//! Generations as they are kept: numbered, wrapped, bound to their rows, recorded.

use serde_json::{Value, json};

use super::Caller;
use super::ledger::{Act, Ledger};
use super::supplier::{registration_of, stands};
use crate::envelope::{Body, Context, Dek, Header, Kek, WrapContext};
use crate::handover::{Kept, Registration, Why, Word, supplier_at};
use crate::policy::Standing;
use crate::store::{
    Attribution, Grant, Ground, Handover, Held, Maker, Origin, StanzaAddress, StoredEnvelope,
    SupplyPointFacts, WrappedKey,
};
use crate::types::{Component, EnvelopeId, KeyId, PartyId, Timestamp};

/// An envelope that is known to open, before it has a generation.
pub(super) struct Prepared {
    pub(super) body: Body,
    /// Opens the body, or only protects what is stored beside it (`held`).
    pub(super) key: Dek,
    pub(super) held: Held,
    pub(super) stanzas: Vec<(PartyId, KeyId, Vec<u8>)>,
    pub(super) attribution: Attribution,
}

/// By what a deposit is admitted.
pub(super) struct Admitted {
    /// For which handover, if for one.
    pub(super) handover: Option<Handover>,
    pub(super) ground: Ground,
    pub(super) policies: Vec<String>,
}

/// Gives an envelope its generation, wraps its key under it, and records it.
pub(super) fn store(
    prepared: &Prepared,
    admitted: &Admitted,
    caller: &Caller,
    ledger: &mut Ledger<'_>,
) -> (Value, u64) {
    let bytes = prepared.body.encode();
    let envelope = generation(prepared, admitted, &caller.identity.id, ledger);
    let epoch = ledger.custody.current_epoch();
    let kek_id = epoch.number.to_string();
    let context = envelope.wrap_context(&kek_id);
    let key = WrappedKey {
        epoch: epoch.number,
        bytes: epoch.kek.wrap_dek(&context, &prepared.key, ledger.random),
    };
    store_stanzas(prepared, envelope.id, ledger);
    let index = ledger.append(
        Act::of("package.deposited", caller)
            .about(&envelope.supply_point)
            .shows("component", envelope.component.as_str())
            .shows("package", envelope.body.to_string())
            .shows("attributed", json!(envelope.attribution))
            .shows("policies", json!(admitted.policies))
            .shows("policy", ledger.rules.policy.digest().to_string())
            .hides("envelope", envelope.id.to_string())
            .hides("handover", json!(envelope.handover))
            .hides("generation", envelope.generation)
            .hides("status", envelope.status.as_str())
            .hides("meter", envelope.serial.normalised())
            .hides("ground", json!(envelope.ground))
            .hides("gaps", json!(envelope.gaps)),
    );
    let view = json!({
        "envelope": envelope.id,
        "component": envelope.component,
        "generation": envelope.generation,
        "status": envelope.status.as_str(),
        "attributed": envelope.attribution,
        "gaps": envelope.gaps,
        "entry": index,
    });
    ledger.put_envelope(envelope, key, bytes);
    (view, index)
}

/// The envelope with its generation.
fn generation(
    prepared: &Prepared,
    admitted: &Admitted,
    party: &PartyId,
    ledger: &Ledger<'_>,
) -> StoredEnvelope {
    let header = prepared.body.header();
    let handover = admitted.handover.as_ref();
    let origin = origin_of(header.component, party, admitted, ledger);
    let point = ledger.point(&header.supply_point);
    let known = point.generations(header.component);
    let word = Word {
        why: origin.why(),
        meter: &header.meter_serial,
        switch_at: point.switch_at(origin, handover, &admitted.ground),
    };
    let newest = point.numbered.get(&header.component).copied();
    let stanzas = prepared.stanzas.iter();
    StoredEnvelope {
        id: header.envelope_id,
        supply_point: header.supply_point.clone(),
        component: header.component,
        generation: newest.unwrap_or_default() + 1,
        status: crate::handover::admit(&known, word),
        handover: handover.map(|h| h.id),
        depositor: party.clone(),
        deposited_at: ledger.now,
        ground: admitted.ground.clone(),
        origin,
        attribution: prepared.attribution,
        serial: header.meter_serial.clone(),
        gaps: gaps(header),
        header: header.digest(),
        body: prepared.body.digest(),
        read_commitment: header.read_commitment,
        held: prepared.held,
        sealed_to: stanzas.map(|(to, key, _)| (to.clone(), *key)).collect(),
    }
}

/// As what an envelope comes in.
pub(super) fn origin_of(
    component: Component,
    party: &PartyId,
    admitted: &Admitted,
    ledger: &Ledger<'_>,
) -> Origin {
    let (handover, ground) = (admitted.handover.as_ref(), &admitted.ground);
    let gaining = handover.is_some_and(|h| ledger.gains(party, h));
    let former = is_former(party, handover, ground, ledger);
    match (handover, component) {
        (None, _) if former => Origin::Former,
        (None, _) => Origin::Standing,
        (Some(_), Component::Credentials) if former => Origin::Former,
        (Some(_), Component::Credentials) if gaining => Origin::WriteAhead,
        (Some(_), Component::Read) if gaining => Origin::GainingRead,
        (Some(_), _) => Origin::Losing,
    }
}

/// Whether a depositor neither supplies the point nor takes it over: it lost the point by a switch that a later one has
/// overtaken; or all that it has is a grant, and that for another handover than this one, or for one whose registration
/// does not stand or is another's by now.
fn is_former(
    party: &PartyId,
    handover: Option<&Handover>,
    ground: &Ground,
    ledger: &Ledger<'_>,
) -> bool {
    let Ground::Grant(id) = ground else {
        return handover.is_some_and(|handover| {
            let point = ledger.point(&handover.supply_point);
            let present = supplier_at(&point.registrations, ledger.now);
            let overtaken =
                present.and_then(Registration::effective_at) > Some(handover.effective_at);
            let supplies = ledger.registered_party(&handover.supply_point, ledger.now);
            overtaken && !ledger.gains(party, handover) && supplies.as_ref() != Some(party)
        });
    };
    handover.is_none_or(|handover| {
        let point = ledger.point(&handover.supply_point);
        let granted = |g: &Grant| g.id == *id && g.handover == handover.id;
        let secured = registration_of(point, handover)
            .is_some_and(|r| stands(&point.registrations, r, ledger.now) == Standing::Secured);
        !(secured && ledger.gains(party, handover) && point.grants.iter().any(granted))
    })
}

/// Keeps the stanzas that the depositor made, encrypted under the record.
fn store_stanzas(prepared: &Prepared, envelope: EnvelopeId, ledger: &mut Ledger<'_>) {
    let record = Kek::of_record(&prepared.key);
    for (recipient, key, stanza) in &prepared.stanzas {
        let address = StanzaAddress {
            envelope,
            party: recipient.clone(),
            key_id: *key,
            made_by: Maker::Depositor,
        };
        let sealed = record.seal_at_rest(&address.context(), stanza, ledger.random);
        ledger.changes.stanzas.push((address, sealed));
    }
}

impl SupplyPointFacts {
    /// The generations of a component, as the rules need them.
    pub(super) fn generations(&self, component: Component) -> Vec<Kept<'_>> {
        let of = self.envelopes.iter().filter(|e| e.component == component);
        of.map(|envelope| self.kept(envelope)).collect()
    }

    /// An envelope as the rules of generations see it.
    pub(super) fn kept<'a>(&self, envelope: &'a StoredEnvelope) -> Kept<'a> {
        let handover = self
            .handovers
            .iter()
            .find(|h| Some(h.id) == envelope.handover);
        Kept {
            number: envelope.generation,
            status: envelope.status,
            word: Word {
                why: envelope.origin.why(),
                meter: &envelope.serial,
                switch_at: self.switch_at(envelope.origin, handover, &envelope.ground),
            },
        }
    }

    /// When the switch takes effect by which a depositor comes or goes.
    fn switch_at(
        &self,
        origin: Origin,
        handover: Option<&Handover>,
        ground: &Ground,
    ) -> Option<Timestamp> {
        match (origin, ground) {
            (Origin::Standing, Ground::Registration(name)) => self.version(name)?.effective_at(),
            (Origin::Standing | Origin::GainingRead, _) => None,
            _ => handover.map(|h| h.effective_at),
        }
    }
}

/// What a taker of credentials will miss.
fn gaps(header: &Header) -> Vec<String> {
    let gaps = match header.component {
        Component::Credentials => header.inventory.gaps(),
        Component::Read => Vec::new(),
    };
    gaps.into_iter().map(str::to_owned).collect()
}

impl Origin {
    pub(super) fn why(self) -> Why {
        match self {
            Self::WriteAhead => Why::WriteAhead,
            Self::Losing => Why::LeftInMeter,
            Self::Former => Why::Former,
            Self::Standing | Self::GainingRead => Why::InMeter,
        }
    }
}

impl StanzaAddress {
    /// What a stored stanza is bound to.
    pub(super) fn context(&self) -> Context {
        Context::new("cos-escrow/stanza/1")
            .with("envelope", self.envelope.as_bytes())
            .with("party", self.party.as_str().as_bytes())
            .with("key", self.key_id.0.as_bytes())
            .with("made_by", self.made_by.as_str().as_bytes())
    }
}

impl StoredEnvelope {
    /// What its wrapped key is bound to.
    pub(super) fn wrap_context<'a>(&'a self, kek_id: &'a str) -> WrapContext<'a> {
        WrapContext {
            kek_id,
            envelope_id: self.id,
            header_digest: self.header,
            supply_point: &self.supply_point,
            component: self.component,
            generation: self.generation,
            handover: self.handover,
        }
    }
}
