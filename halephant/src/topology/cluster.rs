//! The nodes of one cluster and the role that each was last seen in.

use crate::net::{NodeAddress, Role};
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

/// The position of a node in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeIndex(pub usize);

#[derive(Debug)]
pub struct Node {
    pub address: NodeAddress,
    role: AtomicU8,
}

const UNKNOWN: u8 = 0;
const PRIMARY: u8 = 1;
const REPLICA: u8 = 2;

impl Node {
    fn new(address: NodeAddress) -> Self {
        Self { address, role: AtomicU8::new(UNKNOWN) }
    }

    /// The role that the last probe found; `None` when the node has not answered.
    pub fn role(&self) -> Option<Role> {
        match self.role.load(Ordering::Acquire) {
            PRIMARY => Some(Role::Primary),
            REPLICA => Some(Role::Replica),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    nodes: Vec<Node>,
    /// Wakes the prober before its interval is over.
    refresh: Notify,
}

impl Cluster {
    pub fn new(name: String, addresses: impl IntoIterator<Item = NodeAddress>) -> Self {
        Self { name, nodes: addresses.into_iter().map(Node::new).collect(), refresh: Notify::new() }
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeIndex(index), node))
    }

    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Stores what a probe found. Returns whether it differs from what was known.
    pub fn observe(&self, index: NodeIndex, role: Option<Role>) -> bool {
        let value = match role {
            None => UNKNOWN,
            Some(Role::Primary) => PRIMARY,
            Some(Role::Replica) => REPLICA,
        };
        self.nodes[index.0].role.swap(value, Ordering::AcqRel) != value
    }

    /// Asks for a probe now, for example because a checkout failed.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    /// Resolves when someone asked for a probe. Cancel safe.
    pub async fn refresh_requested(&self) {
        self.refresh.notified().await;
    }
}
