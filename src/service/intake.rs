//! Verifying and opening what is deposited, before the transaction that decides on it.
//!
//! The signature is verified and the envelope is opened and checked, so that an acknowledged deposit is one that opens.
//! The content of an envelope that the depositor sealed is never parsed.

use super::deposit::{Deposit, DepositRequest, Seal};
use super::generation::Prepared;
use super::{Escrow, Failure, SealServer};
use crate::envelope::SignedDocument;
use crate::envelope::package::Package;
use crate::envelope::read::{Read, Salt};
use crate::envelope::statement::DepositAttestation;
use crate::envelope::{Body, Dek, Envelope, Header, OpenError, Recipient, Stanza};
use crate::store::{Attribution, Directory, Held};
use crate::types::{Code, Component, Digest, EnvelopeId, PartyId, Secret, SupplyPoint};

impl Escrow {
    /// Verifies and opens what is deposited, outside the transaction.
    pub(super) async fn prepared_deposit(
        &self,
        party: &PartyId,
        request: DepositRequest,
    ) -> Result<Deposit, Failure> {
        let directory = self.shared.store.directory().await?;
        let prepared = match request.seal {
            Seal::Client(envelopes) if envelopes.len() > MAX_ENVELOPES => {
                return Err(Failure::because(
                    Code::EnvelopeMismatch,
                    "a deposit has one envelope per component",
                ));
            }
            Seal::Client(envelopes) => envelopes
                .iter()
                .map(|bytes| self.received(party, &directory, bytes))
                .collect::<Result<Vec<_>, _>>()?,
            Seal::Server {
                package,
                read,
                attestation,
            } => self.sealed_here(party, (&package, read.as_ref()), attestation.as_deref())?,
        };
        let supply_point = one_subject(&prepared)?;
        Ok(Deposit {
            handover: request.handover,
            supply_point,
            prepared,
        })
    }

    /// An envelope that the depositor sealed: whose it is, whether it opens, for whom else it is sealed.
    fn received(
        &self,
        party: &PartyId,
        directory: &Directory,
        bytes: &[u8],
    ) -> Result<Prepared, Failure> {
        let envelope = Envelope::decode(bytes)
            .map_err(|error| Failure::because(Code::EnvelopeMalformed, error.to_string()))?;
        if envelope.body().header().depositor != *party {
            return Err(Failure::because(
                Code::EnvelopeMismatch,
                "the envelope names another depositor",
            ));
        }
        self.verify_made(envelope.body())?;

        let now = self.shared.clock.now();
        let mut stanzas = Vec::new();
        let mut dek = None;
        for stanza in envelope.stanzas() {
            match stanza.recipient() {
                Recipient::Escrow => dek = Some(self.opened(&envelope, stanza)?),
                Recipient::Party(recipient) => {
                    let key = directory.key(recipient, &stanza.key_id());
                    if !key.is_some_and(|key| key.active_at(now)) {
                        return Err(Failure::refused(Code::StanzaForeign));
                    }
                    stanzas.push((recipient.clone(), stanza.key_id(), stanza.encode()));
                }
            }
        }
        let held = dek.as_ref().map_or(Held::Nothing, |_| Held::DataKey);
        let (body, _) = envelope.into_parts();
        Ok(Prepared {
            body,
            key: dek.unwrap_or_else(|| Dek::random(&*self.shared.random)),
            held,
            stanzas,
            attribution: Attribution::Signed,
        })
    }

    /// The data key, if it opens the envelope.
    fn opened(&self, envelope: &Envelope, stanza: &Stanza) -> Result<Dek, Failure> {
        let key = self
            .shared
            .custody
            .sealing_keys()
            .iter()
            .find(|pair| pair.id() == stanza.key_id())
            .ok_or_else(|| Failure::refused(Code::StanzaForeign))?;
        tracing::trace!(target: "cos_escrow::kem", kem = %key.public().kem(), "decapsulated");
        envelope.dek(key).map_err(|error| match error {
            OpenError::NoStanza | OpenError::Stanza(_) | OpenError::Payload(_) => {
                Failure::refused(Code::EnvelopeDoesNotOpen)
            }
        })
    }

    /// A package in clear: validated, sealed, forgotten.
    fn sealed_here(
        &self,
        party: &PartyId,
        sent: (&Secret, Option<&Secret>),
        attestation: Option<&SignedDocument>,
    ) -> Result<Vec<Prepared>, Failure> {
        if self.shared.rules.load().seal_server == SealServer::Forbidden {
            return Err(Failure::refused(Code::SealServerForbidden));
        }
        let package = Package::parse(sent.0.expose())
            .map_err(|error| Failure::because(Code::PackageInvalid, error.to_string()))?;
        let read = sent.1.map(|json| read_beside(&package, json)).transpose()?;
        let (of_package, of_read) = match attestation {
            Some(document) => self.attested(party, &package, sent, document)?,
            None => (Attribution::MtlsOnly, Attribution::MtlsOnly),
        };
        let random = &*self.shared.random;
        let salted = read.map(|mut read| {
            let salt = *read.salt.get_or_insert_with(|| Salt::random(random));
            (read.commitment(&salt), read)
        });
        let header = |component, inventory| Header {
            envelope_id: EnvelopeId::random(random),
            component,
            created_at: self.shared.clock.now(),
            supply_point: package.supply_point.clone(),
            meter_make: package.meter.make.clone(),
            meter_serial: package.meter.serial.clone(),
            depositor: party.clone(),
            supply_start: package.supply_start_date,
            read_commitment: salted.as_ref().map(|(commitment, _)| *commitment),
            inventory,
        };
        let seal = |content: &Secret, header, attribution| {
            let (body, key) = Body::seal(content.expose(), header, random)
                .map_err(|error| Failure::because(Code::TooLarge, error.to_string()))?;
            Ok::<_, Failure>(Prepared {
                body,
                key,
                held: Held::DataKey,
                stanzas: Vec::new(),
                attribution,
            })
        };
        let credentials = header(Component::Credentials, package.inventory());
        let mut prepared = vec![seal(&package.to_json(), credentials, of_package)?];
        if let Some((_, read)) = &salted {
            let header = Header {
                supply_start: read.supply_start_date.or(package.supply_start_date),
                ..header(Component::Read, read.inventory())
            };
            prepared.push(seal(&read.to_json(), header, of_read)?);
        }
        Ok(prepared)
    }

    /// How sure it is who sent a package in clear, and the read beside it: each is signed if the attestation names its
    /// bytes. One that names others is refused.
    fn attested(
        &self,
        party: &PartyId,
        package: &Package,
        (sent, read): (&Secret, Option<&Secret>),
        document: &SignedDocument,
    ) -> Result<(Attribution, Attribution), Failure> {
        let says: DepositAttestation = self.verified(party, document)?;
        let read = read.map(|json| Digest::of(json.expose()));
        let is_for_it = says.party == Recipient::Party(party.clone())
            && says.supply_point == package.supply_point
            && says.component == Component::Credentials
            && says.package == Digest::of(sent.expose())
            && (says.read.is_none() || says.read == read);
        if !is_for_it {
            return Err(Failure::because(
                Code::SignatureInvalid,
                "the attestation is for something else than was sent",
            ));
        }
        let of_read = match says.read {
            Some(_) => Attribution::Signed,
            None => Attribution::MtlsOnly,
        };
        Ok((Attribution::Signed, of_read))
    }
}

/// The closing read that came with a package, if it is of the same meter.
fn read_beside(package: &Package, json: &Secret) -> Result<Read, Failure> {
    let read = Read::parse(json.expose())
        .map_err(|error| Failure::because(Code::ReadInvalid, error.to_string()))?;
    if read.supply_point != package.supply_point || read.meter_serial != package.meter.serial {
        return Err(Failure::because(
            Code::ReadInvalid,
            "the closing read is of another meter than the package",
        ));
    }
    Ok(read)
}

/// All envelopes of a deposit are for one supply point and one meter, and there is one of each component at most.
fn one_subject(prepared: &[Prepared]) -> Result<SupplyPoint, Failure> {
    let mismatch = |why: &str| Err(Failure::because(Code::EnvelopeMismatch, why));
    let Some((first, others)) = prepared.split_first() else {
        return Err(Failure::because(
            Code::MalformedRequest,
            "a deposit has at least one envelope",
        ));
    };
    let first = first.body.header();
    if others.len() > 1 {
        return mismatch("a deposit has one envelope per component");
    }
    for other in others {
        let header = other.body.header();
        if header.component == first.component {
            return mismatch("a deposit has one envelope per component");
        }
        if header.envelope_id == first.envelope_id {
            return Err(Failure::refused(Code::EnvelopeReused));
        }
        if header.supply_point != first.supply_point || header.meter_serial != first.meter_serial {
            return mismatch("the envelopes of a deposit are for one meter");
        }
    }
    Ok(first.supply_point.clone())
}

/// One envelope per component: what is more is not worth opening.
const MAX_ENVELOPES: usize = 2;
