//! Taking a meter over: a resumable journal of steps, drivers behind one trait, and meters to practise on.
//!
//! ```text
//! released    what came with the release          escrow    what is asked of the escrow
//! link        one meter, one association a time   journal   what is known, durable before it matters
//! takeover    the steps, in order                 fleet     many takeovers at once
//! plan        what would be sent                  simulate  meters in this process
//! ```

pub mod escrow;
pub mod fleet;
pub mod journal;
pub mod link;
pub mod plan;
pub mod released;
pub mod simulate;
pub mod takeover;
