//! The service's doors: routes, problem documents, the accept loop. Nothing here decides.

mod admin;
mod caller;
mod document;
mod floor;
mod handovers;
pub mod listen;
mod log;
mod ndjson;
mod openapi;
mod parties;
mod problem;
mod registrations;
mod supply_points;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

pub use admin::{admin, serve_admin};
pub use floor::Floor;
pub use openapi::document;
pub use witness::WitnessServer;

use crate::service::Escrow;
use crate::tls::LiveTls;
use crate::types::Clock;

/// What the handlers stand on.
#[derive(Clone)]
pub struct Doors {
    /// The use cases.
    pub escrow: Escrow,
    /// Trust as it now stands.
    pub tls: Arc<LiveTls>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// The API for parties, registrars, operators, auditors and witnesses.
pub fn api(doors: Doors) -> Router {
    Router::new()
        .merge(handovers::router())
        .merge(supply_points::router())
        .merge(registrations::router())
        .merge(parties::router())
        .merge(log::router())
        .merge(openapi::router())
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(RequestBodyTimeoutLayer::new(BODY_STALL))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIMEOUT,
        ))
        // Outermost, so that no answer of another layer leaves without a line and a document.
        .layer(from_fn_with_state(doors.clone(), caller::trace))
        .with_state(doors)
}

/// Bytes of a request's body, except of the NDJSON streams, which are bounded line by line.
const MAX_BODY: usize = 1024 * 1024;
/// How long a body may stand still.
const BODY_STALL: Duration = Duration::from_secs(10);
/// How long a request may take in all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
