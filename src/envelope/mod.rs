//! Packages and reads, the envelopes that they are sealed in, and the documents that go with them.
//!
//! All of it is bytes in, values out. Randomness is an argument, and signatures are made and checked by the caller's
//! closures, which know certificates. Each file says its format byte by byte, so that another implementation needs
//! nothing else:
//!
//! ```text
//! package, read                 plain content, JSON
//!   └─ sealed                   envelope = body (header, payload, signature) + stanzas, one for each recipient
//!        ├─ release             bodies of the unretired generations, each with a stanza for the gaining supplier
//!        └─ wrap                how the service keeps the key of a body, and records beside it
//! key_export                    keys of meters, sealed for a head end
//! document: statement           key statements, retirements, confirmations, attestations
//! possession                    proof that a sealing key is its sender's
//! ```
//! What opens a body is HPKE on a `sealing_key` of one `kem`; `wire` has the primitives of the binary formats.

mod body;
mod document;
mod header;
mod json;
mod kem;
mod key_export;
pub mod package;
mod payload;
pub mod possession;
pub mod read;
mod release;
mod sealed;
mod sealing_key;
mod signature;
mod stanza;
pub mod statement;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod testing;
mod text;
#[cfg(test)]
mod vectors;
mod wire;
mod wrap;

pub use body::{Body, OpenError, SealError};
pub use document::{DocumentError, SignedDocument, Statement};
pub use header::{Header, Inventory, MeterMake, Word};
pub use json::{ContentError, Problem, parse as parse_json};
pub use kem::Kem;
pub use key_export::{ExportProfile, KeyExport};
pub use payload::{Dek, PayloadError};
pub use release::{Issue, Item, Release};
pub use sealed::{Draft, Envelope};
pub use sealing_key::{SealingKeyError, SealingKeyPair, SealingPublicKey};
pub use signature::{Signature, SignatureError, SignerChain};
pub use stanza::{Recipient, Stanza};
pub use wire::FormatError;
pub use wrap::{Context, Kek, WrapContext, WrapError};
