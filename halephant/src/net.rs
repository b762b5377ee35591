//! Sockets: addresses, listeners and socket options.

pub mod address;
pub mod dial;
pub mod listen;
pub mod origin;
pub mod proxy_header;
pub mod role;
pub mod unix;

pub use address::{ListenAddress, NodeAddress};
pub use dial::{BeforeConnect, ServerAddress, dial};
pub use listen::{bind, raise_descriptor_limit, tune};
pub use origin::Origin;
pub use role::Role;
pub use unix::{SocketFile, bind_unix};
