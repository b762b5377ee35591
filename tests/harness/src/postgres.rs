//! PostgreSQL itself: its programs, found or installed, and clusters made with them.

pub mod account;
pub mod binaries;
pub mod cluster;
pub mod embedded;
pub mod install;
pub mod node;
pub mod replica;
pub mod template;

pub use binaries::Binaries;
pub use cluster::{Builder, Cluster, Role};
pub use node::{Node, Shutdown};
