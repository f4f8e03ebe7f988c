//! Issues certificates and revocation lists, by profile only.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::anchors::IdentityError;
use super::certificate::Certificate;
use super::name::Identity;
use super::pem::{self, PemError};
use super::profile::{CLIENT, ISSUING, KeyUsage, Profile, ROOT, SERVER, SIGNING, Sort};
use super::serial::Serial;
use crate::types::{Random as _, Secret, SystemRandom, Timestamp};

/// A root and the issuing authority below it, with their private keys. Everything it issues is P-256 and in profile.
///
/// Keys and serial numbers come from the operating system's generator, as the cryptography takes no other.
pub struct Authority {
    root: Signer,
    issuing: Signer,
    revoked: Vec<(Serial, Timestamp)>,
}

/// One authority that signs.
struct Signer {
    certificate: Certificate,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Whom or what a leaf is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// TLS in the name of an identity.
    Client(Identity),
    /// Signatures in the name of an identity.
    Signer(Identity),
    /// TLS of the service under these DNS names and IP addresses.
    Server(Vec<String>),
}

/// A leaf that was issued.
#[derive(Debug)]
pub struct Issued {
    /// What it says.
    pub certificate: Certificate,
    /// The leaf and the issuing authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The PKCS#8 private key, where it was made here.
    pub key: Option<Secret>,
}

impl Issued {
    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        pem::of_certificates(&self.chain)
    }

    /// The private key as PEM, where it was made here.
    pub fn key_pem(&self) -> Option<Secret> {
        self.key.as_ref().map(pem::of_key)
    }
}

impl Authority {
    /// Makes a root and an issuing authority, named after `name`.
    pub fn create(name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let root = Signer::root(&format!("{name} root"), now)?;
        let issuing = root.below(&format!("{name} issuing"), now)?;
        Ok(Self {
            root,
            issuing,
            revoked: Vec::new(),
        })
    }

    /// Takes up the work of an authority from the PEM texts of its certificates and keys.
    pub fn from_pem(root: (&[u8], &[u8]), issuing: (&[u8], &[u8])) -> Result<Self, AuthorityError> {
        Ok(Self {
            root: Signer::from_pem(root, &ROOT)?,
            issuing: Signer::from_pem(issuing, &ISSUING)?,
            revoked: Vec::new(),
        })
    }

    /// The root's certificate: what others trust.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root.der
    }

    /// The issuing authority's certificate.
    pub fn issuing(&self) -> &CertificateDer<'static> {
        &self.issuing.der
    }

    /// The root's private key as PEM.
    pub fn root_key_pem(&self) -> Secret {
        self.root.key_pem()
    }

    /// The issuing authority's private key as PEM.
    pub fn issuing_key_pem(&self) -> Secret {
        self.issuing.key_pem()
    }

    /// Issues a leaf with a new key.
    pub fn issue(
        &self,
        subject: &Subject,
        days: u32,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut issued = self.certify(subject, &key, days, now)?;
        issued.key = Some(Secret::new(key.serialize_der()));
        Ok(issued)
    }

    /// Issues a leaf for the key of a signing request (PEM). Only the key is taken from the request, after the
    /// requester has proven to hold it; everything else is the profile's.
    pub fn issue_for_request(
        &self,
        subject: &Subject,
        request: &str,
        days: u32,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::Request("its key is not P-256".to_owned()));
        }
        self.certify(subject, &request.public_key, days, now)
    }

    /// Puts a leaf on the list of revoked ones; it takes effect with the next lists.
    pub fn revoke(&mut self, serial: Serial, at: Timestamp) {
        if !self.revoked.iter().any(|(known, _)| *known == serial) {
            self.revoked.push((serial, at));
        }
    }

    /// New revocation lists of the root and of the issuing authority, numbered by the time at which they were made.
    pub fn lists(
        &self,
        now: Timestamp,
        next_update: Timestamp,
    ) -> Result<[CertificateRevocationListDer<'static>; 2], AuthorityError> {
        Ok([
            self.root.list(&[], now, next_update)?,
            self.issuing.list(&self.revoked, now, next_update)?,
        ])
    }

    fn certify(
        &self,
        subject: &Subject,
        key: &impl PublicKeyData,
        days: u32,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let (profile, common_name) = match subject {
            Subject::Client(identity) => (&*CLIENT, identity.id.to_string()),
            Subject::Signer(identity) => (&*SIGNING, identity.id.to_string()),
            Subject::Server(names) => (&*SERVER, names.first().cloned().unwrap_or_default()),
        };
        let mut template = template(profile, &common_name, days, now)?;
        template.subject_alt_names = subject.names()?;
        let der: CertificateDer<'static> = template.signed_by(key, &self.issuing.issuer)?.into();
        let certificate = Certificate::read(&der, profile)
            .map_err(|rule| IdentityError::profile(profile, rule))?;
        if certificate.not_after > self.issuing.certificate.not_after {
            return Err(AuthorityError::OutlivesIssuer);
        }
        Ok(Issued {
            certificate,
            chain: vec![der, self.issuing.der.clone()],
            key: None,
        })
    }
}

impl Subject {
    fn names(&self) -> Result<Vec<SanType>, AuthorityError> {
        let server_name = |name: &String| {
            if let Ok(address) = name.parse::<IpAddr>() {
                return Ok(SanType::IpAddress(address));
            }
            rustls_pki_types::DnsName::try_from(name.as_str())
                .ok()
                .and_then(|name| name.as_ref().try_into().ok())
                .map(SanType::DnsName)
                .ok_or_else(|| AuthorityError::ServerName(name.clone()))
        };
        match self {
            Self::Client(identity) | Self::Signer(identity) => {
                Ok(vec![SanType::URI(identity.to_string().try_into()?)])
            }
            Self::Server(names) => names.iter().map(server_name).collect(),
        }
    }
}

impl Signer {
    fn root(name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let template = template(&ROOT, name, ROOT.default_days, now)?;
        let der = template.self_signed(&key)?.into();
        Self::new(der, key, &ROOT)
    }

    fn below(&self, name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let template = template(&ISSUING, name, ISSUING.default_days, now)?;
        let der = template.signed_by(&key, &self.issuer)?.into();
        Self::new(der, key, &ISSUING)
    }

    fn from_pem(
        (certificate, key): (&[u8], &[u8]),
        profile: &'static Profile,
    ) -> Result<Self, AuthorityError> {
        let der = pem::certificates(certificate)?.swap_remove(0);
        let key = pem::key(key)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(key.expose()),
            &PKCS_ECDSA_P256_SHA256,
        )?;
        Self::new(der, key, profile)
    }

    fn new(
        der: CertificateDer<'static>,
        key: KeyPair,
        profile: &'static Profile,
    ) -> Result<Self, AuthorityError> {
        let certificate = Certificate::read(&der, profile)
            .map_err(|rule| IdentityError::profile(profile, rule))?;
        if certificate.public_key != key.public_key_raw() {
            return Err(IdentityError::WrongKey.into());
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self {
            certificate,
            der,
            issuer,
        })
    }

    fn list(
        &self,
        revoked: &[(Serial, Timestamp)],
        now: Timestamp,
        next_update: Timestamp,
    ) -> Result<CertificateRevocationListDer<'static>, AuthorityError> {
        let revoked_certs = revoked
            .iter()
            .map(|(serial, at)| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial.as_bytes()),
                    revocation_time: date_time(*at)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_, AuthorityError>>()?;
        let parameters = CertificateRevocationListParams {
            this_update: date_time(now)?,
            next_update: date_time(next_update)?,
            crl_number: SerialNumber::from_slice(&now.as_millis().to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(parameters.signed_by(&self.issuer)?.der().clone())
    }

    fn key_pem(&self) -> Secret {
        pem::of_key(&Secret::new(self.issuer.key().serialize_der()))
    }
}

/// Everything that the profile decides.
fn template(
    profile: &'static Profile,
    common_name: &str,
    days: u32,
    now: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    if days == 0 || days > profile.max_days {
        return Err(AuthorityError::Days {
            sort: profile.sort,
            most: profile.max_days,
        });
    }
    let from = now.before(BACKDATED);
    let mut template = CertificateParams::default();
    template.not_before = date_time(from)?;
    template.not_after = date_time(from.after(Duration::from_secs(u64::from(days) * 86_400)))?;
    template.serial_number = Some(fresh_serial());
    template.distinguished_name = DistinguishedName::new();
    template
        .distinguished_name
        .push(DnType::CommonName, common_name);
    template.is_ca = match profile.path_length {
        Some(length) => IsCa::Ca(BasicConstraints::Constrained(length)),
        None => IsCa::ExplicitNoCa,
    };
    template.key_usages = profile
        .key_usage
        .iter()
        .map(|usage| purpose(*usage))
        .collect();
    template.use_authority_key_identifier_extension = true;
    // Written by hand, as the library's object identifiers end at 64 bits a component.
    template.custom_extensions = profile
        .purpose_extension()
        .into_iter()
        .map(|value| CustomExtension::from_oid_content(EXTENDED_KEY_USAGE, value))
        .collect();
    Ok(template)
}

fn purpose(usage: KeyUsage) -> KeyUsagePurpose {
    match usage {
        KeyUsage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        KeyUsage::KeyCertSign => KeyUsagePurpose::KeyCertSign,
        KeyUsage::CrlSign => KeyUsagePurpose::CrlSign,
    }
}

fn fresh_serial() -> SerialNumber {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes);
    // Positive, and never zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn date_time(time: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    let seconds = i64::try_from(time.as_seconds()).map_err(|_| AuthorityError::Time)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Time)
}

/// Why an authority does not issue.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The profile bounds the days of validity.
    #[error("a {sort} is valid for 1 to {most} days")]
    Days {
        /// The sort of certificate.
        sort: Sort,
        /// The most days.
        most: u32,
    },
    /// The issuing authority ends first.
    #[error("it would outlive its issuing authority")]
    OutlivesIssuer,
    /// Neither a DNS name nor an IP address.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The signing request cannot be read, or its signature does not hold.
    #[error("the signing request is not acceptable: {0}")]
    Request(String),
    /// A time beyond what certificates can express.
    #[error("the time is beyond what a certificate can express")]
    Time,
    /// A text is not the PEM that was expected.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// What is there, or what was made, is out of profile.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The library refused.
    #[error("the certificate cannot be made: {0}")]
    Library(#[from] rcgen::Error),
}

/// Clocks differ; a leaf is good at once on a machine that is a little behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
