//! One server connection: opening, authenticating, resetting, probing.

pub mod apply;
mod authenticate;
pub mod cancel;
pub mod connection;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
mod open;
pub mod parameters;
pub mod query;
pub mod settings;

pub use authenticate::{Credentials, KeyCache, LearnedKeys};
pub use cancel::CancelTarget;
pub use connection::ServerConnection;
pub use error::OpenError;
pub use open::{Login, OpenFuture, Opener, Replication, open};
