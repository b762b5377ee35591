//! Which node of a cluster is the primary, and which are replicas.
//!
//! Roles are found by asking the nodes, never configured. How a node is asked is not known here: [`probe::Prober`] is
//! handed in.

pub mod assess;
pub mod cluster;
pub mod node;
pub mod observation;
pub mod probe;
pub mod settings;
pub mod watch;

pub use cluster::{Cluster, NodeIndex, Nodes};
pub use node::{Change, Node};
pub use observation::Observation;
