//! Key and credential escrow for smart meters on Change of Supplier.
//!
//! The losing supplier deposits a sealed package; the registered gaining supplier, and nobody else, gets it; every
//! release is an entry of a tamper-evident log before a byte leaves the service.
//!
//! Modules only use modules below them. `tests/it/layering.rs` holds the order.
//!
//! ```text
//! cli                            commands, configuration, output
//! http                           accept loop, axum routes, problem documents
//! service   meter                use cases; taking a meter over
//! store     registry tls client  the outside world, one adapter each
//! custody   witness
//! lock                           one process at a time
//! handover  policy               rules: pure, no I/O, no clock
//! envelope  tlog  identity       formats: bytes in, values out
//! dlms      iec62056_21
//! types                          the words of the domain
//! ```

pub mod cli;
pub mod client;
pub mod custody;
pub mod dlms;
pub mod envelope;
pub mod handover;
pub mod http;
pub mod identity;
pub mod iec62056_21;
pub mod lock;
pub mod meter;
pub mod policy;
pub mod registry;
pub mod service;
pub mod store;
pub mod tlog;
pub mod tls;
pub mod types;
pub mod witness;
