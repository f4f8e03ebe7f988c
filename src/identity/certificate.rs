//! Reads a certificate into what it says, if it is in profile.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::name::{Identity, URN};
use super::profile::{CLIENT, ISSUING, Profile, ROOT, SERVER, SIGNING, Sort};
use super::rules::{Violation, check, purpose};
use super::serial::Serial;
use crate::types::{Digest, Timestamp};

/// What a certificate says, after it was found to be in profile. Says nothing of who signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// The sort of certificate.
    pub sort: Sort,
    /// The issuer's name in DER.
    pub issuer: Vec<u8>,
    /// Its number at its issuer.
    pub serial: Serial,
    /// The SHA-256 of its DER form.
    pub fingerprint: Digest,
    /// The first instant of its validity.
    pub not_before: Timestamp,
    /// The last instant of its validity.
    pub not_after: Timestamp,
    /// Whom it speaks for; leaves of servers and authorities speak for nobody.
    pub identity: Option<Identity>,
    /// The DNS names and IP addresses of a server leaf, as text.
    pub server_names: Vec<String>,
    /// The public key, an uncompressed P-256 point.
    pub public_key: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate that must be of the given profile.
    pub fn read(der: &CertificateDer<'_>, profile: &'static Profile) -> Result<Self, Violation> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Violation::Malformed)?;
        if !rest.is_empty() {
            return Err(Violation::Malformed);
        }
        check(&parsed, profile)?;
        let (not_before, not_after) = validity(&parsed, profile)?;
        Ok(Self {
            sort: profile.sort,
            issuer: parsed.issuer().as_raw().to_vec(),
            serial: Serial::from_der(parsed.raw_serial())?,
            fingerprint: Digest::of(der),
            not_before,
            not_after,
            identity: identity(&parsed, profile)?,
            server_names: server_names(&parsed, profile)?,
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Reads a certificate of whichever of our profiles it claims to be.
    pub fn inspect(der: &CertificateDer<'_>) -> Result<Self, Violation> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| Violation::Malformed)?;
        let profile = match purpose(&parsed)? {
            None if parsed.subject() == parsed.issuer() => &ROOT,
            None => &ISSUING,
            Some(value) => [&CLIENT, &SERVER, &SIGNING]
                .into_iter()
                .find(|profile| profile.purpose_extension().as_deref() == Some(value))
                .ok_or(Violation::ExtendedKeyUsage)?,
        };
        Self::read(der, profile)
    }

    /// Whether `now` falls into its validity.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

fn validity(
    parsed: &X509Certificate<'_>,
    profile: &Profile,
) -> Result<(Timestamp, Timestamp), Violation> {
    let not_before = timestamp(parsed.validity().not_before).ok_or(Violation::Validity)?;
    let not_after = timestamp(parsed.validity().not_after).ok_or(Violation::Validity)?;
    let most = u64::from(profile.max_days) * SECONDS_A_DAY;
    if not_after < not_before || not_after.since(not_before).as_secs() > most {
        return Err(Violation::Validity);
    }
    Ok((not_before, not_after))
}

/// Exactly one URI, and it names an identity. Other names mean nothing in a client or signing leaf.
fn identity(
    parsed: &X509Certificate<'_>,
    profile: &Profile,
) -> Result<Option<Identity>, Violation> {
    let mut uris = general_names(parsed)?.into_iter().filter_map(|name| {
        let GeneralName::URI(uri) = name else {
            return None;
        };
        Some(*uri)
    });
    if !matches!(profile.sort, Sort::Client | Sort::Signing) {
        return match uris.any(|uri| uri.starts_with(URN)) {
            true => Err(Violation::Uri),
            false => Ok(None),
        };
    }
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(Violation::Uri);
    };
    uri.parse().map(Some).map_err(|_| Violation::Uri)
}

fn server_names(parsed: &X509Certificate<'_>, profile: &Profile) -> Result<Vec<String>, Violation> {
    if profile.sort != Sort::Server {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for name in general_names(parsed)? {
        names.push(match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => address(bytes).ok_or(Violation::ServerName)?,
            _ => return Err(Violation::ServerName),
        });
    }
    if names.is_empty() {
        return Err(Violation::ServerName);
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    use std::net::{Ipv4Addr, Ipv6Addr};
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).to_string())
}

fn general_names<'a>(
    parsed: &'a X509Certificate<'_>,
) -> Result<Vec<&'a GeneralName<'a>>, Violation> {
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| Violation::Malformed)?;
    Ok(names
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
        .collect())
}

/// `None` for instants before 1970.
pub(super) fn timestamp(time: ASN1Time) -> Option<Timestamp> {
    let seconds = u64::try_from(time.timestamp()).ok()?;
    Some(Timestamp::from_seconds(seconds))
}

const SECONDS_A_DAY: u64 = 24 * 60 * 60;
