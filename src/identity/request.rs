//! A key of one's own and the request to certify it: the authority never sees the key.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::authority::AuthorityError;
use super::pem;
use crate::types::Secret;

/// Makes a P-256 key, as PKCS#8 in PEM, and a signing request for it in PEM. The request names nobody: whom a certificate
/// is for is the authority's to say.
pub fn request_certificate() -> Result<(Secret, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut nobody = CertificateParams::default();
    nobody.distinguished_name = DistinguishedName::new();
    let request = nobody.serialize_request(&key)?.pem()?;
    Ok((pem::of_key(&Secret::new(key.serialize_der())), request))
}
