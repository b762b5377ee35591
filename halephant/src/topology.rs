//! Which node of a cluster is the primary, and which are replicas.

pub mod cluster;
pub mod settings;

pub use cluster::{Cluster, Node, NodeIndex};
