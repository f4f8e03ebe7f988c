//! What the running service makes of bad input: a clear refusal with its code, nothing stored, nothing leaked.

mod door;
mod forms;
mod roles;
mod suspended;
mod world;
