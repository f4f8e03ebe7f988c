//! The accept loop on real sockets.

mod connections;
mod refusals;
mod world;
