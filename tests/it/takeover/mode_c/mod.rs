//! Meters of IEC 62056-21 mode C: the simulated one of this crate, and one that shares no code with it.

mod peer;
