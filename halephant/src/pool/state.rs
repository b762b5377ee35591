//! What a pool counts and queues, under one lock; every decision is made here, nothing is awaited.

use super::lease::{Lease, Slot};
use super::registry::ServerState;
use super::settings::{PoolSettings, RoleLimits, UserSettings};
use super::waiter::{Grant, Waiter, WaiterId};
use crate::net::Role;
use crate::server::parameters::SessionParameters;
use crate::topology::{Cluster, NodeIndex};
use crate::worker::WorkerId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Connections that are being opened to one node at a time: a login storm reaches PostgreSQL as a queue.
pub const OPENING_PER_NODE_MAX: u32 = 8;
/// Idle connections looked at for one that fits best.
const IDLE_SCAN_MAX: usize = 8;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The position of a user in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserIndex(pub usize);

pub(super) struct State {
    pub(super) users: Vec<UserState>,
    /// Connections being opened, per node.
    opening: Vec<u32>,
    pub(super) closed: bool,
    rotation: usize,
}

pub(super) struct UserState {
    pub(super) nodes: Vec<NodeUse>,
    /// First come, first served, whichever node serves; indexed by role.
    waiting: [VecDeque<Waiter>; 2],
}

/// One user's connections to one node.
#[derive(Default)]
pub(super) struct NodeUse {
    /// Every connection that counts against a limit: opening, idle, lent and closing.
    pub(super) connections: u32,
    pub(super) opening: u32,
    pub(super) closing: u32,
    pub(super) idle: VecDeque<Lease>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What is to be done once the lock is released.
pub(super) enum Step {
    Open(UserIndex, NodeIndex),
    Close(Lease),
    /// The waiter's receiver is told; a connection that it no longer wants comes back.
    Grant(Waiter, Grant),
}

/// The parts of a pool that decisions are made from and that do not change under the lock.
pub(super) struct Limits<'a> {
    pub(super) settings: &'a PoolSettings,
    pub(super) cluster: &'a Cluster,
}

impl Limits<'_> {
    fn role(&self, node: NodeIndex) -> Option<Role> {
        self.cluster.node(node).role()
    }

    pub(super) fn pool_max(&self, role: Role) -> u32 {
        of(self.settings.max_connections, role)
    }

    fn user_max(&self, user: UserIndex, role: Role) -> u32 {
        self.user(user).max_connections.map_or(u32::MAX, |limits| of(limits, role)).min(self.pool_max(role))
    }

    pub(super) fn user(&self, user: UserIndex) -> &UserSettings {
        &self.settings.users[user.0]
    }

    pub(super) fn candidates(&self, role: Role) -> impl Iterator<Item = NodeIndex> {
        self.cluster.nodes().filter(move |(_, node)| node.role() == Some(role)).map(|(index, _)| index)
    }
}

pub(super) fn of(limits: RoleLimits, role: Role) -> u32 {
    match role {
        Role::Primary => limits.primary,
        Role::Replica => limits.replica,
    }
}

impl State {
    pub(super) fn new(users: usize, nodes: usize) -> Self {
        let user = || UserState {
            nodes: std::iter::repeat_with(NodeUse::default).take(nodes).collect(),
            waiting: [VecDeque::new(), VecDeque::new()],
        };
        Self {
            users: std::iter::repeat_with(user).take(users).collect(),
            opening: vec![0; nodes],
            closed: false,
            rotation: 0,
        }
    }

    fn use_of(&mut self, user: UserIndex, node: NodeIndex) -> &mut NodeUse {
        &mut self.users[user.0].nodes[node.0]
    }

    pub(super) fn node_total(&self, node: NodeIndex) -> u32 {
        self.users.iter().map(|user| user.nodes[node.0].connections).sum()
    }

    pub(super) fn waiting(&self, user: UserIndex, role: Role) -> &VecDeque<Waiter> {
        &self.users[user.0].waiting[role as usize]
    }

    /// Takes an idle connection, unless somebody is waiting already.
    pub(super) fn take_idle(
        &mut self,
        limits: &Limits<'_>,
        user: UserIndex,
        role: Role,
        worker: WorkerId,
        wanted: &SessionParameters,
    ) -> Option<Lease> {
        if !self.waiting(user, role).is_empty() {
            return None;
        }
        self.rotation = self.rotation.wrapping_add(1);
        let nodes = &self.users[user.0].nodes;
        // Fewest in use first; among equals they take turns.
        let node =
            limits.candidates(role).filter(|node| !nodes[node.0].idle.is_empty()).min_by_key(|node| {
                let node_use = &nodes[node.0];
                let turn = node.0.wrapping_add(self.rotation) % nodes.len();
                (node_use.connections as usize - node_use.idle.len(), turn)
            })?;
        let idle = &mut self.use_of(user, node).idle;
        let last = idle.len() - 1;
        // The most recently used one is the warmest; one that needs no SET and no move between reactors is better.
        let best = (0..idle.len().min(IDLE_SCAN_MAX)).map(|back| last - back).max_by_key(|&at| {
            let lease = &idle[at];
            (lease.applied() == wanted, lease.worker == worker, at)
        })?;
        let lease = idle.remove(best)?;
        lease.server.set_state(ServerState::Used);
        Some(lease)
    }

    pub(super) fn enqueue(&mut self, user: UserIndex, role: Role, waiter: Waiter) {
        let waiting = &mut self.users[user.0].waiting[role as usize];
        // A waiter that was handed a dead connection has its old number and goes back to where it stood.
        let at = waiting.iter().rposition(|ahead| ahead.id < waiter.id).map_or(0, |ahead| ahead + 1);
        waiting.insert(at, waiter);
    }

    /// Removes a waiter that gave up. Returns whether it was still queued.
    pub(super) fn give_up(&mut self, user: UserIndex, role: Role, id: WaiterId) -> bool {
        let waiting = &mut self.users[user.0].waiting[role as usize];
        let found = waiting.iter().position(|waiter| waiter.id == id);
        found.is_some_and(|at| waiting.remove(at).is_some())
    }

    /// Opens what the waiters of one user need and the limits allow; makes room where other users' idle connections
    /// hold it.
    pub(super) fn open_for_waiters(
        &mut self,
        limits: &Limits<'_>,
        user: UserIndex,
        role: Role,
        steps: &mut Vec<Step>,
    ) {
        if self.closed {
            return;
        }
        let now = Instant::now();
        loop {
            let coming: u32 =
                limits.candidates(role).map(|node| self.users[user.0].nodes[node.0].opening).sum();
            if self.waiting(user, role).len() <= coming as usize {
                return;
            }
            if let Some(node) = self.open_candidate(limits, user, role, now) {
                self.reserve(user, node);
                steps.push(Step::Open(user, node));
                continue;
            }
            match self.evict_for(limits, user, role, now) {
                Some(lease) => steps.push(Step::Close(lease)),
                None => return,
            }
            return;
        }
    }

    pub(super) fn may_open(
        &self,
        limits: &Limits<'_>,
        user: UserIndex,
        node: NodeIndex,
        role: Role,
        now: Instant,
    ) -> bool {
        let node_use = &self.users[user.0].nodes[node.0];
        node_use.connections < limits.user_max(user, role)
            && self.opening[node.0] < OPENING_PER_NODE_MAX
            && node_use.not_before.is_none_or(|not_before| not_before <= now)
    }

    fn open_candidate(
        &self,
        limits: &Limits<'_>,
        user: UserIndex,
        role: Role,
        now: Instant,
    ) -> Option<NodeIndex> {
        limits
            .candidates(role)
            .filter(|&node| {
                self.may_open(limits, user, node, role, now) && self.node_total(node) < limits.pool_max(role)
            })
            .min_by_key(|node| self.users[user.0].nodes[node.0].connections)
    }

    /// Takes the longest idle connection of another user on a node where only the pool's limit is in the way.
    fn evict_for(&mut self, limits: &Limits<'_>, user: UserIndex, role: Role, now: Instant) -> Option<Lease> {
        let node = limits.candidates(role).find(|&node| {
            self.may_open(limits, user, node, role, now)
                && self.users.iter().all(|other| other.nodes[node.0].closing == 0)
        })?;
        let (other, _) = self
            .users
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != user.0)
            .filter_map(|(other, state)| Some((other, state.nodes[node.0].idle.front()?.idle_since)))
            .min_by_key(|&(_, since)| since)?;
        let evicted = self.use_of(UserIndex(other), node);
        let mut lease = evicted.idle.pop_front()?;
        evicted.closing += 1;
        lease.slot.closing = true;
        Some(lease)
    }

    pub(super) fn reserve(&mut self, user: UserIndex, node: NodeIndex) {
        self.opening[node.0] += 1;
        let node_use = self.use_of(user, node);
        node_use.connections += 1;
        node_use.opening += 1;
    }

    /// A connection was opened; it goes where a returned one would go.
    pub(super) fn opened(&mut self, limits: &Limits<'_>, lease: Lease, steps: &mut Vec<Step>) {
        let (user, node) = (lease.slot.user, lease.slot.node);
        self.opening[node.0] -= 1;
        let node_use = self.use_of(user, node);
        node_use.opening -= 1;
        node_use.failures = 0;
        node_use.not_before = None;
        self.settle(limits, lease, steps);
    }

    /// A connection could not be opened; its slot is still held by the caller. Returns when to try again.
    pub(super) fn open_failed(&mut self, user: UserIndex, node: NodeIndex) -> Duration {
        self.opening[node.0] -= 1;
        let node_use = self.use_of(user, node);
        node_use.opening -= 1;
        node_use.failures = node_use.failures.saturating_add(1);
        let doubled = BACKOFF_MIN.saturating_mul(1 << (node_use.failures - 1).min(16)).min(BACKOFF_MAX);
        let wait = doubled.mul_f64(rand::random_range(0.5..1.0));
        node_use.not_before = Some(Instant::now() + wait);
        wait
    }

    /// Takes every waiter of a user, for an error that waiting cannot mend.
    pub(super) fn drain_waiters(&mut self, user: UserIndex, role: Role) -> VecDeque<Waiter> {
        std::mem::take(&mut self.users[user.0].waiting[role as usize])
    }

    /// Finds the place of a clean connection: the longest waiter, the idle ones, or none.
    pub(super) fn settle(&mut self, limits: &Limits<'_>, mut lease: Lease, steps: &mut Vec<Step>) {
        let Slot { user, node, .. } = lease.slot;
        let role = limits.role(node);
        let now = Instant::now();
        let over_limit = role.is_none_or(|role| {
            self.users[user.0].nodes[node.0].connections > limits.user_max(user, role)
                || self.node_total(node) > limits.pool_max(role)
        });
        if self.closed || over_limit || lease.expires <= now {
            self.retire(lease, steps);
            return;
        }
        let role = role.expect("a node without a role is over its limit");
        if self.owes_room(limits, user, node, role) {
            self.retire(lease, steps);
            return;
        }
        lease.idle_since = now;
        if let Some(waiter) = self.users[user.0].waiting[role as usize].pop_front() {
            steps.push(Step::Grant(waiter, Ok(lease)));
            return;
        }
        lease.server.set_state(ServerState::Idle);
        self.use_of(user, node).idle.push_back(lease);
    }

    pub(super) fn retire(&mut self, mut lease: Lease, steps: &mut Vec<Step>) {
        self.mark_closing(&mut lease.slot);
        steps.push(Step::Close(lease));
    }

    pub(super) fn mark_closing(&mut self, slot: &mut Slot) {
        if !std::mem::replace(&mut slot.closing, true) {
            self.use_of(slot.user, slot.node).closing += 1;
        }
    }

    /// Whether another user waits for the pool's limit and has two connections fewer, or this one does not need its
    /// connection: then it gives way. The difference keeps two busy users from trading one connection forever.
    fn owes_room(&self, limits: &Limits<'_>, user: UserIndex, node: NodeIndex, role: Role) -> bool {
        if self.node_total(node) < limits.pool_max(role) {
            return false;
        }
        let closing: u32 = self.users.iter().map(|other| other.nodes[node.0].closing).sum();
        let needed = self.waiting(user, role).front().is_some();
        let mine = self.users[user.0].nodes[node.0].connections;
        closing == 0
            && (0..self.users.len()).map(UserIndex).any(|other| {
                let theirs = self.users[other.0].nodes[node.0].connections;
                other != user
                    && !self.waiting(other, role).is_empty()
                    && theirs < limits.user_max(other, role)
                    && (!needed || theirs + 1 < mine)
            })
    }

    /// A slot is free again.
    pub(super) fn release(&mut self, slot: &Slot) {
        let node_use = self.use_of(slot.user, slot.node);
        node_use.connections -= 1;
        node_use.closing -= u32::from(slot.closing);
    }

    /// Everybody who waits, for what a freed slot or a changed role makes possible.
    pub(super) fn open_for_all(&mut self, limits: &Limits<'_>, steps: &mut Vec<Step>) {
        for user in (0..self.users.len()).map(UserIndex) {
            for role in Role::ALL {
                if !self.waiting(user, role).is_empty() {
                    self.open_for_waiters(limits, user, role, steps);
                }
            }
        }
    }
}

/// Makes the limit that keeps `user` waiting for a node of `role` readable.
pub(super) fn limit_text(limits: &Limits<'_>, state: &State, user: UserIndex, role: Role) -> String {
    let settings = limits.user(user);
    let user_max = limits.user_max(user, role);
    let at_user_limit = settings.max_connections.is_some()
        && limits.candidates(role).all(|node| state.users[user.0].nodes[node.0].connections >= user_max);
    let pool = &limits.settings.name;
    if at_user_limit && user_max < limits.pool_max(role) {
        format!("pool \"{pool}\", user \"{}\": max_connections.{role} = {user_max} is reached", settings.name)
    } else {
        format!("pool \"{pool}\": max_connections.{role} = {} is reached", limits.pool_max(role))
    }
}
