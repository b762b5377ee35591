//! What a pool does by the clock: ends idle and old connections, keeps the configured minimum open, closes at the end.

use super::shared::Shared;
use super::state::{self, Limits, State, Step, UserIndex};
use crate::net::Role;
use crate::topology::NodeIndex;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const TEND_INTERVAL: Duration = Duration::from_secs(1);

/// Tends a pool at every interval and change of a node's role, until nobody uses it.
pub(super) async fn tend(pool: Weak<Shared>, mut changes: watch::Receiver<u64>) {
    let mut clock = tokio::time::interval(TEND_INTERVAL);
    loop {
        tokio::select! {
            _ = clock.tick() => {}
            Ok(()) = changes.changed() => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        pool.tend_now();
        if pool.ends() {
            return;
        }
    }
}

impl Shared {
    /// Whether it is not configured, and no session is left, and no connection: then nobody comes back to it.
    fn ends(&self) -> bool {
        let bounds = self.bounds();
        let unused = (0..bounds.len()).map(UserIndex).all(|user| bounds.member(user).is_retired());
        let mut state = self.lock();
        state.ended = state.retired && unused && state.connections() == 0;
        state.ended
    }

    /// Takes a retired pool back into use. `false`: it has ended.
    pub(super) fn revive(&self) -> bool {
        let mut state = self.lock();
        state.retired &= state.ended;
        !state.ended
    }

    pub(super) fn tend_now(self: &Arc<Self>) {
        let now = Instant::now();
        self.decide(|state, limits, steps| {
            let users = || (0..limits.bounds.len()).map(UserIndex);
            let nodes = || (0..limits.nodes.len()).map(NodeIndex);
            users().for_each(|user| nodes().for_each(|node| state.expire(limits, user, node, now, steps)));
            // Who waits comes before what is kept for later.
            state.open_for_all(limits, steps);
            users().for_each(|user| nodes().for_each(|node| state.refill(limits, user, node, now, steps)));
        });
    }

    pub(super) fn close(self: &Arc<Self>) {
        self.decide(|state, _, steps| {
            state.closed = true;
            state.retire_idle(steps);
            for user in (0..state.users.len()).map(UserIndex) {
                // A waiter whose sender is dropped learns that the pool was closed.
                Role::ALL.into_iter().for_each(|role| drop(state.drain_waiters(user, role)));
            }
        });
    }

    pub(super) fn connections(&self) -> u32 {
        self.lock().connections()
    }
}

impl State {
    fn expire(
        &mut self,
        limits: &Limits,
        user: UserIndex,
        node: NodeIndex,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let role = limits.role(node);
        let member = limits.user(user);
        let retired = member.is_retired();
        let floor = role.map_or(0, |role| state::of(member.min_connections, role));
        let tenure = limits.nodes.node(node).tenure();
        let node_use = &mut self.users[user.0].nodes[node.0];
        let mut staying = node_use.connections - node_use.closing;
        let mut ending = Vec::new();
        let mut at = 0;
        while let Some(lease) = node_use.idle.get(at) {
            let unused =
                now.duration_since(lease.idle_since) >= limits.bounds.idle_timeout && staying > floor;
            let void = role.is_none() || retired || lease.slot.tenure != tenure || lease.expires <= now;
            if void || unused {
                ending.extend(node_use.idle.remove(at));
                staying -= 1;
            } else {
                at += 1;
            }
        }
        ending.into_iter().for_each(|lease| self.retire(lease, steps));
        // The limit may have changed, also with the node's role.
        while role.is_none_or(|role| self.is_over_limit(limits, user, node, role))
            && let Some(lease) = self.users[user.0].nodes[node.0].idle.pop_front()
        {
            self.retire(lease, steps);
        }
    }

    /// Opens towards min_connections; the limits and the back-off after failures hold here too.
    fn refill(
        &mut self,
        limits: &Limits,
        user: UserIndex,
        node: NodeIndex,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let Some(role) = limits.role(node) else { return };
        let floor = state::of(limits.user(user).min_connections, role);
        while !self.closed
            && self.users[user.0].nodes[node.0].connections < floor
            && self.may_open(limits, user, node, role, now)
            && self.node_total(node) < limits.pool_max(role)
        {
            self.reserve(user, node);
            steps.push(Step::WarmUp(user, node));
        }
    }
}
