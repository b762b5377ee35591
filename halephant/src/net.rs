//! Sockets: addresses, listeners and socket options.

pub mod address;

pub use address::NodeAddress;
