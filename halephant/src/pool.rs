//! Pools of server connections.

pub mod settings;
