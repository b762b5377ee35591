//! Which node of a cluster is the primary, and which are replicas.

pub mod settings;
