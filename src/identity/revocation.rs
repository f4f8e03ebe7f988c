//! Reads a revocation list, if it is in profile.

use rustls_pki_types::CertificateRevocationListDer;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::oid_registry::{OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_CRL_NUMBER};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::timestamp;
use super::rules::Violation;
use super::serial::Serial;
use crate::types::Timestamp;

/// A revocation list that is in profile. Says nothing of who signed it.
#[derive(Debug)]
pub struct RevocationList {
    /// The issuer's name in DER: one issuer has one list.
    pub(super) issuer: Vec<u8>,
    /// The list's number, big-endian without leading zeros: a later list has a greater one.
    pub(super) number: Vec<u8>,
    /// From then on the list counts for nothing.
    pub next_update: Timestamp,
    /// How many certificates it revokes.
    pub revoked: usize,
    pub(super) list: CertRevocationList<'static>,
}

impl RevocationList {
    /// Reads a list.
    pub fn read(der: &CertificateRevocationListDer<'_>) -> Result<Self, Violation> {
        let (rest, parsed) =
            CertificateRevocationList::from_der(der).map_err(|_| Violation::Malformed)?;
        if !rest.is_empty() {
            return Err(Violation::Malformed);
        }
        let known = [
            OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
            OID_X509_EXT_CRL_NUMBER,
        ];
        if parsed
            .extensions()
            .iter()
            .any(|e| e.critical && !known.contains(&e.oid))
        {
            return Err(Violation::CriticalExtension);
        }
        let number = parsed.crl_number().ok_or(Violation::ListNumber)?;
        let next_update = parsed
            .next_update()
            .and_then(timestamp)
            .ok_or(Violation::NextUpdate)?;
        let list = OwnedCertRevocationList::from_der(der).map_err(|_| Violation::Malformed)?;
        Ok(Self {
            issuer: parsed.issuer().as_raw().to_vec(),
            number: number.to_bytes_be(),
            next_update,
            revoked: parsed.iter_revoked_certificates().count(),
            list: list.into(),
        })
    }

    /// Since when a certificate of this issuer is revoked, if it is: where the list says since when it was not to be
    /// trusted, since then.
    pub(super) fn revoked_at(&self, serial: &Serial) -> Option<Timestamp> {
        let entry = self.list.find_serial(&serial.to_der()).ok().flatten()?;
        let listed = entry.revocation_date;
        let since = entry
            .invalidity_date
            .map_or(listed, |known| known.min(listed));
        Some(Timestamp::from_seconds(since.as_secs()))
    }

    /// Whether this list is of the same issuer as `other` and older.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let order = |list: &Self| (list.number.len(), list.number.clone());
        self.issuer == other.issuer && order(self) < order(other)
    }
}
