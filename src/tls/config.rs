//! Builds the rustls configurations of both sides.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::key_exchange::{PostQuantum, provider};
use super::material::Material;
use super::verifier::{Clients, Servers};
use crate::identity::profile::{CLIENT, Profile, SERVER};
use crate::identity::{Anchors, Certificate, IdentityError, Violation};
use crate::types::{Clock, Secret};

/// The client's side: our client leaf, and a server that is verified as strictly as the server verifies us.
pub fn client_config(
    material: &Material,
    post_quantum: PostQuantum,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let anchors =
        Anchors::new(&material.roots, &material.lists, clock.now()).map_err(TlsError::Trust)?;
    let (chain, key) = own(material, &CLIENT)?;
    let time = Arc::new(RustlsTime(clock));
    let mut config = ClientConfig::builder_with_details(Arc::new(provider(post_quantum)), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers(Arc::new(anchors))))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn();
    Ok(config)
}

/// For a server outside our own PKI, such as a witness: any that these roots vouch for under the name that is called.
/// It gets no certificate of ours.
pub fn outside_config(
    roots: &[CertificateDer<'static>],
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let time = Arc::new(RustlsTime(clock));
    let provider = Arc::new(provider(PostQuantum::Preferred));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For a server that anybody may call, such as a witness: it shows this chain, and asks for no certificate.
pub fn open_server_config(
    chain: Vec<CertificateDer<'static>>,
    key: &Secret,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let time = Arc::new(RustlsTime(clock));
    let provider = Arc::new(provider(PostQuantum::Preferred));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, private_key(key))?;
    no_resumption(&mut config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The service's side: a client needs a certificate, and no session is resumed.
pub(super) fn server_config(
    material: &Material,
    anchors: Arc<Anchors>,
    post_quantum: PostQuantum,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = own(material, &SERVER)?;
    let time = Arc::new(RustlsTime(clock));
    let mut config = ServerConfig::builder_with_details(Arc::new(provider(post_quantum)), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Clients::new(anchors)))
        .with_single_cert(chain, key)?;
    no_resumption(&mut config);
    config.alpn_protocols = alpn();
    Ok(config)
}

fn no_resumption(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

/// Our own chain and key; a leaf that the other side would refuse is found here already.
fn own(
    material: &Material,
    profile: &'static Profile,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let leaf = material
        .chain
        .first()
        .ok_or(Violation::ChainLength)
        .and_then(|leaf| Certificate::read(leaf, profile));
    leaf.map_err(|rule| {
        TlsError::Own(IdentityError::Profile {
            sort: profile.sort,
            rule,
        })
    })?;
    Ok((material.chain.clone(), private_key(&material.key)))
}

fn private_key(pkcs8: &Secret) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(pkcs8.expose().to_vec()).into()
}

fn alpn() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// Lets rustls ask our clock.
struct RustlsTime(Arc<dyn Clock>);

impl TimeProvider for RustlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = std::time::Duration::from_millis(self.0.now().as_millis());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

impl std::fmt::Debug for RustlsTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RustlsTime")
    }
}

/// Why TLS cannot be set up from this material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Roots or revocation lists are not acceptable.
    #[error("roots or revocation lists: {0}")]
    Trust(IdentityError),
    /// Our own certificate is not acceptable.
    #[error("own certificate: {0}")]
    Own(IdentityError),
    /// Our own key does not fit, or the library refused for another reason.
    #[error("own certificate and key: {0}")]
    Library(#[from] rustls::Error),
    /// An older list would un-revoke certificates.
    #[error("a revocation list is older than the one in use")]
    Rewound,
}
