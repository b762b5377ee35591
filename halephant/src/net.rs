//! Sockets: addresses, listeners and socket options.

pub mod address;
pub mod dial;
pub mod listen;
pub mod role;

pub use address::NodeAddress;
pub use dial::{BeforeConnect, dial};
pub use listen::{bind, raise_descriptor_limit, tune};
pub use role::Role;
