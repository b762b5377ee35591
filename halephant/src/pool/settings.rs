//! `[cluster.<name>.pool.<database>]` and its users.

use crate::server::settings::ParameterSettings;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolMode {
    Transaction,
    Statement,
    Session,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    Pin,
    Multiplex,
}

/// What becomes of what would keep a client on its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    Allow,
    Deny,
}

/// How long a client may stay in one state; zero is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// Between transactions.
    pub idle: Duration,
    /// In a transaction, without a query.
    pub idle_transaction: Duration,
    pub query: Duration,
}

/// Connections per node, by the node's role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleLimits {
    pub primary: u32,
    pub replica: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// The name clients ask for: the key of the section.
    pub name: String,
    /// The database on the server.
    pub database: String,
    pub mode: PoolMode,
    pub listen_mode: ListenMode,
    /// In transaction and statement mode.
    pub pin: PinMode,
    pub max_connections: RoleLimits,
    pub idle_timeout: Duration,
    pub max_lifetime: Duration,
    /// The pool's own, or that of `[server]`.
    pub checkout_timeout: Duration,
    /// From accept to the end of the login: the pool's own, or that of `[server]`.
    pub client_login_timeout: Duration,
    pub client_timeouts: ClientTimeouts,
    /// In transaction mode: BEGIN alone is answered without a server connection.
    pub defer_begin: bool,
    /// Clients at a time, of all users; 0 is no limit.
    pub max_client_connections: u32,
    pub users: Vec<UserSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSettings {
    /// The name clients log in with: the key of the section.
    pub name: String,
    /// The PostgreSQL role to be instead of `name`.
    pub alias: Option<String>,
    /// `None`: no limit of its own.
    pub max_connections: Option<RoleLimits>,
    /// Clients at a time; 0 is no limit.
    pub max_client_connections: u32,
    pub min_connections: RoleLimits,
    pub parameters: ParameterSettings,
}

impl PoolMode {
    /// The word in the configuration, the console and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Statement => "statement",
            Self::Session => "session",
        }
    }
}

impl UserSettings {
    /// The role that authenticates, here and upstream.
    pub fn role(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}
