//! Certificates, key and revocation lists as they lie in files.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::identity::pem::{self, PemError};
use crate::identity::{CertificateDer, CertificateRevocationListDer};
use crate::types::Secret;

/// Where the PEM files lie.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Files {
    /// Our own chain, leaf first.
    pub chain: PathBuf,
    /// The PKCS#8 key of our leaf.
    pub key: PathBuf,
    /// The roots that we trust.
    pub roots: PathBuf,
    /// The revocation lists of the roots and of all issuing authorities.
    pub lists: PathBuf,
}

/// What one side of a TLS connection needs: who it is, and whom it trusts.
pub struct Material {
    /// Our own chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The PKCS#8 key of our leaf.
    pub key: Secret,
    /// The roots that we trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// The revocation lists of the roots and of all issuing authorities.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

impl Material {
    /// Reads all four files.
    pub fn load(files: &Files) -> Result<Self, MaterialError> {
        Ok(Self {
            chain: read(&files.chain, pem::certificates)?,
            key: read(&files.key, pem::key)?,
            roots: read(&files.roots, pem::certificates)?,
            lists: read(&files.lists, pem::lists)?,
        })
    }
}

fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, PemError>) -> Result<T, MaterialError> {
    let text = std::fs::read(path).map(Zeroizing::new);
    let text = text.map_err(|source| MaterialError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|source| MaterialError::Pem {
        path: path.to_owned(),
        source,
    })
}

/// A file that cannot be used, by name.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The file cannot be read.
    #[error("`{}` cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("`{}`: {source}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PemError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = Files {
            chain: path("chain.pem"),
            key: path("key.pem"),
            roots: path("roots.pem"),
            lists: path("lists.pem"),
        };
        let missing = Material::load(&files).err().unwrap().to_string();
        assert!(missing.contains("chain.pem` cannot be read"), "{missing}");
        std::fs::write(&files.chain, "text").unwrap();
        let wrong = Material::load(&files).err().unwrap().to_string();
        assert!(
            wrong.ends_with("chain.pem`: no certificate in it"),
            "{wrong}"
        );
    }
}
