//! TLS 1.3 between the service and everybody else: mutual, revocable at once, hybrid post-quantum.
//!
//! INVARIANT: no session is ever resumed. rustls resumes without looking at the client's certificate again, so a
//! resumed session would outlive expiry and revocation.

mod config;
mod key_exchange;
mod live;
mod material;
mod verifier;

pub use config::{TlsError, client_config, open_server_config, outside_config};
pub use key_exchange::{PostQuantum, provider};
pub use live::{LiveTls, Peer, Trust};
pub use material::{Files, Material, MaterialError};
