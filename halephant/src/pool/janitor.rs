//! What a pool does by the clock: ends idle and old connections, keeps the configured minimum open, closes at the end.

use super::state::{self, Limits, State, Step, UserIndex};
use super::{Lease, Pool};
use crate::topology::NodeIndex;
use std::sync::Arc;
use std::time::Instant;

impl Pool {
    /// One round: call it about once a second.
    pub fn tend(self: &Arc<Self>) {
        let now = Instant::now();
        self.decide(|state, limits, steps| {
            let users = || (0..self.settings.users.len()).map(UserIndex);
            let nodes = || (0..self.cluster.len()).map(NodeIndex);
            users().for_each(|user| nodes().for_each(|node| state.expire(limits, user, node, now, steps)));
            // Who waits comes before what is kept for later.
            state.open_for_all(limits, steps);
            users().for_each(|user| nodes().for_each(|node| state.refill(limits, user, node, now, steps)));
        });
    }

    /// Closes every idle connection and refuses checkouts from now on; lent connections end as they come back.
    pub fn close(self: &Arc<Self>) {
        self.decide(|state, _, steps| {
            state.closed = true;
            let leases: Vec<Lease> = state
                .users
                .iter_mut()
                .flat_map(|user| user.nodes.iter_mut().flat_map(|node| node.idle.drain(..)))
                .collect();
            leases.into_iter().for_each(|lease| state.retire(lease, steps));
            for user in (0..state.users.len()).map(UserIndex) {
                // A waiter whose sender is dropped learns that the pool was closed.
                crate::net::Role::ALL.into_iter().for_each(|role| drop(state.drain_waiters(user, role)));
            }
        });
    }

    /// Connections that count against the limits, of all users and nodes.
    pub fn connections(&self) -> u32 {
        self.lock().users.iter().flat_map(|user| &user.nodes).map(|node| node.connections).sum()
    }
}

impl State {
    fn expire(
        &mut self,
        limits: &Limits<'_>,
        user: UserIndex,
        node: NodeIndex,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let role = limits.cluster.node(node).role();
        let floor = role.map_or(0, |role| state::of(limits.user(user).min_connections, role));
        let node_use = &mut self.users[user.0].nodes[node.0];
        let mut staying = node_use.connections - node_use.closing;
        let mut ending = Vec::new();
        let mut at = 0;
        while let Some(lease) = node_use.idle.get(at) {
            let unused =
                now.duration_since(lease.idle_since) >= limits.settings.idle_timeout && staying > floor;
            if role.is_none() || lease.expires <= now || unused {
                ending.extend(node_use.idle.remove(at));
                staying -= 1;
            } else {
                at += 1;
            }
        }
        ending.into_iter().for_each(|lease| self.retire(lease, steps));
        // The node's role, and with it the limit, may have changed.
        while self.is_over_limit(limits, user, node)
            && let Some(lease) = self.users[user.0].nodes[node.0].idle.pop_front()
        {
            self.retire(lease, steps);
        }
    }

    /// Opens towards min_connections; the limits and the back-off after failures hold here too.
    fn refill(
        &mut self,
        limits: &Limits<'_>,
        user: UserIndex,
        node: NodeIndex,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let Some(role) = limits.cluster.node(node).role() else { return };
        let floor = state::of(limits.user(user).min_connections, role);
        while !self.closed
            && self.users[user.0].nodes[node.0].connections < floor
            && self.may_open(limits, user, node, role, now)
            && self.node_total(node) < limits.pool_max(role)
        {
            self.reserve(user, node);
            steps.push(Step::Open(user, node));
        }
    }
}
