//! Making the release that the facts call for, before the transaction that decides again.
//!
//! What is made here is thrown away if the transaction finds other facts. A refusal takes the same work.

use super::release_facts::Ask;
use super::{Failure, Shared};
use crate::envelope::{
    Body, Dek, Issue, Item, Kek, Kem, Recipient, Release, SealingPublicKey, Stanza,
};
use crate::store::{
    Facts, GrantedEnvelope, Held, Maker, StanzaAddress, StoredEnvelope, WrappedKey,
};
use crate::types::{Digest, EnvelopeId, GrantId, KeyId, PartyId, Timestamp};

/// A release made for the facts as they stood before the transaction.
pub(super) struct Prepared {
    pub(super) grant: GrantId,
    pub(super) key_id: KeyId,
    pub(super) granted_at: Timestamp,
    pub(super) envelopes: Vec<GrantedEnvelope>,
    /// Stanzas that are not stored yet, encrypted under their records.
    pub(super) stanzas: Vec<(EnvelopeId, Vec<u8>)>,
    pub(super) release: Vec<u8>,
}

impl Shared {
    /// Makes the release that the facts call for; none if they call for a refusal, after the same work.
    pub(super) async fn prepare(
        &self,
        party: &PartyId,
        ask: &Ask,
        facts: &Facts,
    ) -> Result<Option<Prepared>, Failure> {
        let now = self.clock.now();
        let rules = self.rules.load_full();
        let assessed = ask.assess(party, facts, &rules.terms, now);
        let refused = rules.policy.decide_release(&assessed.facts).refusal;
        let (Some(handover), Some(key), None) = (assessed.handover, &assessed.key, refused) else {
            self.decoy()?;
            return Ok(None);
        };
        let public = Kem::of_id(key.kem)
            .and_then(|kem| SealingPublicKey::from_bytes(kem, &key.public_key).ok())
            .ok_or_else(|| {
                Failure::Broken(format!("sealing key {} is stored wrong", key.key_id))
            })?;

        let (grant, granted_at, granted) = match assessed.granted_before(party, &key.key_id) {
            Some(grant) => (grant.id, grant.granted_at, grant.envelopes.clone()),
            None => (GrantId::random(&*self.random), now, assessed.granted()),
        };
        let mut items = Vec::new();
        let mut stanzas = Vec::new();
        for (envelope, shown) in assessed.candidates.iter().zip(&granted) {
            let address = StanzaAddress {
                envelope: envelope.id,
                party: party.clone(),
                key_id: key.key_id,
                made_by: envelope.maker(party, &key.key_id, assessed.resealed),
            };
            let (body, stanza, fresh) = self.stanza_for(envelope, &address, &public).await?;
            if let Some(sealed) = fresh {
                stanzas.push((envelope.id, sealed));
            }
            items.push(Item {
                generation: shown.generation,
                status: shown.status.as_str().parse().expect("statuses are words"),
                deposited_at: envelope.deposited_at,
                body,
                stanza,
            });
        }
        let issue = Issue {
            grant,
            handover,
            recipient: party.clone(),
            key_id: key.key_id,
            issued_at: granted_at,
        };
        let release = Release::assemble(issue, items)
            .map_err(|error| Failure::Broken(error.to_string()))?
            .encode();
        Ok(Some(Prepared {
            grant,
            key_id: key.key_id,
            granted_at,
            envelopes: granted,
            stanzas,
            release,
        }))
    }

    /// The envelope's body and the stanza at this address: the stored one, or one of the escrow's, to be stored.
    async fn stanza_for(
        &self,
        envelope: &StoredEnvelope,
        address: &StanzaAddress,
        key: &SealingPublicKey,
    ) -> Result<(Body, Stanza, Option<Vec<u8>>), Failure> {
        let broken = |what: &dyn std::fmt::Display| {
            Failure::Broken(format!("envelope {}: {what}", envelope.id))
        };
        let sealed = self
            .store
            .sealed(envelope.id)
            .await?
            .ok_or_else(|| broken(&"its key is gone while it is live"))?;
        let body = Body::decode(&sealed.body).map_err(|error| broken(&error))?;
        let dek = self.unwrap(envelope, &sealed.key)?;
        let record = Kek::of_record(&dek);
        if let Some(stored) = self.store.stanza(address).await? {
            let bytes = record
                .open_at_rest(&address.context(), &stored)
                .map_err(|error| broken(&error))?;
            let stanza = Stanza::decode(bytes.expose()).map_err(|error| broken(&error))?;
            return Ok((body, stanza, None));
        }
        if address.made_by == Maker::Depositor || envelope.held == Held::Nothing {
            return Err(broken(&"the stanza of its depositor is gone"));
        }
        let recipient = Recipient::Party(address.party.clone());
        let stanza = self.encapsulated((&dek, &envelope.header), &recipient, key)?;
        let fresh = record.seal_at_rest(&address.context(), &stanza.encode(), &*self.random);
        Ok((body, stanza, Some(fresh)))
    }

    pub(super) fn unwrap(
        &self,
        envelope: &StoredEnvelope,
        key: &WrappedKey,
    ) -> Result<Dek, Failure> {
        let epoch = self.custody.epoch(key.epoch).ok_or_else(|| {
            Failure::Broken(format!("epoch {} is gone while it is in use", key.epoch))
        })?;
        let kek_id = epoch.number.to_string();
        epoch
            .kek
            .unwrap_dek(&envelope.wrap_context(&kek_id), &key.bytes)
            .map_err(|error| Failure::Broken(format!("envelope {}: {error}", envelope.id)))
    }

    /// Seals to the escrow's own key and throws it away, so that a refusal takes the work of a release.
    pub(super) fn decoy(&self) -> Result<(), Failure> {
        let Some(own) = self.custody.sealing_keys().first() else {
            return Ok(());
        };
        let dek = Dek::random(&*self.random);
        let sealed = (&dek, &Digest([0; 32]));
        self.encapsulated(sealed, &Recipient::Escrow, own.public())
            .map(drop)
    }

    /// Seals a data key to a public key. Every encapsulation of the service is made here, and can be seen to be.
    fn encapsulated(
        &self,
        (dek, header): (&Dek, &Digest),
        recipient: &Recipient,
        key: &SealingPublicKey,
    ) -> Result<Stanza, Failure> {
        tracing::trace!(target: "cos_escrow::kem", kem = %key.kem(), "encapsulated");
        Stanza::seal(dek, header, recipient, key, &*self.random)
            .map_err(|error| Failure::Broken(error.to_string()))
    }
}
