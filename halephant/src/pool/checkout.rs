//! Taking a server connection out of a pool: at once, or after waiting in line.

use super::state::{self, State};
use super::waiter::{Waiter, WaiterId, Waiting};
use super::{CheckoutError, Lease, Pool, UserIndex};
use crate::net::Role;
use crate::server::parameters::SessionParameters;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A connection that was idle for less than this is not asked whether it is still alive.
const FRESH: Duration = Duration::from_millis(5);

impl Pool {
    /// A free connection, if there is one and nobody waits for it.
    pub fn try_checkout(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
    ) -> Option<Lease> {
        let worker = self.workers.here_or_next();
        loop {
            let lease = self.lock().take_idle(&self.limits(), user, role, worker, wanted)?;
            if let Some(lease) = alive(lease) {
                self.metrics.checkouts.record(Duration::ZERO);
                return Some(lease);
            }
        }
    }

    /// Waits for a connection, first come, first served, for at most the pool's checkout_timeout.
    ///
    /// Cancel safe: a dropped checkout leaves the queue, and a connection granted meanwhile goes back to the pool.
    pub async fn checkout(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
    ) -> Result<Lease, CheckoutError> {
        if let Some(lease) = self.try_checkout(user, role, wanted) {
            return Ok(lease);
        }
        let began = Instant::now();
        let result = self.wait(user, role).await;
        self.metrics.waits.record(began.elapsed());
        match &result {
            Ok(_) => self.metrics.checkouts.record(began.elapsed()),
            Err(error) => error.kind().into_iter().for_each(|kind| self.metrics.errors.add(kind, 1)),
        }
        result
    }

    /// The part of a checkout that stands in the queue.
    pub(super) async fn wait(self: &Arc<Self>, user: UserIndex, role: Role) -> Result<Lease, CheckoutError> {
        let after = self.settings.checkout_timeout;
        let deadline = tokio::time::Instant::now() + after;
        let id = WaiterId(self.next_waiter.fetch_add(1, Ordering::Relaxed));
        loop {
            let waiting = self.enqueue(user, role, id)?;
            let Ok(granted) = tokio::time::timeout_at(deadline, waiting).await else {
                return Err(self.timed_out(user, role, after));
            };
            if let Some(lease) = alive(granted?) {
                return Ok(lease);
            }
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        id: WaiterId,
    ) -> Result<Waiting, CheckoutError> {
        if !self.has_capacity(user, role) {
            return Err(CheckoutError::NoCapacity {
                pool: self.settings.name.clone(),
                user: self.settings.users[user.0].name.clone(),
                role,
            });
        }
        let (grant, granted) = oneshot::channel();
        let mut closed = false;
        self.decide(|state, limits, steps| {
            closed = state.closed;
            if !closed {
                state.enqueue(user, role, Waiter { id, since: Instant::now(), grant });
                state.open_for_waiters(limits, user, role, steps);
            }
        });
        if closed {
            return Err(CheckoutError::Closed);
        }
        Ok(Waiting { pool: Arc::clone(self), user, role, id, granted, done: false })
    }

    /// Whether the configuration gives the user any connection to a node of this role.
    pub fn has_capacity(&self, user: UserIndex, role: Role) -> bool {
        let own = self.settings.users[user.0].max_connections;
        state::of(self.settings.max_connections, role) > 0 && own.is_none_or(|own| state::of(own, role) > 0)
    }

    fn timed_out(&self, user: UserIndex, role: Role, after: Duration) -> CheckoutError {
        let limits = self.limits();
        if limits.candidates(role).next().is_none() {
            return CheckoutError::NoNode { cluster: self.cluster.name.clone(), role, after };
        }
        let state = self.lock();
        let connected =
            |state: &State| state.users[user.0].nodes.iter().any(|node| node.connections > node.opening);
        match state.users[user.0].last_failure.clone() {
            Some(last) if !connected(&state) => CheckoutError::Unreachable { last, after },
            _ => CheckoutError::Timeout { limit: state::limit_text(&limits, &state, user, role), after },
        }
    }

    /// Clients waiting, and for how long the first of them has been.
    pub fn queue(&self, user: UserIndex, role: Role) -> (usize, Option<Duration>) {
        let state = self.lock();
        let waiting = state.waiting(user, role);
        (waiting.len(), waiting.front().map(|waiter| waiter.since.elapsed()))
    }
}

/// Takes a connection over for the calling worker, unless it ended while it was idle; then it is closed.
fn alive(mut lease: Lease) -> Option<Lease> {
    let stale = lease.idle_since.elapsed() >= FRESH;
    if !lease.connection().is_alive(stale) {
        tracing::debug!(node = lease.node().0, "an idle server connection had ended; it is replaced");
        return None;
    }
    match lease.adopt() {
        Ok(lease) => Some(lease),
        Err(error) => {
            tracing::warn!(%error, "could not move a server connection to another worker");
            None
        }
    }
}
