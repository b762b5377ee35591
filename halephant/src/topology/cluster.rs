//! The nodes of one cluster and the role that each was last seen in.

use super::assess::{Assessment, Candidate, Conflict, History, assess};
use super::node::{Change, Node};
use super::observation::{Lag, Lsn, Observation};
use super::probe::ProbeError;
use super::settings::TopologySettings;
use crate::net::{NodeAddress, Role};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Unanswered questions in a row after which what runs on a node is given up.
const FAILURES_UNTIL_LOST: u32 = 3;

/// The position of a node in its cluster; it stays the node's own when the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeIndex(pub usize);

/// Every node the cluster ever had, by position, as of one moment; those that are no longer configured have no role.
#[derive(Clone, Debug)]
pub struct Nodes(Arc<Vec<Arc<Node>>>);

impl Nodes {
    pub fn iter(&self) -> impl Iterator<Item = (NodeIndex, &Arc<Node>)> {
        self.0.iter().enumerate().map(|(index, node)| (NodeIndex(index), node))
    }

    pub fn node(&self, index: NodeIndex) -> &Arc<Node> {
        &self.0[index.0]
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    nodes: ArcSwap<Vec<Arc<Node>>>,
    settings: ArcSwap<TopologySettings>,
    /// Held while roles are given out, so that two answers cannot make two primaries.
    history: Mutex<Known>,
    /// Wakes the watch before its interval is over.
    refresh: watch::Sender<u64>,
    /// Wakes those who look after connections.
    changed: watch::Sender<u64>,
}

/// What roles are given out by, beside the nodes' answers.
#[derive(Debug, Default)]
struct Known {
    history: History,
    conflicts: Vec<Conflict>,
}

impl Cluster {
    pub fn new(
        name: String,
        addresses: impl IntoIterator<Item = NodeAddress>,
        settings: TopologySettings,
    ) -> Self {
        let nodes = addresses.into_iter().map(|address| Arc::new(Node::new(address))).collect::<Vec<_>>();
        Self {
            name,
            nodes: ArcSwap::from_pointee(nodes),
            settings: ArcSwap::from_pointee(settings),
            history: Mutex::default(),
            refresh: watch::Sender::new(0),
            changed: watch::Sender::new(0),
        }
    }

    pub fn nodes(&self) -> Nodes {
        Nodes(self.nodes.load_full())
    }

    pub fn node(&self, index: NodeIndex) -> Arc<Node> {
        Arc::clone(&self.nodes.load()[index.0])
    }

    /// The nodes that the configuration names.
    pub fn configured(&self) -> Vec<(NodeIndex, Arc<Node>)> {
        let nodes = self.nodes();
        let configured = nodes.iter().filter(|(_, node)| node.is_configured());
        configured.map(|(index, node)| (index, Arc::clone(node))).collect()
    }

    pub fn settings(&self) -> Arc<TopologySettings> {
        self.settings.load_full()
    }

    /// Takes over another configuration. Returns the nodes that were not there before; a node that is no longer named
    /// has no role from now on. What was remembered of a newer history is forgotten.
    pub fn reconfigure(
        &self,
        addresses: &[NodeAddress],
        settings: TopologySettings,
    ) -> Vec<(NodeIndex, Arc<Node>)> {
        let mut known = self.lock();
        known.history = History::default();
        self.settings.store(Arc::new(settings));
        let mut nodes = Vec::clone(&self.nodes.load());
        let mut added = Vec::new();
        for address in addresses {
            match nodes.iter().position(|node| node.address == *address) {
                Some(index) if nodes[index].is_configured() => {}
                Some(index) => {
                    nodes[index] = Arc::new(nodes[index].configured_again());
                    added.push((NodeIndex(index), Arc::clone(&nodes[index])));
                }
                None => {
                    nodes.push(Arc::new(Node::new(address.clone())));
                    added.extend(nodes.last().map(|node| (NodeIndex(nodes.len() - 1), Arc::clone(node))));
                }
            }
        }
        nodes.iter().filter(|node| !addresses.contains(&node.address)).for_each(|node| node.remove());
        self.nodes.store(Arc::new(nodes));
        added
    }

    /// How far a node is behind the primary; `None` for one that is no replica.
    pub fn lag(&self, node: &Node) -> Option<Lag> {
        let observation = node.observation().filter(|observation| observation.in_recovery)?;
        Some(observation.lag(self.written()))
    }

    /// How far the primary has written.
    fn written(&self) -> Option<Lsn> {
        let nodes = self.nodes.load();
        let primary = nodes.iter().find(|node| node.assessed_role() == Some(Role::Primary))?;
        primary.observation()?.lsn
    }

    /// Whether some node may be used as `role`.
    pub fn has(&self, role: Role) -> bool {
        self.nodes.load().iter().any(|node| node.role() == Some(role))
    }

    /// Takes in what a node said, or that it said nothing, and gives out roles. Returns who is used as something else.
    pub fn record(&self, index: NodeIndex, outcome: Result<Observation, ProbeError>) -> Vec<Change> {
        let mut known = self.lock();
        let nodes = self.nodes();
        let moved = nodes.node(index).store(outcome);
        let latest: Vec<_> = nodes.iter().map(|(_, node)| node.latest()).collect();
        let candidates: Vec<_> = nodes
            .iter()
            .zip(&latest)
            .map(|((_, node), latest)| Candidate {
                said: latest
                    .as_ref()
                    .filter(|_| node.is_configured())
                    .and_then(|latest| latest.outcome.as_ref().ok()),
                was: node.assessed_role(),
            })
            .collect();
        let Assessment { roles, conflicts } = assess(&candidates, &mut known.history);
        let mut changes = Vec::new();
        for ((at, node), role) in nodes.iter().zip(roles) {
            let (from, displaced) = node.take_on(role, moved && at == index);
            if from != role || displaced {
                let change =
                    Change { index: at, node: Arc::clone(node), from, to: role, displaced, lost: false };
                changes.push(change);
            }
        }
        self.mark_lost(index, &nodes, &mut changes);
        if conflicts != known.conflicts {
            conflicts.iter().for_each(|conflict| self.log_conflict(&nodes, *conflict));
            known.conflicts = conflicts;
        }
        drop(known);
        if !changes.is_empty() {
            self.announce();
        }
        changes
    }

    /// Gives up what runs on a node that is silent and replaced, or silent for long.
    fn mark_lost(&self, index: NodeIndex, nodes: &Nodes, changes: &mut Vec<Change>) {
        let has_primary = nodes.iter().any(|(_, node)| node.assessed_role() == Some(Role::Primary));
        let new_primary = changes.iter().any(|change| change.to == Some(Role::Primary));
        for (at, node) in nodes.iter() {
            let Some(latest) = node.latest() else { continue };
            let just = |failures| at == index && latest.failures == failures;
            let replaced = latest.was_primary() && (new_primary || has_primary && just(1));
            if latest.failures > 0 && (replaced || just(FAILURES_UNTIL_LOST)) {
                let node = Arc::clone(node);
                changes.push(Change { index: at, node, from: None, to: None, displaced: false, lost: true });
            }
        }
    }

    fn log_conflict(&self, nodes: &Nodes, conflict: Conflict) {
        let address = |node: usize| &nodes.node(NodeIndex(node)).address;
        match conflict {
            Conflict::Outvoted { node, chosen } => tracing::error!(
                cluster = self.name,
                node = %address(node),
                chosen = %address(chosen),
                "two nodes take writes: only the one on the higher timeline is used as the primary"
            ),
            Conflict::Outdated { node, timeline, seen } => tracing::error!(
                cluster = self.name,
                node = %address(node),
                timeline,
                seen,
                "a node takes writes on a lower timeline than was seen before: it is not used; a reload accepts it"
            ),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a probe now, for example because a checkout failed.
    pub fn refresh(&self) {
        self.refresh.send_modify(|requests| *requests = requests.wrapping_add(1));
    }

    /// Changes whenever a node is used as something else.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells those who look after connections that nodes may be used as something else.
    pub fn announce(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    pub(super) fn refresh_requests(&self) -> watch::Receiver<u64> {
        self.refresh.subscribe()
    }
}

#[cfg(test)]
impl Cluster {
    /// Gives a node a role, whatever it and the others say.
    pub fn observe(&self, index: NodeIndex, role: Option<Role>) {
        self.node(index).take_on(role, false);
        self.announce();
    }
}

#[cfg(test)]
mod tests;
