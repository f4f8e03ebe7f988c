//! Whom we trust, and the one way in which every chain is verified.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::certificate::Certificate;
use super::name::Identity;
use super::pkcs12::{SEQUENCE, tlv};
use super::profile::{CLIENT, ISSUING, Profile, ROOT, SERVER, SIGNING, Sort};
use super::revocation::RevocationList;
use super::rules::Violation;
use super::serial::Serial;
use crate::types::{Code, Digest, Timestamp};

/// Whom we trust: the roots, and what they and the authorities below them have revoked.
#[derive(Debug)]
pub struct Anchors {
    roots: Vec<Root>,
    lists: Vec<RevocationList>,
}

#[derive(Debug)]
struct Root {
    certificate: Certificate,
    anchor: TrustAnchor<'static>,
}

/// A verified leaf that has an identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaf {
    /// Whom it speaks for.
    pub identity: Identity,
    /// The SHA-256 of its DER form.
    pub fingerprint: Digest,
    /// Its number at its issuer.
    pub serial: Serial,
    /// The last instant at which the leaf and all authorities on its chain are valid.
    pub not_after: Timestamp,
}

impl Anchors {
    /// Checks roots and lists against their profiles. A root must be valid `now`; a stale list is accepted, and
    /// everything that it covers refused.
    pub fn new(
        roots: &[CertificateDer<'_>],
        lists: &[CertificateRevocationListDer<'_>],
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let roots = roots
            .iter()
            .map(|der| Root::read(der, now))
            .collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() {
            return Err(IdentityError::Untrusted);
        }
        let lists = lists
            .iter()
            .map(|der| RevocationList::read(der).map_err(IdentityError::RevocationList))
            .collect::<Result<Vec<_>, _>>()?;
        let issuers: BTreeSet<_> = lists.iter().map(|list| &list.issuer).collect();
        if issuers.len() < lists.len() {
            return Err(IdentityError::RevocationList(Violation::TwoLists));
        }
        Ok(Self { roots, lists })
    }

    /// Verifies the TLS chain of a client, leaf first.
    pub fn verify_client(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        self.verify_unrevoked(chain, &CLIENT, now)
    }

    /// Verifies the chain of a signer, leaf first.
    pub fn verify_signer(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        self.verify_unrevoked(chain, &SIGNING, now)
    }

    /// Verifies the chain of whoever signed what the log recorded at `at`. A leaf that was revoked later had signed
    /// rightly; an authority that was revoked vouches for nothing, whenever that was.
    pub fn verify_signer_at(
        &self,
        chain: &[CertificateDer<'_>],
        at: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        match self.verify_signer(chain, at) {
            Err(IdentityError::Revoked) => self.verify_revoked_later(chain, at),
            verified => verified,
        }
    }

    /// Verifies a chain once more without the list that revokes its leaf, if that was after `at`.
    fn verify_revoked_later(
        &self,
        chain: &[CertificateDer<'_>],
        at: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        let (leaf, issuers) = chain.split_first().ok_or(IdentityError::Untrusted)?;
        let read = |der, profile| {
            Certificate::read(der, profile).map_err(|rule| IdentityError::profile(profile, rule))
        };
        let leaf = read(leaf, &SIGNING)?;
        let (revoking, others): (Vec<_>, Vec<_>) =
            (self.lists.iter()).partition(|list| list.issuer == leaf.issuer);
        let since = revoking
            .iter()
            .find_map(|list| list.revoked_at(&leaf.serial));
        // A list counts in seconds: what was recorded within that second is taken as earlier.
        if since.is_none_or(|since| since.as_seconds() < at.as_seconds()) {
            return Err(IdentityError::Revoked);
        }
        // webpki would now let pass what no list covers, which only the leaf may be.
        for issuer in issuers {
            let issuer = read(issuer, &ISSUING)?;
            if !others.iter().any(|list| list.issuer == issuer.issuer) {
                return Err(IdentityError::RevocationUnknown);
            }
        }
        let lists: Vec<_> = others.iter().map(|list| &list.list).collect();
        let revocation = revocation(&lists, UnknownStatusPolicy::Allow)?;
        self.verify_leaf(chain, &SIGNING, at, revocation)
    }

    /// Verifies the TLS chain of a server that was reached under `name`.
    pub fn verify_server(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let lists: Vec<_> = self.lists.iter().map(|list| &list.list).collect();
        let revocation = revocation(&lists, UnknownStatusPolicy::Deny)?;
        self.verify(chain, &SERVER, now, revocation)?;
        let leaf = chain.first().ok_or(IdentityError::Untrusted)?;
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_is_valid_for_subject_name(name))
            .map_err(|_| IdentityError::WrongServer)
    }

    /// Until then no root ends and no list becomes stale, so what was verified before needs no second look.
    pub fn settled_until(&self) -> Timestamp {
        let roots = self.roots.iter().map(|root| root.certificate.not_after);
        let lists = self.lists.iter().map(|list| list.next_update);
        roots.chain(lists).min().unwrap_or_default()
    }

    /// Whether one of our lists is older than the list of the same issuer in `former`: taking it would un-revoke.
    pub fn rewinds(&self, former: &Self) -> bool {
        let older = |list: &RevocationList| former.lists.iter().any(|f| list.is_older_than(f));
        self.lists.iter().any(older)
    }

    /// The names of the roots in DER, as a TLS server sends them for a hint.
    pub fn subjects(&self) -> impl Iterator<Item = Vec<u8>> {
        // webpki keeps the content of the name; a hint is the whole SEQUENCE.
        self.roots
            .iter()
            .map(|root| tlv(SEQUENCE, root.anchor.subject.as_ref()))
    }

    fn verify_unrevoked(
        &self,
        chain: &[CertificateDer<'_>],
        profile: &'static Profile,
        now: Timestamp,
    ) -> Result<Leaf, IdentityError> {
        let lists: Vec<_> = self.lists.iter().map(|list| &list.list).collect();
        let revocation = revocation(&lists, UnknownStatusPolicy::Deny)?;
        self.verify_leaf(chain, profile, now, revocation)
    }

    fn verify_leaf(
        &self,
        chain: &[CertificateDer<'_>],
        profile: &'static Profile,
        now: Timestamp,
        revocation: RevocationOptions<'_>,
    ) -> Result<Leaf, IdentityError> {
        let certificates = self.verify(chain, profile, now, revocation)?;
        let not_after = certificates.iter().map(|c| c.not_after).min();
        let leaf = certificates.into_iter().next();
        let (Some(not_after), Some(leaf)) = (not_after, leaf) else {
            return Err(IdentityError::Untrusted);
        };
        let identity = leaf
            .identity
            .ok_or(IdentityError::profile(profile, Violation::Uri))?;
        Ok(Leaf {
            identity,
            fingerprint: leaf.fingerprint,
            serial: leaf.serial,
            not_after,
        })
    }

    /// Path, revocation and profile; the certificates of the chain, leaf first.
    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        profile: &'static Profile,
        now: Timestamp,
        revocation: RevocationOptions<'_>,
    ) -> Result<Vec<Certificate>, IdentityError> {
        let in_profile = |rule: Violation| move |_| IdentityError::profile(profile, rule);
        let (leaf, issuers) = chain
            .split_first()
            .filter(|(_, issuers)| issuers.len() <= MAX_ISSUERS)
            .ok_or(IdentityError::profile(profile, Violation::ChainLength))?;
        let purpose = profile
            .purpose
            .as_ref()
            .ok_or(IdentityError::profile(profile, Violation::ExtendedKeyUsage))?;
        let end_entity = EndEntityCert::try_from(leaf).map_err(in_profile(Violation::Malformed))?;
        end_entity
            .verify_for_usage(
                ALGORITHMS,
                &self.anchors_at(now),
                issuers,
                UnixTime::since_unix_epoch(Duration::from_secs(now.as_seconds())),
                // An authority has no purpose; that the leaf has it is for the profile to see.
                KeyUsage::required_if_present(purpose.as_bytes()),
                Some(revocation),
                None,
            )
            .map_err(|error| IdentityError::from_path(&error, profile))?;
        let leaf = Certificate::read(leaf, profile);
        let mut certificates = vec![leaf.map_err(|rule| IdentityError::profile(profile, rule))?];
        for issuer in issuers {
            let issuer = Certificate::read(issuer, &ISSUING);
            certificates.push(issuer.map_err(|rule| IdentityError::profile(&ISSUING, rule))?);
        }
        Ok(certificates)
    }

    /// webpki does not look at the validity of a root.
    fn anchors_at(&self, now: Timestamp) -> Vec<TrustAnchor<'static>> {
        self.roots
            .iter()
            .filter(|root| root.certificate.is_valid_at(now))
            .map(|root| root.anchor.clone())
            .collect()
    }
}

impl Root {
    fn read(der: &CertificateDer<'_>, now: Timestamp) -> Result<Self, IdentityError> {
        let certificate =
            Certificate::read(der, &ROOT).map_err(|rule| IdentityError::profile(&ROOT, rule))?;
        if now < certificate.not_before {
            return Err(IdentityError::NotYetValid);
        }
        if now > certificate.not_after {
            return Err(IdentityError::Expired);
        }
        let anchor = webpki::anchor_from_trusted_cert(der)
            .map_err(|_| IdentityError::profile(&ROOT, Violation::Malformed))?
            .to_owned();
        Ok(Self {
            certificate,
            anchor,
        })
    }
}

/// Every certificate of the path is looked for in a list that is not stale; `uncovered` says what is of those without one.
fn revocation<'a>(
    lists: &'a [&'a CertRevocationList<'a>],
    uncovered: UnknownStatusPolicy,
) -> Result<RevocationOptions<'a>, IdentityError> {
    let options = RevocationOptionsBuilder::new(lists)
        .map_err(|_| IdentityError::RevocationUnknown)?
        .with_depth(RevocationCheckDepth::Chain)
        .with_status_policy(uncovered)
        .with_expiration_policy(ExpirationPolicy::Enforce);
    Ok(options.build())
}

/// Why a certificate, or something signed with one, is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// The chain is past the end of its validity.
    #[error("the certificate or one of its issuers has expired")]
    Expired,
    /// The chain is before the start of its validity.
    #[error("the certificate or one of its issuers is not valid yet")]
    NotYetValid,
    /// A list names a certificate of the chain.
    #[error("the certificate or one of its issuers has been revoked")]
    Revoked,
    /// There is no list, or it is stale or not signed by the issuer.
    #[error("no current revocation list covers the certificate and its issuers")]
    RevocationUnknown,
    /// No path leads to a root.
    #[error("the certificate does not lead to a trusted root")]
    Untrusted,
    /// The path holds, but a certificate is not what we issue.
    #[error("the {sort} is out of profile: {rule}")]
    Profile {
        /// The sort of certificate.
        sort: Sort,
        /// The rule that it breaks.
        rule: Violation,
    },
    /// A revocation list is not what we issue.
    #[error("the revocation list is out of profile: {0}")]
    RevocationList(Violation),
    /// The server's certificate is of another server.
    #[error("the certificate is not for this server's name")]
    WrongServer,
    /// A key does not belong to the certificate that came with it.
    #[error("the private key does not belong to the certificate")]
    WrongKey,
    /// The signature was not made over this message by this key.
    #[error("the signature does not verify")]
    Signature,
}

impl IdentityError {
    /// The stable code that says so to a peer.
    pub fn code(self) -> Code {
        match self {
            Self::Expired => Code::CertificateExpired,
            Self::Revoked => Code::CertificateRevoked,
            Self::RevocationUnknown | Self::RevocationList(_) => Code::RevocationUnknown,
            Self::Signature | Self::WrongKey => Code::SignatureInvalid,
            Self::NotYetValid | Self::Untrusted | Self::Profile { .. } | Self::WrongServer => {
                Code::CertificateInvalid
            }
        }
    }

    pub(super) fn profile(profile: &Profile, rule: Violation) -> Self {
        Self::Profile {
            sort: profile.sort,
            rule,
        }
    }

    fn from_path(error: &webpki::Error, profile: &Profile) -> Self {
        use webpki::Error;
        match error {
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::CertRevoked => Self::Revoked,
            Error::UnknownRevocationStatus
            | Error::CrlExpired { .. }
            | Error::InvalidCrlSignatureForPublicKey
            | Error::IssuerNotCrlSigner => Self::RevocationUnknown,
            Error::RequiredEkuNotFoundContext(_) => {
                Self::profile(profile, Violation::ExtendedKeyUsage)
            }
            Error::CaUsedAsEndEntity => Self::profile(profile, Violation::BasicConstraints),
            Error::UnsupportedCriticalExtension => {
                Self::profile(profile, Violation::CriticalExtension)
            }
            _ => Self::Untrusted,
        }
    }
}

static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[webpki::ring::ECDSA_P256_SHA256];

/// A chain has one issuing authority, or two while one replaces the other.
const MAX_ISSUERS: usize = 2;
