//! Which role of node a transaction, or in session mode a session, is for. Pure: settings and text in, role out.

mod first;

pub use first::{AccessMode, first_statement};

use crate::net::Role;
use crate::pool::settings::{PoolSettings, RoleLimits, UserSettings};
use crate::server::parameters::SessionParameters;
use crate::sql;

/// The parameter by which a session asks to be read-only.
pub const READ_ONLY: &str = "default_transaction_read_only";

/// Where a user may go at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    primary: bool,
    replica: bool,
    /// The configuration has its sessions begin read-only.
    read_only: bool,
}

impl Access {
    pub fn of(pool: &PoolSettings, user: &UserSettings) -> Self {
        let RoleLimits { primary, replica } = user.max_connections.unwrap_or(pool.max_connections);
        Self {
            primary: primary > 0 && pool.max_connections.primary > 0,
            replica: replica > 0 && pool.max_connections.replica > 0,
            read_only: is_read_only(user),
        }
    }

    /// Nothing that a session of the user asks for makes it writable.
    pub fn is_read_only(self) -> bool {
        !self.primary || self.read_only && self.replica
    }

    /// Whether the role depends on what a transaction asks for.
    pub fn has_choice(self) -> bool {
        self.primary && self.replica && !self.read_only
    }

    /// The role for a session that has set `wanted`, whose next transaction asks for `asked`. Read-only work goes to the
    /// primary when there is no replica, as far as the user may go there.
    pub fn role(
        self,
        wanted: &SessionParameters,
        asked: Option<AccessMode>,
        has_replica: impl FnOnce() -> bool,
    ) -> Role {
        let by_default =
            || wanted.value(READ_ONLY).and_then(|value| sql::boolean(value.as_bytes())) == Some(true);
        let read_only = self.is_read_only()
            || match asked {
                Some(mode) => mode == AccessMode::ReadOnly,
                None => by_default(),
            };
        match (self.primary, self.replica) {
            (true, true) if read_only && has_replica() => Role::Replica,
            (true, _) => Role::Primary,
            (false, _) => Role::Replica,
        }
    }
}

/// Whether a session that has set `wanted` asks to be writable by default.
pub fn asks_for_writes(wanted: &SessionParameters) -> bool {
    wanted.value(READ_ONLY).and_then(|value| sql::boolean(value.as_bytes())) == Some(false)
}

/// `default_transaction_read_only` set to what PostgreSQL takes for true.
fn is_read_only(user: &UserSettings) -> bool {
    let options = user.parameters.options.iter();
    options
        .filter(|(name, _)| name.eq_ignore_ascii_case(READ_ONLY))
        .any(|(_, value)| sql::boolean(value.trim().as_bytes()) == Some(true))
}

#[cfg(test)]
mod tests;
