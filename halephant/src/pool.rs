//! Pools of server connections: checkout, checkin, limits, the wait queue.
//!
//! One [`Pool`] stands for one `[cluster.<name>.pool.<database>]` with all its users and nodes, because they share
//! limits. Connections of different users never mix: each has its own idle connections and its own queue.

mod checkout;
pub mod error;
mod janitor;
pub mod lease;
pub mod registry;
pub mod settings;
pub mod snapshot;
mod state;
mod waiter;

pub use error::CheckoutError;
pub use lease::Lease;
pub use state::UserIndex;

use crate::net::Role;
use crate::server::{Login, OpenError, Opener};
use crate::telemetry::metrics::PoolMetrics;
use crate::topology::{Cluster, NodeIndex};
use crate::worker::Workers;
use lease::Slot;
use registry::Registry;
use settings::PoolSettings;
use state::{Limits, State, Step};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use waiter::WaiterId;

/// The server connections of one configured pool.
pub struct Pool {
    settings: PoolSettings,
    cluster: Arc<Cluster>,
    opener: Arc<dyn Opener>,
    workers: Workers,
    state: Mutex<State>,
    next_waiter: AtomicU64,
    registry: Arc<Registry>,
    metrics: Arc<PoolMetrics>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl Pool {
    pub fn new(
        settings: PoolSettings,
        cluster: Arc<Cluster>,
        opener: Arc<dyn Opener>,
        workers: Workers,
    ) -> Arc<Self> {
        let state = Mutex::new(State::new(settings.users.len(), cluster.len()));
        Arc::new(Self {
            settings,
            cluster,
            opener,
            workers,
            state,
            next_waiter: AtomicU64::new(0),
            registry: Arc::default(),
            metrics: Arc::default(),
        })
    }

    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub fn user(&self, name: &str) -> Option<UserIndex> {
        self.settings.users.iter().position(|user| user.name == name).map(UserIndex)
    }

    fn limits(&self) -> Limits<'_> {
        Limits { settings: &self.settings, cluster: &self.cluster }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock aborts the process in release builds; in tests the state is still consistent enough
        // to be looked at.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides under the lock, acts after it.
    fn decide(self: &Arc<Self>, decision: impl FnOnce(&mut State, &Limits<'_>, &mut Vec<Step>)) {
        let mut steps = Vec::new();
        decision(&mut self.lock(), &self.limits(), &mut steps);
        self.carry_out(steps);
    }

    fn carry_out(self: &Arc<Self>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Open(user, node) => self.open(user, node),
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

    fn checkin(self: &Arc<Self>, lease: Lease) {
        self.decide(|state, limits, steps| state.settle(limits, lease, steps));
    }

    fn give_up(self: &Arc<Self>, user: UserIndex, role: Role, id: WaiterId) -> bool {
        self.lock().give_up(user, role, id)
    }

    fn mark_closing(&self, slot: &mut Slot) {
        self.lock().mark_closing(slot);
    }

    fn release(self: &Arc<Self>, slot: &Slot) {
        self.decide(|state, limits, steps| {
            state.release(slot);
            state.open_for_all(limits, steps);
        });
    }

    /// Opens a connection on a slot that is already reserved, in the background of the calling worker.
    fn open(self: &Arc<Self>, user: UserIndex, node: NodeIndex) {
        let pool = Arc::clone(self);
        let worker = self.workers.here_or_next();
        self.workers.spawn_on(worker, async move {
            let slot = Slot { pool: Arc::clone(&pool), user, node, closing: false };
            let address = &pool.cluster.node(node).address;
            let settings = &pool.settings.users[user.0];
            let login = Login {
                database: &pool.settings.database,
                role: settings.role(),
                parameters: &settings.parameters,
            };
            let began = Instant::now();
            match pool.opener.open(address, login).await {
                Ok(connection) => {
                    pool.metrics.connects.record(began.elapsed());
                    let expires = Instant::now() + jittered(pool.settings.max_lifetime);
                    let lease = Lease::new(connection, slot, worker, expires);
                    pool.decide(|state, limits, steps| state.opened(limits, lease, steps));
                }
                Err(error) => pool.open_failed(slot, error).await,
            }
        });
    }

    async fn open_failed(self: &Arc<Self>, slot: Slot, error: OpenError) {
        let (user, node) = (slot.user, slot.node);
        self.metrics.errors.add(error.kind(), 1);
        let error = Arc::new(error);
        self.log_failure(user, node, &error);
        self.cluster.refresh();
        let mut wait = Duration::ZERO;
        self.decide(|state, limits, steps| {
            wait = state.open_failed(user, node, &error);
            if let Some(role) = self.cluster.node(node).role()
                && error.is_permanent()
                && !state.has_other(limits, user, role, node)
            {
                for waiter in state.drain_waiters(user, role) {
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
        let (pool, user) = (&self.settings.name, &self.settings.users[user.0].name);
        let (cluster, node) = (&self.cluster.name, &self.cluster.node(node).address);
        // Nobody has logged in yet whose keys the minimum could be opened with: that is how it starts.
        if let OpenError::NoCredentials { .. } = error {
            tracing::debug!(cluster, pool, user, %node, %error, "could not open a server connection");
        } else {
            tracing::warn!(cluster, pool, user, %node, %error, "could not open a server connection");
        }
    }

    /// Looks again at what waiters need, for example after a node changed its role.
    pub fn wake(self: &Arc<Self>) {
        self.decide(|state, limits, steps| state.open_for_all(limits, steps));
    }
}

/// Spreads ends of life, so that connections opened together do not end together: 90% to 100%.
fn jittered(lifetime: Duration) -> Duration {
    lifetime.mul_f64(rand::random_range(0.9..=1.0))
}

#[cfg(test)]
mod tests;
