//! Taking a meter over: a resumable journal of steps, drivers behind one trait, and meters to practise on.
//!
//! ```text
//! released    what came with the release          escrow    what is asked of the escrow
//! secrets     what opens a meter                  profile   what differs between types of meters
//! link        one meter, one session a time       journal   what is known, durable before it matters
//! takeover    the steps, in order                 fleet     many takeovers at once, at a pace
//! plan        what would be sent                  simulate  meters in this process
//! ```

pub mod escrow;
pub mod fleet;
pub mod journal;
pub mod link;
mod pace;
pub mod plan;
pub mod profile;
pub mod released;
pub mod secrets;
pub mod simulate;
pub mod takeover;
