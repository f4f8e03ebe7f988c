//! Who somebody is: certificates with our profile, path validation, signatures, and the authority that issues them.
//!
//! Path validation by webpki alone is too lax for a closed PKI: it accepts leaves without a purpose, expired roots,
//! authorities' key usages in leaves. So every certificate on a path, each root and each revocation list is checked
//! against `pki/*.toml` as well. Only P-256 with SHA-256 is accepted.

mod anchors;
mod authority;
mod certificate;
mod name;
pub mod pem;
pub mod pkcs12;
pub mod profile;
mod request;
mod revocation;
mod rules;
mod serial;
mod signing;

pub use anchors::{Anchors, IdentityError, Leaf};
pub use authority::{Authority, AuthorityError, Issued, Subject};
pub use certificate::Certificate;
pub use name::{Identity, InvalidIdentity, Kind};
pub use request::request_certificate;
pub use revocation::RevocationList;
pub use rules::Violation;
pub use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
pub use serial::Serial;
pub use signing::{Made, SigningIdentity, verify_signature};

#[cfg(test)]
mod tests;
