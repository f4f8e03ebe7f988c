//! Drills on the real binary: a restored backup, a killed process, a power cut, signals under load.

mod account;
mod dice;
mod disk;
mod kill;
mod load;
mod places;
mod power;
mod restore;
mod signals;

/// How often a drill repeats what it drills: what the variable says, if it is set.
pub(super) fn count(variable: &str, default: usize) -> usize {
    let said = std::env::var_os(variable);
    said.map_or(default, |said| said.to_str().unwrap().parse().unwrap())
}
