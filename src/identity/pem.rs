//! PEM text of certificates, revocation lists and private keys.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use zeroize::Zeroizing;

use crate::types::Secret;

/// The certificates of a chain or a set of roots, one after the other.
pub fn of_certificates<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    chain
        .into_iter()
        .map(|der| section("CERTIFICATE", der))
        .collect()
}

/// Revocation lists, one after the other.
pub fn of_lists<'a>(
    lists: impl IntoIterator<Item = &'a CertificateRevocationListDer<'a>>,
) -> String {
    lists
        .into_iter()
        .map(|der| section("X509 CRL", der))
        .collect()
}

/// A PKCS#8 private key.
pub fn of_key(pkcs8: &Secret) -> Secret {
    Secret::new(section("PRIVATE KEY", pkcs8.expose()).into_bytes())
}

/// All certificates of a text; at least one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    objects(text, PemError::NoCertificate)
}

/// All revocation lists of a text; at least one.
pub fn lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    objects(text, PemError::NoList)
}

/// The one PKCS#8 private key of a text, as DER.
pub fn key(text: &[u8]) -> Result<Secret, PemError> {
    let mut keys = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|_| PemError::Malformed)?;
        let der = Secret::new(der);
        match kind {
            SectionKind::PrivateKey => keys.push(der),
            SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
                return Err(PemError::NotPkcs8);
            }
            _ => {}
        }
    }
    let one = keys.pop().filter(|_| keys.is_empty());
    one.ok_or(PemError::NoKey)
}

fn objects<T: PemObject>(text: &[u8], missing: PemError) -> Result<Vec<T>, PemError> {
    let objects = T::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| PemError::Malformed)?;
    if objects.is_empty() {
        return Err(missing);
    }
    Ok(objects)
}

/// RFC 7468: base64 in lines of 64 characters between the two labels.
fn section(label: &str, der: &[u8]) -> String {
    let base64 = Zeroizing::new(BASE64_STANDARD.encode(der));
    // Room for everything at once, so that no half-grown copy of a key is left behind.
    let mut text = String::with_capacity(base64.len() / 64 * 65 + 2 * label.len() + 100);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Why a text is not the PEM that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PemError {
    /// Labels or base64 are broken.
    #[error("not PEM")]
    Malformed,
    /// No `CERTIFICATE` section.
    #[error("no certificate in it")]
    NoCertificate,
    /// No `X509 CRL` section.
    #[error("no revocation list in it")]
    NoList,
    /// Not exactly one `PRIVATE KEY` section.
    #[error("not exactly one private key in it")]
    NoKey,
    /// The key is in another form.
    #[error("the private key is not PKCS#8 (`BEGIN PRIVATE KEY`)")]
    NotPkcs8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        for length in [0, 1, 47, 48, 49, 138] {
            let key_der = Secret::new(vec![7; length]);
            let text = of_key(&key_der);
            assert_eq!(key(text.expose()).unwrap().expose(), key_der.expose());
        }
    }

    #[test]
    fn text_without_the_object_is_refused() {
        assert_eq!(certificates(b""), Err(PemError::NoCertificate));
        assert_eq!(lists(b"hello"), Err(PemError::NoList));
        assert_eq!(key(b"").err(), Some(PemError::NoKey));
        let sec1 = b"-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(key(sec1).err(), Some(PemError::NotPkcs8));
        let two = [of_key(&Secret::new(vec![1])), of_key(&Secret::new(vec![2]))];
        let two = [two[0].expose(), two[1].expose()].concat();
        assert_eq!(key(&two).err(), Some(PemError::NoKey));
        let cut = b"-----BEGIN CERTIFICATE-----\nAA==\n";
        assert_eq!(certificates(cut), Err(PemError::Malformed));
    }
}
