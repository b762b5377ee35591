//! The limits of a pool that hold now, and who its users are.

use super::settings::{PinMode, PoolSettings, RoleLimits, UserSettings};
use super::state::UserIndex;
use crate::server::Login;
use crate::server::settings::ParameterSettings;
use std::sync::Arc;
use std::time::Duration;

/// What a connection is opened as: one of another identity cannot stand in for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    user: String,
    role: String,
    database: String,
    parameters: ParameterSettings,
}

/// One user of the pool, configured now or before.
#[derive(Clone, Debug)]
pub(super) struct Member {
    identity: Arc<Identity>,
    pub(super) max_connections: Option<RoleLimits>,
    /// Nothing for a user that is no longer configured.
    pub(super) min_connections: RoleLimits,
}

/// One configuration's limits. Its predecessors' users are in it too, in their old places.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    pub(super) max_connections: RoleLimits,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) checkout_timeout: Duration,
    pub(super) denies_pins: bool,
    users: Vec<Member>,
}

impl Identity {
    fn of(settings: &PoolSettings, user: &UserSettings) -> Self {
        Self {
            user: user.name.clone(),
            role: user.role().to_owned(),
            database: settings.database.clone(),
            parameters: user.parameters.clone(),
        }
    }
}

impl Member {
    pub(super) fn name(&self) -> &str {
        &self.identity.user
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub(super) fn login(&self) -> Login<'_> {
        let Identity { role, database, parameters, .. } = &*self.identity;
        Login { database, role, parameters, replication: None }
    }

    /// No configuration that is in use names it.
    pub(super) fn is_retired(&self) -> bool {
        Arc::strong_count(&self.identity) == 1
    }
}

impl Bounds {
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn member(&self, user: UserIndex) -> &Member {
        &self.users[user.0]
    }

    /// The bounds for `settings`, and the places of its users. A place whose user is gone is given away when nothing is
    /// left in it (`is_unused`), so that many reloads do not make many places.
    pub(super) fn succeeded_by(
        &self,
        settings: &PoolSettings,
        is_unused: impl Fn(UserIndex) -> bool,
    ) -> (Self, Vec<UserIndex>) {
        let free: Vec<bool> =
            (0..self.users.len()).map(|at| self.users[at].is_retired() && is_unused(UserIndex(at))).collect();
        let mut free: Vec<usize> = (0..self.users.len()).rev().filter(|&at| free[at]).collect();
        let none = RoleLimits::default();
        let users = self.users.iter().map(|user| Member { min_connections: none, ..user.clone() });
        let mut next = Self {
            max_connections: settings.max_connections,
            idle_timeout: settings.idle_timeout,
            max_lifetime: settings.max_lifetime,
            checkout_timeout: settings.checkout_timeout,
            denies_pins: settings.pin == PinMode::Deny,
            users: users.collect(),
        };
        let mut places = Vec::with_capacity(settings.users.len());
        for user in &settings.users {
            let identity = Identity::of(settings, user);
            let known = next.users.iter().position(|member| *member.identity == identity);
            let identity =
                known.map_or_else(|| Arc::new(identity), |at| Arc::clone(&next.users[at].identity));
            let member = Member {
                identity,
                max_connections: user.max_connections,
                min_connections: user.min_connections,
            };
            free.retain(|&at| Some(at) != known);
            let place = known.or_else(|| free.pop()).unwrap_or(next.users.len());
            if place == next.users.len() {
                next.users.push(member);
            } else {
                next.users[place] = member;
            }
            places.push(UserIndex(place));
        }
        (next, places)
    }
}
