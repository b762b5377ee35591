//! Why a checkout failed, and what the client is told.

use crate::server::OpenError;
use halephant_protocol::SqlState;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    #[error("no server connection became free within checkout_timeout ({}): {limit}", humantime::format_duration(*after))]
    Timeout { limit: String, after: Duration },
    #[error("no server connection could be opened within checkout_timeout ({}): {last}", humantime::format_duration(*after))]
    Unreachable { last: Arc<OpenError>, after: Duration },
    #[error("cluster \"{cluster}\" has no {role} (waited {})", humantime::format_duration(*after))]
    NoNode { cluster: String, role: crate::net::Role, after: Duration },
    #[error("{0}")]
    Open(Arc<OpenError>),
    #[error("user \"{user}\" has no connections to a {role} in pool \"{pool}\" (max_connections.{role} = 0)")]
    NoCapacity { pool: String, user: String, role: crate::net::Role },
    #[error("pool \"{pool}\" is paused by an order of the console (waited {})", humantime::format_duration(*after))]
    Paused { pool: String, after: Duration },
    #[error("the server did not take the session's parameters within checkout_timeout ({})", humantime::format_duration(*after))]
    Unanswered { after: Duration },
    #[error("the pool was closed")]
    Closed,
}

impl CheckoutError {
    /// The `error.type` in metrics; `None`: counted where it happened.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } => Some("checkout_timeout"),
            Self::NoNode { .. } => Some("no_node"),
            Self::Paused { .. } => Some("paused"),
            Self::Unanswered { .. } => Some("unanswered"),
            Self::NoCapacity { .. } => Some("no_capacity"),
            Self::Open(_) | Self::Closed => None,
        }
    }

    /// Whether a node may have changed unnoticed.
    pub fn is_suspicious(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. } | Self::NoNode { .. })
    }

    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Timeout { .. } | Self::NoCapacity { .. } => SqlState::TOO_MANY_CONNECTIONS,
            Self::Unreachable { last, .. } => last.sqlstate(),
            Self::NoNode { .. } | Self::Paused { .. } => SqlState::CANNOT_CONNECT_NOW,
            Self::Open(error) => error.sqlstate(),
            Self::Unanswered { .. } => SqlState::CONNECTION_FAILURE,
            Self::Closed => SqlState::ADMIN_SHUTDOWN,
        }
    }
}
