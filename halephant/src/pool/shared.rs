//! What the views of one pool share: its connections, its queue, and the limits that hold now.

use super::bounds::Bounds;
use super::lease::{Lease, Slot};
use super::registry::Registry;
use super::settings::PoolSettings;
use super::state::{Limits, State, Step, UserIndex};
use super::waiter::WaiterId;
use crate::net::Role;
use crate::server::{OpenError, Opener};
use crate::telemetry::metrics::PoolMetrics;
use crate::telemetry::trace::{Span, Tracer, attribute};
use crate::topology::{Cluster, NodeIndex};
use crate::worker::Workers;
use arc_swap::ArcSwap;
use opentelemetry::trace::SpanContext;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Shared {
    pub(super) name: String,
    bounds: ArcSwap<Bounds>,
    pub(super) cluster: Arc<Cluster>,
    opener: Arc<dyn Opener>,
    pub(super) workers: Workers,
    state: Mutex<State>,
    pub(super) next_waiter: AtomicU64,
    pub(super) registry: Arc<Registry>,
    pub(super) metrics: Arc<PoolMetrics>,
    /// Its clients ask for what `nextval()` gave them before.
    pub(super) recalls_sequences: AtomicBool,
    /// Nothing before it is set.
    pub(super) tracer: OnceLock<Tracer>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        name: String,
        cluster: Arc<Cluster>,
        opener: Arc<dyn Opener>,
        workers: Workers,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            bounds: ArcSwap::default(),
            cluster,
            opener,
            workers,
            state: Mutex::default(),
            next_waiter: AtomicU64::new(0),
            registry: Arc::default(),
            metrics: Arc::default(),
            recalls_sequences: AtomicBool::new(false),
            tracer: OnceLock::new(),
        })
    }

    /// Takes over the limits of `settings`. Returns the positions of its users. One reload at a time.
    pub(super) fn reconfigure(self: &Arc<Self>, settings: &PoolSettings) -> Vec<UserIndex> {
        let before = self.bounds.load_full();
        let (bounds, users) = before.succeeded_by(settings, |user| self.lock().is_unused(user));
        // Only its successor may name what nobody else does.
        drop(before);
        self.bounds.store(Arc::new(bounds));
        users
    }

    pub(super) fn bounds(&self) -> Arc<Bounds> {
        self.bounds.load_full()
    }

    pub(super) fn opener(&self) -> &Arc<dyn Opener> {
        &self.opener
    }

    /// The state, and the limits that hold while it is locked: limits that were looked at before it was may be of fewer
    /// users than it has by now.
    pub(super) fn locked(&self) -> (MutexGuard<'_, State>, Limits) {
        let mut state = self.lock();
        let limits = self.limits();
        state.cover(&limits);
        (state, limits)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { bounds: self.bounds.load_full(), nodes: self.cluster.nodes() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock aborts the process in release builds; in tests the state is still consistent enough
        // to be looked at.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides under the lock, acts after it.
    pub(super) fn decide(self: &Arc<Self>, decision: impl FnOnce(&mut State, &Limits, &mut Vec<Step>)) {
        let mut steps = Vec::new();
        let (mut state, limits) = self.locked();
        decision(&mut state, &limits, &mut steps);
        drop(state);
        self.carry_out(steps);
    }

    fn carry_out(self: &Arc<Self>, steps: Vec<Step>) {
        // Ends when the last connection of it is open.
        let mut warm_up: Option<Arc<Span>> = None;
        for step in steps {
            match step {
                Step::Open(user, node) => self.open(user, node, None),
                Step::WarmUp(user, node) => {
                    let span = warm_up.get_or_insert_with(|| Arc::new(self.span("pool.warmup", None)));
                    self.open(user, node, Some(Arc::clone(span)));
                }
                Step::Close(lease) => drop(lease),
                Step::Grant(waiter, grant) => {
                    // The waiter gave up in the meantime: its connection goes to the next one.
                    if let Err(Ok(lease)) = waiter.grant.send(grant) {
                        self.checkin(lease);
                    }
                }
            }
        }
    }

    pub(super) fn checkin(self: &Arc<Self>, lease: Lease) {
        self.decide(|state, limits, steps| state.settle(limits, lease, steps));
    }

    pub(super) fn give_up(self: &Arc<Self>, user: UserIndex, role: Role, id: WaiterId) -> bool {
        self.lock().give_up(user, role, id)
    }

    pub(super) fn mark_closing(&self, slot: &mut Slot) {
        self.lock().mark_closing(slot);
    }

    pub(super) fn release(self: &Arc<Self>, slot: &Slot) {
        self.decide(|state, limits, steps| {
            state.release(slot);
            state.open_for_all(limits, steps);
        });
    }

    /// Opens a connection on a slot that is already reserved, in the background of the calling worker.
    fn open(self: &Arc<Self>, user: UserIndex, index: NodeIndex, warm_up: Option<Arc<Span>>) {
        let pool = Arc::clone(self);
        let worker = self.workers.here_or_next();
        self.workers.spawn_on(worker, async move {
            let node = pool.cluster.node(index);
            // Read before the connection is there: what changes meanwhile makes it void.
            let tenure = node.tenure();
            let epoch = pool.lock().epoch;
            let slot = Slot { pool: Arc::clone(&pool), user, node: index, tenure, epoch, closing: false };
            let bounds = pool.bounds();
            let login = bounds.member(user).login();
            let parent = warm_up.as_ref().and_then(|span| span.reference());
            let mut span = pool.span("pool.connect", parent.as_ref());
            if span.is_on() {
                span.set(attribute::SERVER_ADDRESS, node.address.host.clone());
                span.set(attribute::SERVER_PORT, i64::from(node.address.port));
            }
            let began = Instant::now();
            let opened = pool.opener.open(&node.address, login).await;
            if let Err(error) = &opened {
                span.fail(error.kind());
            }
            drop((span, warm_up));
            match opened {
                Ok(connection) => {
                    pool.metrics.connects.record(began.elapsed());
                    let expires = Instant::now() + jittered(bounds.max_lifetime);
                    let lease = Lease::new(connection, slot, worker, expires);
                    pool.decide(|state, limits, steps| state.opened(limits, lease, steps));
                }
                Err(error) => pool.open_failed(slot, error, began).await,
            }
        });
    }

    /// A span about this pool.
    pub(super) fn span(&self, name: &'static str, parent: Option<&SpanContext>) -> Span {
        let mut span = self.tracer.get().map_or_else(Span::default, |tracer| tracer.child(name, parent));
        if span.is_on() {
            span.set(attribute::DB_SYSTEM_NAME, attribute::POSTGRESQL);
            span.set(attribute::CLUSTER, self.cluster.name.clone());
            span.set(attribute::POOL_NAME, self.name.clone());
        }
        span
    }

    async fn open_failed(self: &Arc<Self>, slot: Slot, error: OpenError, began: Instant) {
        let (user, node) = (slot.user, slot.node);
        self.metrics.errors.add(error.kind(), 1);
        let error = Arc::new(error);
        self.log_failure(user, node, &error);
        self.cluster.refresh();
        let mut wait = Duration::ZERO;
        self.decide(|state, limits, steps| {
            wait = state.open_failed(user, node, began, &error);
            if let Some(role) = self.cluster.node(node).role()
                && error.is_permanent()
                && !state.has_other(limits, user, role, node)
            {
                let waiters = match *error {
                    OpenError::NoCredentials { .. } => state.drain_waiters_until(user, role, began),
                    _ => state.drain_waiters(user, role),
                };
                for waiter in waiters {
                    steps.push(Step::Grant(waiter, Err(Arc::clone(&error))));
                }
            }
            // Another node may serve who waits for this one.
            state.open_for_all(limits, steps);
        });
        drop(slot);
        tokio::time::sleep(wait).await;
        self.wake();
    }

    fn log_failure(&self, user: UserIndex, node: NodeIndex, error: &OpenError) {
        let (bounds, node) = (self.bounds(), self.cluster.node(node));
        let (cluster, pool, user, node) =
            (&self.cluster.name, &self.name, bounds.member(user).name(), &node.address);
        // Nobody has logged in yet whose keys the minimum could be opened with: that is how it starts.
        if let OpenError::NoCredentials { .. } = error {
            tracing::debug!(cluster, pool, user, %node, %error, "could not open a server connection");
        } else {
            tracing::warn!(cluster, pool, user, %node, %error, "could not open a server connection");
        }
    }

    /// Looks again at what waiters need, for example after a node changed its role.
    pub(super) fn wake(self: &Arc<Self>) {
        self.decide(|state, limits, steps| state.open_for_all(limits, steps));
    }
}

/// Spreads ends of life, so that connections opened together do not end together: 90% to 100%.
fn jittered(lifetime: Duration) -> Duration {
    lifetime.mul_f64(rand::random_range(0.9..=1.0))
}
