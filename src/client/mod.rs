//! Typed calls to an escrow over mutual TLS. Client and service meet only here, over HTTP.
//!
//! What the service says of its log is not believed but verified: every receipt, and with each receipt and checkpoint
//! that the log continues the one that was seen before.

mod calls;
mod entries;
mod error;
mod health;
mod log_view;
mod recorded;
mod seal;
mod transport;

pub use calls::{Deposited, EscrowKey, KeyDocument, ReceiptDocument, ReleaseDocument};
pub use entries::Shown;
pub use error::ClientError;
pub use health::{Check, Health, health};
pub use log_view::LogView;
pub use recorded::Sent;
pub use seal::{Depositor, seal_package, seal_read};
pub use transport::{Answer, Endpoint, Request};

use std::sync::Arc;

use transport::Transport;

/// A client of one escrow, in the name of one certificate.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
    log: Option<Arc<LogView>>,
}

impl Client {
    /// A client that connects when it is first needed.
    ///
    /// Without a view of the log it verifies no receipts: only for identities that have nothing to lose, such as an
    /// operator's scripts.
    pub fn new(endpoint: Endpoint, log: Option<LogView>) -> Self {
        Self {
            transport: Arc::new(Transport::new(endpoint)),
            log: log.map(Arc::new),
        }
    }

    /// Sends a request and waits for the whole answer.
    pub async fn send(&self, request: Request) -> Result<Answer, ClientError> {
        self.transport.send(request).await
    }
}
