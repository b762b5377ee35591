//! Pools of server connections: checkout, checkin, limits, the wait queue.
//!
//! One [`Pool`] stands for one `[cluster.<name>.pool.<database>]` with all its users and nodes, because they share
//! limits. Connections of different users never mix: each has its own idle connections and its own queue.
//!
//! A `Pool` is how one configuration sees the pool. A reload makes a new one on the same connections: sessions keep the
//! settings that they began with, while the limits of the newest configuration hold for all.

mod bounds;
mod checkout;
pub mod error;
mod janitor;
pub mod lease;
mod pause;
pub mod registry;
pub mod settings;
mod shared;
pub mod snapshot;
mod state;
mod waiter;

pub use error::CheckoutError;
pub use lease::{Lease, OwnLogin};
pub use state::UserIndex;

use crate::net::Role;
use crate::server::Opener;
use crate::server::parameters::SessionParameters;
use crate::topology::Cluster;
use crate::worker::Workers;
use bounds::Identity;
use settings::{PoolSettings, UserSettings};
use shared::Shared;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// One configured pool as one configuration has it.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    /// In the order of the settings.
    users: Vec<UserIndex>,
    /// Held so that the users' connections are not ended while somebody may still ask for one.
    _identities: Vec<Arc<Identity>>,
    shared: Arc<Shared>,
}

impl Pool {
    pub fn new(
        settings: PoolSettings,
        cluster: Arc<Cluster>,
        opener: Arc<dyn Opener>,
        workers: Workers,
    ) -> Arc<Self> {
        Self::on(Shared::new(settings.name.clone(), cluster, opener, workers), settings)
    }

    /// The same pool under other settings: connections stay where they still fit, limits change for everybody. A user
    /// that is no longer configured, or logs in differently, keeps its connections until its last session has ended.
    #[must_use]
    pub fn reconfigured(&self, settings: PoolSettings) -> Arc<Self> {
        Self::on(Arc::clone(&self.shared), settings)
    }

    fn on(shared: Arc<Shared>, settings: PoolSettings) -> Arc<Self> {
        let users = shared.reconfigure(&settings);
        let bounds = shared.bounds();
        let identities = users.iter().map(|&user| Arc::clone(bounds.member(user).identity())).collect();
        Arc::new(Self { settings, users, _identities: identities, shared })
    }

    /// Nobody is to be let in any more: nothing is kept open ahead, and connections end with their sessions.
    pub fn retire(&self) -> Retired {
        self.shared.reconfigure(&PoolSettings { users: Vec::new(), ..self.settings.clone() });
        self.shared.lock().retired = true;
        Retired(Arc::downgrade(&self.shared))
    }

    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.shared.cluster
    }

    /// What a connection beside the pool's needs to be opened as this user.
    pub fn login(&self, user: UserIndex) -> OwnLogin {
        self.shared.login(user)
    }

    pub fn user(&self, name: &str) -> Option<UserIndex> {
        self.users().find(|(_, user)| user.name == name).map(|(index, _)| index)
    }

    /// The users that these settings name.
    pub fn users(&self) -> impl Iterator<Item = (UserIndex, &UserSettings)> {
        self.users.iter().copied().zip(&self.settings.users)
    }

    /// The settings of a user of this pool, which [`user`](Self::user) found.
    pub fn user_settings(&self, user: UserIndex) -> &UserSettings {
        self.users()
            .find_map(|(index, settings)| (index == user).then_some(settings))
            .expect("an index comes from the pool it is used with")
    }

    /// A free connection, if there is one and nobody waits for it.
    pub fn try_checkout(&self, user: UserIndex, role: Role, wanted: &SessionParameters) -> Option<Lease> {
        self.shared.try_checkout(user, role, wanted)
    }

    /// Waits for a connection, first come, first served, for at most the pool's checkout_timeout.
    ///
    /// Cancel safe: a dropped checkout leaves the queue, and a connection granted meanwhile goes back to the pool.
    pub async fn checkout(
        &self,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
    ) -> Result<Lease, CheckoutError> {
        self.checkout_within(user, role, wanted, self.settings.checkout_timeout).await
    }

    /// As [`checkout`](Self::checkout), with what is left of the pool's checkout_timeout.
    pub async fn checkout_within(
        &self,
        user: UserIndex,
        role: Role,
        wanted: &SessionParameters,
        left: Duration,
    ) -> Result<Lease, CheckoutError> {
        self.shared.checkout(user, role, wanted, left).await
    }

    /// Whether the configuration gives the user any connection to a node of this role.
    pub fn has_capacity(&self, user: UserIndex, role: Role) -> bool {
        self.shared.has_capacity(user, role)
    }

    /// Clients waiting, and for how long the first of them has been.
    pub fn queue(&self, user: UserIndex, role: Role) -> (usize, Option<Duration>) {
        self.shared.queue(user, role)
    }

    /// Connections that count against the limits, of all users and nodes.
    pub fn connections(&self) -> u32 {
        self.shared.connections()
    }

    /// Looks after idle connections by the clock and when nodes change, until the pool is no longer used.
    pub fn tend(&self) -> impl Future<Output = ()> + Send + use<> {
        janitor::tend(Arc::downgrade(&self.shared), self.shared.cluster.changes())
    }

    /// Looks now at what limits and roles make possible.
    pub fn tend_now(&self) {
        self.shared.tend_now();
    }

    /// Closes every idle connection and refuses checkouts from now on; lent connections end as they come back.
    pub fn close(&self) {
        self.shared.close();
    }
}

/// A pool that no configuration has, as long as anything is left in it.
#[derive(Debug)]
pub struct Retired(Weak<Shared>);

impl Retired {
    /// The pool under the settings of a configuration that has it again: its connections still count. `None`: nothing was
    /// left of it.
    #[must_use]
    pub fn revived(&self, settings: PoolSettings) -> Option<Arc<Pool>> {
        let shared = self.0.upgrade()?;
        shared.revive().then(|| Pool::on(shared, settings))
    }

    /// Nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|shared| shared.lock().ended)
    }
}

#[cfg(test)]
mod tests;
