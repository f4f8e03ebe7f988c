//! Drills on the real binary: a restored backup, a killed process, signals under load.

mod kill;
mod load;
mod restore;
mod signals;
