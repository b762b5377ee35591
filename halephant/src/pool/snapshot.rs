//! A pool at one moment: what the admin API, the console and metrics show.

use super::Pool;
use super::registry::ServerStats;
use super::settings::PoolSettings;
use super::state::{self, UserIndex};
use crate::net::Role;
use crate::telemetry::metrics::PoolMetrics;
use crate::telemetry::trace::Tracer;
use crate::topology::NodeIndex;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct PoolSnapshot {
    /// In the order of the settings' users.
    pub users: Vec<UserSnapshot>,
    pub closed: bool,
    /// By an order of the console: it lends nothing.
    pub paused: bool,
}

#[derive(Clone, Debug)]
pub struct UserSnapshot {
    /// By position in the cluster's nodes, those that are no longer configured included.
    pub nodes: Vec<NodeConnections>,
    /// By role.
    pub queues: [QueueSnapshot; 2],
}

/// One user's connections to one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeConnections {
    pub idle: u32,
    pub used: u32,
    pub opening: u32,
    pub closing: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSnapshot {
    pub role: Role,
    pub depth: usize,
    /// How long the first in line has been waiting.
    pub oldest_wait: Option<Duration>,
}

impl Pool {
    /// A copy, made under the pool's lock.
    pub fn snapshot(&self) -> PoolSnapshot {
        let (state, _) = self.shared.locked();
        let users = self.users().map(|(index, _)| UserSnapshot {
            nodes: state.users[index.0].nodes.iter().map(connections).collect(),
            queues: Role::ALL.map(|role| {
                let waiting = state.waiting(index, role);
                let oldest_wait = waiting.front().map(|waiter| waiter.since.elapsed());
                QueueSnapshot { role, depth: waiting.len(), oldest_wait }
            }),
        });
        PoolSnapshot { users: users.collect(), closed: state.closed, paused: state.paused }
    }

    /// Spans are made with it from now on; the first call counts.
    pub fn set_tracer(&self, tracer: Tracer) {
        let _ = self.shared.tracer.set(tracer);
    }

    /// Every open server connection, the oldest first.
    pub fn servers(&self) -> Vec<Arc<ServerStats>> {
        self.shared.registry.servers()
    }

    /// The name of a user whose connections there are.
    pub fn user_name(&self, user: UserIndex) -> Option<String> {
        let bounds = self.shared.bounds();
        (user.0 < bounds.len()).then(|| bounds.member(user).name().to_owned())
    }

    pub fn metrics(&self) -> &Arc<PoolMetrics> {
        &self.shared.metrics
    }

    /// The most connections that the pool may have to a node, by the node's role.
    pub fn limit(&self, node: NodeIndex) -> u32 {
        let role = self.cluster().node(node).role();
        role.map_or(0, |role| PoolSettings::limit(&self.settings, role))
    }
}

impl PoolSettings {
    pub fn limit(&self, role: Role) -> u32 {
        state::of(self.max_connections, role)
    }
}

fn connections(node: &state::NodeUse) -> NodeConnections {
    let idle = u32::try_from(node.idle.len()).unwrap_or(u32::MAX);
    let (opening, closing) = (node.opening, node.closing);
    NodeConnections {
        idle,
        used: node.connections.saturating_sub(idle).saturating_sub(opening).saturating_sub(closing),
        opening,
        closing,
    }
}
