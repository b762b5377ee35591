//! Sockets: addresses, listeners and socket options.

pub mod address;
pub mod listen;
pub mod role;

pub use address::NodeAddress;
pub use listen::{bind, raise_descriptor_limit, tune};
pub use role::Role;
