//! Sealing on the depositor's side: the service gets ciphertext and the few fields that a header shows.

use super::ClientError;
use crate::envelope::package::Package;
use crate::envelope::read::{Read, Salt};
use crate::envelope::{
    Draft, Envelope, Header, MeterMake, Recipient, SealingPublicKey, Signature, SignerChain,
};
use crate::identity::SigningIdentity;
use crate::types::{Component, EnvelopeId, PartyId, Random, SupplyStartDate, Timestamp};

/// Who deposits, and with what it signs and draws randomness.
pub struct Depositor<'a> {
    /// The party.
    pub party: PartyId,
    /// Its signing leaf.
    pub signer: &'a SigningIdentity,
    /// Where randomness comes from.
    pub random: &'a dyn Random,
    /// Its time.
    pub now: Timestamp,
}

impl Depositor<'_> {
    /// Signs bytes with the signing leaf, in the form that travels.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, ClientError> {
        let chain = self.signer.chain().iter().map(|der| der.to_vec()).collect();
        SignerChain::from_der(chain)
            .and_then(|chain| Signature::from_parts(chain, self.signer.sign(message)))
            .map_err(|error| ClientError::Local(format!("signing certificate: {error}")))
    }

    fn header(&self, component: Component, meter: (MeterMake, crate::types::MeterSerial)) -> Parts {
        Parts {
            envelope_id: EnvelopeId::random(self.random),
            component,
            created_at: self.now,
            meter,
        }
    }
}

struct Parts {
    envelope_id: EnvelopeId,
    component: Component,
    created_at: Timestamp,
    meter: (MeterMake, crate::types::MeterSerial),
}

/// Seals a package for the recipients and signs it.
pub fn seal_package(
    package: &Package,
    supply_start: Option<SupplyStartDate>,
    recipients: &[(Recipient, SealingPublicKey)],
    depositor: &Depositor<'_>,
) -> Result<Envelope, ClientError> {
    let meter = (package.meter.make.clone(), package.meter.serial.clone());
    let parts = depositor.header(Component::Credentials, meter);
    let header = Header {
        envelope_id: parts.envelope_id,
        component: parts.component,
        created_at: parts.created_at,
        supply_point: package.supply_point.clone(),
        meter_make: parts.meter.0,
        meter_serial: parts.meter.1,
        depositor: depositor.party.clone(),
        supply_start: supply_start.or(package.supply_start_date),
        read_commitment: None,
        inventory: package.inventory(),
    };
    seal(package.to_json().expose(), header, recipients, depositor)
}

/// Seals a closing read for the recipients and signs it. Its salted commitment stands in the header.
pub fn seal_read(
    read: &Read,
    make: MeterMake,
    recipients: &[(Recipient, SealingPublicKey)],
    depositor: &Depositor<'_>,
) -> Result<Envelope, ClientError> {
    let mut read = read.clone();
    let salt = *read
        .salt
        .get_or_insert_with(|| Salt::random(depositor.random));
    let parts = depositor.header(Component::Read, (make, read.meter_serial.clone()));
    let header = Header {
        envelope_id: parts.envelope_id,
        component: parts.component,
        created_at: parts.created_at,
        supply_point: read.supply_point.clone(),
        meter_make: parts.meter.0,
        meter_serial: parts.meter.1,
        depositor: depositor.party.clone(),
        supply_start: read.supply_start_date,
        read_commitment: Some(read.commitment(&salt)),
        inventory: read.inventory(),
    };
    seal(read.to_json().expose(), header, recipients, depositor)
}

fn seal(
    content: &[u8],
    header: Header,
    recipients: &[(Recipient, SealingPublicKey)],
    depositor: &Depositor<'_>,
) -> Result<Envelope, ClientError> {
    Draft::seal(content, header, recipients, depositor.random)
        .map_err(|error| ClientError::Local(format!("sealing: {error}")))?
        .sign(|message| depositor.sign(message))
}
