//! The command line: its help, and what works without a service, on the real binary.

mod admission;
mod bulk;
mod desk;
mod envelopes;
mod help;
mod log;
mod missing;
mod service;
mod shell;
mod usage;
