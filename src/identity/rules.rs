//! The rules that webpki does not check, each with a name.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::x509::X509Version;

use super::profile::{Profile, Sort};

/// Checks everything but names and validity.
pub(super) fn check(parsed: &X509Certificate<'_>, profile: &Profile) -> Result<(), Violation> {
    check_frame(parsed)?;
    check_extensions(parsed)?;
    check_key_identifiers(parsed, profile)?;
    check_constraints(parsed, profile)
}

/// The extended key usage extension's value.
pub(super) fn purpose<'a>(parsed: &'a X509Certificate<'_>) -> Result<Option<&'a [u8]>, Violation> {
    let found = parsed
        .get_extension_unique(&OID_X509_EXT_EXTENDED_KEY_USAGE)
        .map_err(|_| Violation::RepeatedExtension)?;
    Ok(found.map(|extension| extension.value))
}

/// Version, keys and algorithms.
fn check_frame(parsed: &X509Certificate<'_>) -> Result<(), Violation> {
    if parsed.version() != X509Version::V3 {
        return Err(Violation::Version);
    }
    let key = parsed.public_key();
    let curve = key.algorithm.parameters.as_ref();
    let is_p256 = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|any| any.as_oid().is_ok_and(|oid| oid == OID_EC_P256));
    // An uncompressed point is 04, x, y.
    if !is_p256 || key.subject_public_key.data.len() != 65 {
        return Err(Violation::KeyType);
    }
    if parsed.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(Violation::SignatureAlgorithm);
    }
    let authority = parsed.is_ca() && parsed.subject().iter().next().is_none();
    if authority || parsed.issuer().iter().next().is_none() {
        return Err(Violation::EmptyName);
    }
    Ok(())
}

/// No extension twice, none unreadable, none critical that we do not understand.
fn check_extensions(parsed: &X509Certificate<'_>) -> Result<(), Violation> {
    parsed
        .extensions_map()
        .map_err(|_| Violation::RepeatedExtension)?;
    for extension in parsed.extensions() {
        if extension.parsed_extension().error().is_some() {
            return Err(Violation::Malformed);
        }
        // Name constraints and the like are critical by RFC 5280 and not part of our profiles.
        let known = [
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_EXTENDED_KEY_USAGE,
            OID_X509_EXT_SUBJECT_ALT_NAME,
        ];
        if extension.critical && !known.contains(&extension.oid) {
            return Err(Violation::CriticalExtension);
        }
    }
    Ok(())
}

/// Below the root everything names its issuer's key; an authority names its own.
fn check_key_identifiers(parsed: &X509Certificate<'_>, profile: &Profile) -> Result<(), Violation> {
    let mut authority_key = None;
    let mut subject_key = None;
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                let by_key_only =
                    id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none();
                authority_key = id.key_identifier.as_ref().filter(|_| by_key_only);
            }
            ParsedExtension::SubjectKeyIdentifier(id) => subject_key = Some(id),
            _ => {}
        }
    }
    let is_root = profile.sort == Sort::Root;
    if is_root && parsed.subject() != parsed.issuer() {
        return Err(Violation::NotSelfIssued);
    }
    if is_root && authority_key.is_some() && authority_key != subject_key {
        return Err(Violation::AuthorityKeyIdentifier);
    }
    if !is_root && authority_key.is_none() {
        return Err(Violation::AuthorityKeyIdentifier);
    }
    if profile.is_authority() && subject_key.is_none() {
        return Err(Violation::SubjectKeyIdentifier);
    }
    Ok(())
}

/// What the key may be used for: exactly what the profile says.
fn check_constraints(parsed: &X509Certificate<'_>, profile: &Profile) -> Result<(), Violation> {
    let constraints = parsed
        .basic_constraints()
        .map_err(|_| Violation::BasicConstraints)?;
    let fits = match (profile.path_length, constraints) {
        (None, None) => true,
        (None, Some(found)) => !found.value.ca,
        (Some(_), None) => false,
        (Some(most), Some(found)) => {
            let length = found.value.path_len_constraint;
            found.critical && found.value.ca && length.is_some_and(|n| n <= u32::from(most))
        }
    };
    if !fits {
        return Err(Violation::BasicConstraints);
    }
    let usage = parsed.key_usage().map_err(|_| Violation::KeyUsage)?;
    if !usage.is_some_and(|u| u.critical && u.value.flags == profile.key_usage_bits()) {
        return Err(Violation::KeyUsage);
    }
    if purpose(parsed)? != profile.purpose_extension().as_deref() {
        return Err(Violation::ExtendedKeyUsage);
    }
    Ok(())
}

/// Which rule of its profile a certificate or revocation list breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Violation {
    /// It is not DER of the right type.
    #[error("it cannot be read")]
    Malformed,
    /// X.509 version 3 is required.
    #[error("it is not version 3")]
    Version,
    /// RFC 5280 section 4.1.2.2.
    #[error("its serial number is not 1 to 20 bytes and positive")]
    Serial,
    /// Other curves and algorithms are not accepted.
    #[error("its key is not an uncompressed P-256 point")]
    KeyType,
    /// Other signatures are not accepted.
    #[error("it is not signed by ECDSA with SHA-256")]
    SignatureAlgorithm,
    /// An authority, and each issuer, has a name.
    #[error("its issuer or, as an authority, its subject has no name")]
    EmptyName,
    /// RFC 5280 section 4.2.
    #[error("it has an extension twice")]
    RepeatedExtension,
    /// What is critical and unknown must be refused.
    #[error("it has a critical extension that the profile does not know")]
    CriticalExtension,
    /// It must name its issuer's key, and only by key.
    #[error("its authority key identifier is missing or wrong")]
    AuthorityKeyIdentifier,
    /// An authority names its own key.
    #[error("its subject key identifier is missing")]
    SubjectKeyIdentifier,
    /// A root is its own issuer.
    #[error("it is not its own issuer")]
    NotSelfIssued,
    /// A leaf is no authority; an authority says how many may stand below it.
    #[error("its basic constraints are not those of the profile")]
    BasicConstraints,
    /// Exactly the key usages of the profile, critical.
    #[error("its key usage is not that of the profile")]
    KeyUsage,
    /// Exactly the one purpose of the profile.
    #[error("its extended key usage is not that of the profile")]
    ExtendedKeyUsage,
    /// The end before the start, or too long a life.
    #[error("its validity is longer than the profile allows")]
    Validity,
    /// The one name that counts.
    #[error("it does not have exactly one URI `urn:cos-escrow:<kind>:<id>`")]
    Uri,
    /// A server has DNS names and IP addresses and nothing else.
    #[error("its names are not DNS names and IP addresses")]
    ServerName,
    /// A chain is a leaf and at most two authorities.
    #[error("the chain is empty or too long")]
    ChainLength,
    /// A list without an end would never become stale.
    #[error("it has no time of next update")]
    NextUpdate,
    /// Without a number an older list cannot be told from a newer one.
    #[error("it has no number")]
    ListNumber,
    /// One of them would be ignored.
    #[error("there are two lists of one issuer")]
    TwoLists,
}
