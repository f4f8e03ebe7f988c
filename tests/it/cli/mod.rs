//! The command line: its help, and what works without a service, on the real binary.

mod bulk;
mod desk;
mod envelopes;
mod help;
mod log;
mod service;
mod shell;
mod usage;
