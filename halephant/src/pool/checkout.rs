//! Taking a server connection out of a pool: at once, or after waiting in line.

use super::shared::Shared;
use super::state::{self, State};
use super::waiter::{Waiter, WaiterId, Waiting};
use super::{CheckoutError, Lease, UserIndex};
use crate::net::Role;
use crate::server::parameters::SessionParameters;
use crate::telemetry::metrics::PoolMetrics;
use crate::worker::Workers;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A connection that was idle for less than this is not asked whether it is still alive.
const FRESH: Duration = Duration::from_millis(5);

impl Shared {
    pub(super) fn try_checkout(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
    ) -> Option<Lease> {
        let worker = self.workers.here_or_next();
        loop {
            let (mut state, limits) = self.locked();
            let lease = state.take_idle(&limits, user, role, worker, wanted)?;
            drop(state);
            if let Some(lease) = alive(lease) {
                self.metrics.checkouts.record(Duration::ZERO);
                return Some(lease);
            }
        }
    }

    pub(super) async fn checkout(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
        after: Duration,
    ) -> Result<Lease, CheckoutError> {
        if let Some(lease) = self.try_checkout(user, role, wanted) {
            return Ok(lease);
        }
        let began = Instant::now();
        let waited = Waited { metrics: &self.metrics, began };
        let result = self.wait(user, role, after).await;
        drop(waited);
        match &result {
            Ok(_) => self.metrics.checkouts.record(began.elapsed()),
            Err(error) => {
                error.kind().into_iter().for_each(|kind| self.metrics.errors.add(kind, 1));
                if error.is_suspicious() {
                    self.cluster.refresh();
                }
            }
        }
        result
    }

    /// The part of a checkout that stands in the queue.
    pub(super) async fn wait(
        self: &Arc<Self>,
        user: UserIndex,
        role: Role,
        after: Duration,
    ) -> Result<Lease, CheckoutError> {
        let deadline = tokio::time::Instant::now() + after;
        let id = WaiterId(self.next_waiter.fetch_add(1, Ordering::Relaxed));
        let since = Instant::now();
        loop {
            let waiting = self.enqueue(user, role, id, since)?;
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
        since: Instant,
    ) -> Result<Waiting, CheckoutError> {
        if !self.has_capacity(user, role) {
            return Err(CheckoutError::NoCapacity {
                pool: self.name.clone(),
                user: self.bounds().member(user).name().to_owned(),
                role,
            });
        }
        let (grant, granted) = oneshot::channel();
        let mut closed = false;
        self.decide(|state, limits, steps| {
            closed = state.closed;
            if !closed {
                state.enqueue(user, role, Waiter { id, since, worker: Workers::current(), grant });
                state.open_for_waiters(limits, user, role, steps);
            }
        });
        if closed {
            return Err(CheckoutError::Closed);
        }
        Ok(Waiting { pool: Arc::clone(self), user, role, id, granted, done: false })
    }

    pub(super) fn has_capacity(&self, user: UserIndex, role: Role) -> bool {
        let bounds = self.bounds();
        let own = bounds.member(user).max_connections;
        state::of(bounds.max_connections, role) > 0 && own.is_none_or(|own| state::of(own, role) > 0)
    }

    fn timed_out(&self, user: UserIndex, role: Role, after: Duration) -> CheckoutError {
        let (state, limits) = self.locked();
        if state.paused {
            return CheckoutError::Paused { pool: self.name.clone(), after };
        }
        if limits.candidates(role).next().is_none() {
            return CheckoutError::NoNode { cluster: self.cluster.name.clone(), role, after };
        }
        let connected =
            |state: &State| state.users[user.0].nodes.iter().any(|node| node.connections > node.opening);
        match state.users[user.0].last_failure.clone() {
            Some(last) if !connected(&state) => CheckoutError::Unreachable { last, after },
            _ => CheckoutError::Timeout {
                limit: state::limit_text(&limits, &state, &self.name, user, role),
                after,
            },
        }
    }

    pub(super) fn queue(&self, user: UserIndex, role: Role) -> (usize, Option<Duration>) {
        let (state, _) = self.locked();
        let waiting = state.waiting(user, role);
        (waiting.len(), waiting.front().map(|waiter| waiter.since.elapsed()))
    }
}

/// Takes the time of whoever stands in the queue, one who leaves it included.
struct Waited<'a> {
    metrics: &'a PoolMetrics,
    began: Instant,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.metrics.waits.record(self.began.elapsed());
    }
}

/// Takes a connection over for the calling worker, unless it ended while it was idle; then it is closed.
fn alive(mut lease: Lease) -> Option<Lease> {
    if !lease.slot.is_current() {
        tracing::debug!(
            node = lease.node().0,
            "an idle server connection was opened to what is another node now"
        );
        return None;
    }
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
