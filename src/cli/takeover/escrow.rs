//! A takeover's escrow is the one that released the meter.

use tokio::sync::OnceCell;

use super::Papers;
use super::keys::put_keys;
use super::passwords::put_passwords;
use crate::client::{Client, ClientError, Depositor, seal_package, seal_read};
use crate::dlms::obis::Obis;
use crate::envelope::package::Package;
use crate::envelope::read::Read;
use crate::envelope::statement::{Confirmation, Outcome};
use crate::envelope::{Kem, Recipient, SealingPublicKey};
use crate::identity::SigningIdentity;
use crate::meter::escrow::{Escrow, EscrowError, Report};
use crate::meter::journal::{Journal, JournalError};
use crate::meter::released::{RegisterRead, Way};
use crate::meter::secrets::Secrets;
use crate::types::{Clock, Code, EnvelopeId, HandoverId, PartyId, Random, SystemRandom, Timestamp};

/// The escrow as one gaining supplier uses it for its takeovers.
pub struct SupplierEscrow<'a> {
    /// The connection.
    pub client: &'a Client,
    /// The supplier.
    pub party: PartyId,
    /// Its signing leaf.
    pub signer: &'a SigningIdentity,
    /// The sealing key that write-aheads are sealed to as well, if not the one in a takeover's papers.
    pub own_key: Option<SealingPublicKey>,
    /// Its time.
    pub clock: &'a dyn Clock,
    /// Keeps the papers of each takeover.
    pub journal: &'a Journal,
    /// The escrow's own key, asked for once.
    pub escrow_key: OnceCell<SealingPublicKey>,
}

impl Escrow for SupplierEscrow<'_> {
    async fn write_ahead(
        &self,
        handover: HandoverId,
        way: &Way,
        secrets: &Secrets,
    ) -> Result<u32, EscrowError> {
        let mut papers = self.papers(handover).await?;
        let next = next_package(package_of(&mut papers, way)?, secrets)?;
        let recipients = self.recipients(papers.own_key).await?;
        let envelope =
            seal_package(&next, None, &recipients, &self.depositor()).map_err(escrow_error)?;
        let key = request_key();
        let deposited = self
            .client
            .deposit(Some(handover), &[envelope], &key)
            .await
            .map_err(escrow_error)?;
        deposited
            .generation
            .ok_or_else(|| EscrowError::Refused("the deposit has no generation".to_owned()))
    }

    async fn closing_read(
        &self,
        handover: HandoverId,
        way: &Way,
        reads: &[RegisterRead],
    ) -> Result<(), EscrowError> {
        let mut papers = self.papers(handover).await?;
        let make = package_of(&mut papers, way)?.meter.make;
        let Some(theirs) = papers.read.as_ref() else {
            return Ok(());
        };
        let Some(taken) = total_watt_hours(reads) else {
            return Ok(());
        };
        if agree(theirs, taken) {
            let accepted = self.client.accept_read(handover).await;
            return match accepted {
                // Another read came in since. It is for people to look at, and no reason to leave the meter to others.
                Err(error) if error.code() == Some(Code::WrongState.as_str()) => Ok(()),
                accepted => accepted.map(drop).map_err(escrow_error),
            };
        }
        let ours = own_read(theirs, taken, self.clock.now())?;
        let recipients = self.recipients(papers.own_key).await?;
        let envelope =
            seal_read(&ours, make, &recipients, &self.depositor()).map_err(escrow_error)?;
        let disputed = self
            .client
            .dispute(handover, &envelope, &request_key())
            .await;
        disputed.map(drop).map_err(escrow_error)
    }

    async fn report(
        &self,
        handover: HandoverId,
        way: &Way,
        report: &Report,
    ) -> Result<(), EscrowError> {
        let (outcome, generation) = match report {
            Report::Rotated { generation, .. } => (Outcome::Rotated, Some(*generation)),
            Report::CannotRotate(_) => (Outcome::NotRotatable, None),
            Report::Rejected(reason) => {
                let key = request_key();
                let rejected = self.client.reject(handover, reason.as_str(), &key).await;
                return rejected.map(drop).map_err(escrow_error);
            }
        };
        let confirmation = Confirmation {
            handover,
            party: Recipient::Party(self.party.clone()),
            outcome,
            generation,
            address_of: way.address_of.is_some().then_some(way.generation),
            at: self.clock.now(),
        };
        let confirmed = self
            .client
            .confirm(&confirmation, &self.depositor(), &request_key())
            .await;
        confirmed.map(drop).map_err(escrow_error)
    }
}

impl SupplierEscrow<'_> {
    fn depositor(&self) -> Depositor<'_> {
        Depositor {
            party: self.party.clone(),
            signer: self.signer,
            random: &SystemRandom,
            now: self.clock.now(),
        }
    }

    async fn papers(&self, handover: HandoverId) -> Result<Papers, EscrowError> {
        let papers = self.journal.papers(handover).await;
        let papers = papers.map_err(|error| match error {
            JournalError::Sealed(_) => EscrowError::Tampered(error.to_string()),
            error => EscrowError::Refused(error.to_string()),
        })?;
        Papers::decode(&papers)
            .ok_or_else(|| EscrowError::Refused("the journal's papers cannot be read".to_owned()))
    }

    async fn recipients(
        &self,
        own_key: SealingPublicKey,
    ) -> Result<Vec<(Recipient, SealingPublicKey)>, EscrowError> {
        let ask = || async {
            let escrow = self.client.escrow_key(Kem::XWing).await;
            escrow.map(|escrow| escrow.key).map_err(escrow_error)
        };
        let escrow = self.escrow_key.get_or_try_init(ask).await?;
        let own = Recipient::Party(self.party.clone());
        Ok(vec![
            (Recipient::Escrow, escrow.clone()),
            (own, self.own_key.clone().unwrap_or(own_key)),
        ])
    }
}

/// The package whose word led to the meter: the next one says the same of it, but for the secrets.
fn package_of(papers: &mut Papers, way: &Way) -> Result<Package, EscrowError> {
    let package = papers.packages.remove(&way.generation);
    package.ok_or_else(|| EscrowError::Refused("the journal's papers lack the package".to_owned()))
}

/// A released package with the secrets that the meter is about to get.
fn next_package(mut package: Package, secrets: &Secrets) -> Result<Package, EscrowError> {
    let found = match secrets {
        Secrets::Keys(keys) => put_keys(&mut package, keys),
        Secrets::Passwords(passwords) => put_passwords(&mut package, passwords),
    };
    found.then_some(package).ok_or_else(|| {
        EscrowError::Refused("the package has no place for these secrets".to_owned())
    })
}

/// A new key for a request that is sent once: an unknown outcome is asked for by the takeover, not by the transport.
fn request_key() -> String {
    EnvelopeId::random(&SystemRandom as &dyn Random).to_string()
}

fn escrow_error(error: ClientError) -> EscrowError {
    match error {
        ClientError::Verification(what) => EscrowError::Tampered(what),
        error if error.is_retryable() => EscrowError::Unavailable(error.to_string()),
        error => EscrowError::Refused(error.to_string()),
    }
}

/// The total import that was read off the meter, in watt-hours.
fn total_watt_hours(reads: &[RegisterRead]) -> Option<i64> {
    let [total, ..] = Obis::ENERGY;
    let is_total = |read: &&RegisterRead| read.register == total;
    let read = reads.iter().find(is_total)?;
    if read.scaler_unit.unit != WATT_HOURS {
        return None;
    }
    match u32::try_from(read.scaler_unit.scaler) {
        Ok(up) => read.value.checked_mul(10_i64.checked_pow(up)?),
        Err(_) => {
            let down = u32::from(read.scaler_unit.scaler.unsigned_abs());
            read.value.checked_div(10_i64.checked_pow(down)?)
        }
    }
}

/// The import registers of a read, in watt-hours.
pub(super) fn imported(read: &Read) -> i64 {
    let import = read.registers().iter().filter(|register| {
        register
            .quantity
            .as_ref()
            .is_none_or(|quantity| quantity.as_str() == "AI")
    });
    import
        .map(|register| watt_hours(register.value.as_str()))
        .sum()
}

/// Kilowatt-hours as decimal text, in watt-hours; finer digits are cut off.
fn watt_hours(text: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    format!("{whole}{digits}").parse().unwrap_or_default()
}

/// Two reads agree when they are within a kilowatt-hour: the meter went on between them.
fn agree(theirs: &Read, taken: i64) -> bool {
    (imported(theirs) - taken).abs() <= TOLERANCE
}

/// The read that was taken off the meter, in the losing supplier's form.
fn own_read(theirs: &Read, taken: i64, at: Timestamp) -> Result<Read, EscrowError> {
    let read = serde_json::json!({
        "format": "cos-escrow/read/1",
        "supply_point": theirs.supply_point,
        "supply_start_date": theirs.supply_start_date,
        "meter_serial": theirs.meter_serial,
        "type": "A",
        "source": "taken off the meter",
        "registers": [{
            "id": "S", "quantity": "AI", "at": at,
            "value": format!("{}.{:03}", taken / 1_000, taken.unsigned_abs() % 1_000),
        }],
    });
    Read::parse(read.to_string().as_bytes())
        .map_err(|error| EscrowError::Refused(error.to_string()))
}

/// The unit, by the numbers of the Blue Book.
const WATT_HOURS: u8 = 30;
/// Watt-hours.
const TOLERANCE: i64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilowatt_hours_become_watt_hours() {
        for (text, expected) in [("10229.9", 10_229_900), ("7", 7_000), ("0.1234", 123)] {
            assert_eq!(watt_hours(text), expected);
        }
    }
}
