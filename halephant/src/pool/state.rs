//! What a pool counts and queues, under one lock; every decision is made here, nothing is awaited.

use super::bounds::{Bounds, Member};
use super::lease::{Lease, Slot};
use super::registry::ServerState;
use super::settings::RoleLimits;
use super::waiter::{self, Grant, Waiter, WaiterId};
use crate::net::Role;
use crate::server::OpenError;
use crate::server::parameters::SessionParameters;
use crate::topology::{NodeIndex, Nodes};
use crate::worker::WorkerId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that are being opened to one node at a time: a login storm reaches PostgreSQL as a queue.
pub const OPENING_PER_NODE_MAX: u32 = 8;
/// Idle connections looked at for one that fits best.
const IDLE_SCAN_MAX: usize = 8;
/// A user without any connection waits for at most this part of checkout_timeout for another one's to come back.
const TURNS_PER_CHECKOUT_TIMEOUT: u32 = 4;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The position of a user in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserIndex(pub(super) usize);

#[derive(Default)]
pub(super) struct State {
    pub(super) users: Vec<UserState>,
    /// Connections being opened, per node.
    opening: Vec<u32>,
    pub(super) closed: bool,
    /// Nothing is lent or opened until it is resumed.
    pub(super) paused: bool,
    /// Connections of an older one are not lent again.
    pub(super) epoch: u32,
    /// No configuration has the pool.
    pub(super) retired: bool,
    /// Nobody looks after it any more: it was retired, and nothing was left in it.
    pub(super) ended: bool,
    rotation: usize,
}

#[derive(Default)]
pub(super) struct UserState {
    pub(super) nodes: Vec<NodeUse>,
    /// First come, first served, whichever node serves; indexed by role.
    waiting: [VecDeque<Waiter>; 2],
    /// Why a connection could not be opened, until one could: told to waiters whose time runs out.
    pub(super) last_failure: Option<Arc<OpenError>>,
}

/// One user's connections to one node.
#[derive(Default)]
pub(super) struct NodeUse {
    /// Every connection that counts against a limit: opening, idle, lent and closing.
    pub(super) connections: u32,
    pub(super) opening: u32,
    pub(super) closing: u32,
    pub(super) idle: VecDeque<Lease>,
    pub(super) failures: u32,
    failed_at: Option<Instant>,
    not_before: Option<Instant>,
}

/// What is to be done once the lock is released.
pub(super) enum Step {
    Open(UserIndex, NodeIndex),
    /// As `Open`, for min_connections.
    WarmUp(UserIndex, NodeIndex),
    Close(Lease),
    /// The waiter's receiver is told; a connection that it no longer wants comes back.
    Grant(Waiter, Grant),
}

/// The parts of a pool that decisions are made from and that do not change under the lock.
pub(super) struct Limits {
    pub(super) bounds: Arc<Bounds>,
    pub(super) nodes: Nodes,
}

impl Limits {
    pub(super) fn role(&self, node: NodeIndex) -> Option<Role> {
        self.nodes.node(node).role()
    }

    pub(super) fn pool_max(&self, role: Role) -> u32 {
        of(self.bounds.max_connections, role)
    }

    pub(super) fn user_max(&self, user: UserIndex, role: Role) -> u32 {
        self.user(user).max_connections.map_or(u32::MAX, |limits| of(limits, role)).min(self.pool_max(role))
    }

    pub(super) fn user(&self, user: UserIndex) -> &Member {
        self.bounds.member(user)
    }

    pub(super) fn candidates(&self, role: Role) -> impl Iterator<Item = NodeIndex> {
        self.nodes.iter().filter(move |(_, node)| node.role() == Some(role)).map(|(index, _)| index)
    }
}

pub(super) fn of(limits: RoleLimits, role: Role) -> u32 {
    match role {
        Role::Primary => limits.primary,
        Role::Replica => limits.replica,
    }
}

impl State {
    /// Makes a place for every user and node that `limits` has: a reload may have brought new ones.
    pub(super) fn cover(&mut self, limits: &Limits) {
        let nodes = limits.nodes.len().max(self.opening.len());
        if self.users.len() < limits.bounds.len() || self.opening.len() < nodes {
            self.opening.resize(nodes, 0);
            let users = self.users.len().max(limits.bounds.len());
            self.users.resize_with(users, UserState::default);
            self.users.iter_mut().for_each(|user| user.nodes.resize_with(nodes, NodeUse::default));
        }
    }

    /// Whether nothing of a user is left. What its failures were is forgotten then.
    pub(super) fn is_unused(&mut self, user: UserIndex) -> bool {
        let Some(state) = self.users.get_mut(user.0) else { return true };
        let unused = state.waiting.iter().all(VecDeque::is_empty)
            && state.nodes.iter().all(|node| node.connections == 0);
        if unused {
            state.last_failure = None;
            state.nodes.iter_mut().for_each(|node| *node = NodeUse::default());
        }
        unused
    }

    fn use_of(&mut self, user: UserIndex, node: NodeIndex) -> &mut NodeUse {
        &mut self.users[user.0].nodes[node.0]
    }

    /// Of all users and nodes.
    pub(super) fn connections(&self) -> u32 {
        self.users.iter().flat_map(|user| &user.nodes).map(|node| node.connections).sum()
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
        limits: &Limits,
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

    /// Serves the waiters of one user from what is idle, and opens what the others of them need and the limits allow.
    pub(super) fn open_for_waiters(
        &mut self,
        limits: &Limits,
        user: UserIndex,
        role: Role,
        steps: &mut Vec<Step>,
    ) {
        if self.closed {
            return;
        }
        self.retire_outdated(limits, steps);
        self.serve_idle(limits, user, role, steps);
        while self.open_one(limits, user, role, steps) {}
    }

    /// Gives idle connections to waiters. There are both where a connection came back, or a node changed its role,
    /// between a client's look at what is idle and its place in the queue.
    fn serve_idle(&mut self, limits: &Limits, user: UserIndex, role: Role, steps: &mut Vec<Step>) {
        for node in limits.candidates(role) {
            let user = &mut self.users[user.0];
            let waiting = &mut user.waiting[role as usize];
            let tenure = limits.nodes.node(node).tenure();
            while !waiting.is_empty()
                && let Some(lease) = user.nodes[node.0].idle.pop_back_if(|lease| lease.slot.tenure == tenure)
            {
                lease.server.set_state(ServerState::Used);
                steps.extend(waiting.pop_front().map(|waiter| Step::Grant(waiter, Ok(lease))));
            }
        }
    }

    /// Ends the idle connections of a node that has changed since: nobody gets them, and they hold slots that waiters
    /// need. Nothing outdated becomes idle, so they are the oldest.
    fn retire_outdated(&mut self, limits: &Limits, steps: &mut Vec<Step>) {
        for user in 0..self.users.len() {
            for (index, node) in limits.nodes.iter() {
                let tenure = node.tenure();
                let Some(node_use) = self.users[user].nodes.get_mut(index.0) else { continue };
                while let Some(mut lease) = node_use.idle.pop_front_if(|lease| lease.slot.tenure != tenure) {
                    node_use.closing += u32::from(!std::mem::replace(&mut lease.slot.closing, true));
                    steps.push(Step::Close(lease));
                }
            }
        }
    }

    /// Opens one more connection if the waiters of a user need it and the limits allow it (`true`); makes room where
    /// other users' idle connections hold it.
    fn open_one(&mut self, limits: &Limits, user: UserIndex, role: Role, steps: &mut Vec<Step>) -> bool {
        let now = Instant::now();
        let coming: u32 = limits.candidates(role).map(|node| self.users[user.0].nodes[node.0].opening).sum();
        if self.waiting(user, role).len() <= coming as usize {
            return false;
        }
        if let Some(node) = self.open_candidate(limits, user, role, now) {
            self.reserve(user, node);
            steps.push(Step::Open(user, node));
            return true;
        }
        steps.extend(self.evict_for(limits, user, role, now).map(Step::Close));
        false
    }

    pub(super) fn may_open(
        &self,
        limits: &Limits,
        user: UserIndex,
        node: NodeIndex,
        role: Role,
        now: Instant,
    ) -> bool {
        let node_use = &self.users[user.0].nodes[node.0];
        !self.paused
            && node_use.connections < limits.user_max(user, role)
            && self.opening[node.0] < OPENING_PER_NODE_MAX
            && node_use.not_before.is_none_or(|not_before| not_before <= now)
    }

    fn open_candidate(
        &self,
        limits: &Limits,
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
    fn evict_for(&mut self, limits: &Limits, user: UserIndex, role: Role, now: Instant) -> Option<Lease> {
        let oldest = |node: NodeIndex| {
            let others = self.users.iter().enumerate().filter(|&(other, _)| other != user.0);
            let idle = others.filter_map(|(other, state)| {
                Some((state.nodes[node.0].idle.front()?.idle_since, UserIndex(other), node))
            });
            idle.min_by_key(|&(since, ..)| since)
        };
        let (_, other, node) = limits
            .candidates(role)
            .filter(|&node| self.may_open(limits, user, node, role, now) && self.closing(node) == 0)
            .filter_map(oldest)
            .min_by_key(|&(since, ..)| since)?;
        let mut lease = self.use_of(other, node).idle.pop_front()?;
        self.mark_closing(&mut lease.slot);
        Some(lease)
    }

    /// Connections to a node that are about to make room.
    fn closing(&self, node: NodeIndex) -> u32 {
        self.users.iter().map(|user| user.nodes[node.0].closing).sum()
    }

    /// Connections of one user to nodes of a role, those about to end not counted.
    fn held(&self, limits: &Limits, user: UserIndex, role: Role) -> u32 {
        let nodes = &self.users[user.0].nodes;
        limits.candidates(role).map(|node| nodes[node.0].connections - nodes[node.0].closing).sum()
    }

    /// Whether a user has more connections to a node, or all users together have, than its `role` allows; those about
    /// to end not counted.
    pub(super) fn is_over_limit(
        &self,
        limits: &Limits,
        user: UserIndex,
        node: NodeIndex,
        role: Role,
    ) -> bool {
        let own = &self.users[user.0].nodes[node.0];
        own.connections - own.closing > limits.user_max(user, role)
            || self.node_total(node) - self.closing(node) > limits.pool_max(role)
    }

    pub(super) fn reserve(&mut self, user: UserIndex, node: NodeIndex) {
        self.opening[node.0] += 1;
        let node_use = self.use_of(user, node);
        node_use.connections += 1;
        node_use.opening += 1;
    }

    /// A connection was opened; it goes where a returned one would go.
    pub(super) fn opened(&mut self, limits: &Limits, lease: Lease, steps: &mut Vec<Step>) {
        let (user, node) = (lease.slot.user, lease.slot.node);
        self.opening[node.0] -= 1;
        let node_use = self.use_of(user, node);
        node_use.opening -= 1;
        node_use.failures = 0;
        node_use.failed_at = None;
        node_use.not_before = None;
        self.users[user.0].last_failure = None;
        self.settle(limits, lease, steps);
        // Of the openings to one node at a time, one more may begin.
        self.open_for_all(limits, steps);
    }

    /// A connection could not be opened, which was begun at `began`; its slot is still held by the caller. Returns when to
    /// try again.
    pub(super) fn open_failed(
        &mut self,
        user: UserIndex,
        node: NodeIndex,
        began: Instant,
        error: &Arc<OpenError>,
    ) -> Duration {
        self.users[user.0].last_failure = Some(Arc::clone(error));
        self.opening[node.0] -= 1;
        let node_use = self.use_of(user, node);
        node_use.opening -= 1;
        let now = Instant::now();
        if let Some(not_before) = node_use.not_before
            && node_use.failed_at.is_some_and(|failed_at| began < failed_at)
        {
            // It was under way when another one failed: that is one failure of the node's.
            return not_before.saturating_duration_since(now);
        }
        node_use.failures = node_use.failures.saturating_add(1);
        let doubled = BACKOFF_MIN.saturating_mul(1 << (node_use.failures - 1).min(16)).min(BACKOFF_MAX);
        let wait = doubled.mul_f64(rand::random_range(0.5..1.0));
        node_use.failed_at = Some(now);
        node_use.not_before = Some(now + wait);
        wait
    }

    /// Whether a user has, or is about to have, a connection to a node of `role` beside the one that just failed to
    /// open on `failed`.
    pub(super) fn has_other(&self, limits: &Limits, user: UserIndex, role: Role, failed: NodeIndex) -> bool {
        let is_candidate = limits.role(failed) == Some(role);
        self.held(limits, user, role) > u32::from(is_candidate)
    }

    /// Takes every waiter of a user, for an error that waiting cannot mend.
    pub(super) fn drain_waiters(&mut self, user: UserIndex, role: Role) -> VecDeque<Waiter> {
        std::mem::take(&mut self.users[user.0].waiting[role as usize])
    }

    /// Takes the waiters of a user that came before `began`. Who came later may have brought what was missing.
    pub(super) fn drain_waiters_until(
        &mut self,
        user: UserIndex,
        role: Role,
        began: Instant,
    ) -> VecDeque<Waiter> {
        let waiting = &mut self.users[user.0].waiting[role as usize];
        let later = waiting.iter().position(|waiter| waiter.since > began).unwrap_or(waiting.len());
        let rest = waiting.split_off(later);
        std::mem::replace(waiting, rest)
    }

    /// Finds the place of a clean connection: the longest waiter, the idle ones, or none.
    pub(super) fn settle(&mut self, limits: &Limits, mut lease: Lease, steps: &mut Vec<Step>) {
        let Slot { user, node, .. } = lease.slot;
        // Once: in the next moment it may be another one.
        let Some(role) = limits.role(node) else {
            self.retire(lease, steps);
            return;
        };
        let is_current =
            limits.nodes.node(node).tenure() == lease.slot.tenure && self.epoch == lease.slot.epoch;
        let now = Instant::now();
        let over_limit = self.is_over_limit(limits, user, node, role);
        if self.closed
            || self.paused
            || !is_current
            || over_limit
            || lease.expires <= now
            || self.owes_room(limits, user, node, role)
        {
            self.retire(lease, steps);
            return;
        }
        lease.idle_since = now;
        if let Some(waiter) = waiter::take_next(&mut self.users[user.0].waiting[role as usize], lease.worker)
        {
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

    /// Whether another user waits for the pool's limit, and this one does not need its connection, has two more than
    /// the other, or keeps it from having any. The difference keeps two busy users from trading one connection for
    /// ever; where there is but one for both, they take turns.
    fn owes_room(&self, limits: &Limits, user: UserIndex, node: NodeIndex, role: Role) -> bool {
        if self.node_total(node) < limits.pool_max(role) || self.closing(node) > 0 {
            return false;
        }
        let turn = limits.bounds.checkout_timeout / TURNS_PER_CHECKOUT_TIMEOUT;
        let own = self.waiting(user, role).front();
        let mine = self.users[user.0].nodes[node.0].connections;
        (0..self.users.len()).map(UserIndex).filter(|&other| other != user).any(|other| {
            let theirs = self.users[other.0].nodes[node.0].connections;
            let Some(first) = self.waiting(other, role).front() else { return false };
            let starves = || self.held(limits, other, role) == 0 && first.since.elapsed() >= turn;
            theirs < limits.user_max(other, role)
                && own.is_none_or(|own| theirs + 1 < mine || (first.id < own.id && starves()))
        })
    }

    /// A slot is free again.
    pub(super) fn release(&mut self, slot: &Slot) {
        let node_use = self.use_of(slot.user, slot.node);
        node_use.connections -= 1;
        node_use.closing -= u32::from(slot.closing);
    }

    /// Everybody who waits, for what a freed slot or a changed role makes possible: one connection at a time, to the
    /// user that has the fewest, and among equals to the one that waits longest.
    pub(super) fn open_for_all(&mut self, limits: &Limits, steps: &mut Vec<Step>) {
        if self.closed {
            return;
        }
        self.retire_outdated(limits, steps);
        let mut needy = Vec::new();
        for user in (0..self.users.len()).map(UserIndex) {
            for role in Role::ALL {
                if !self.waiting(user, role).is_empty() {
                    self.serve_idle(limits, user, role, steps);
                    needy.push((user, role));
                }
            }
        }
        while let Some(next) = (0..needy.len()).min_by_key(|&at| {
            let (user, role) = needy[at];
            (self.held(limits, user, role), self.waiting(user, role).front().map(|waiter| waiter.id))
        }) {
            let (user, role) = needy[next];
            if !self.open_one(limits, user, role, steps) {
                needy.swap_remove(next);
            }
        }
    }
}

/// Makes the limit that keeps `user` waiting for a node of `role` readable.
pub(super) fn limit_text(limits: &Limits, state: &State, pool: &str, user: UserIndex, role: Role) -> String {
    let member = limits.user(user);
    let user_max = limits.user_max(user, role);
    let at_user_limit = member.max_connections.is_some()
        && limits.candidates(role).all(|node| state.users[user.0].nodes[node.0].connections >= user_max);
    let pool_max = limits.pool_max(role);
    if at_user_limit && user_max < pool_max {
        format!("pool \"{pool}\", user \"{}\": max_connections.{role} = {user_max} is reached", member.name())
    } else if limits.candidates(role).all(|node| state.node_total(node) >= pool_max) {
        format!("pool \"{pool}\": max_connections.{role} = {pool_max} is reached")
    } else {
        format!("pool \"{pool}\": none could be opened in time")
    }
}
