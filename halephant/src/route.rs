//! Which role of node a session is for. Pure: settings in, role out.

use crate::net::Role;
use crate::pool::settings::{PoolSettings, UserSettings};

/// The role of node that a user's sessions go to.
pub fn role(pool: &PoolSettings, user: &UserSettings) -> Role {
    let limits = user.max_connections.unwrap_or(pool.max_connections);
    let only_replicas = limits.primary == 0 || pool.max_connections.primary == 0;
    if only_replicas || is_read_only(user) { Role::Replica } else { Role::Primary }
}

/// `default_transaction_read_only` set to anything PostgreSQL takes for true.
fn is_read_only(user: &UserSettings) -> bool {
    user.parameters
        .options
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("default_transaction_read_only"))
        .any(|(_, value)| is_true(value))
}

/// PostgreSQL takes unambiguous beginnings of `true`, `yes`, `on` and `1`.
fn is_true(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    value == "1"
        || value == "on"
        || (!value.is_empty() && ("true".starts_with(&value) || "yes".starts_with(&value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::settings::{ListenMode, PoolMode, RoleLimits};
    use std::time::Duration;

    fn route(pool: (u32, u32), user: Option<(u32, u32)>, read_only: Option<&str>) -> Role {
        let limits = |(primary, replica)| RoleLimits { primary, replica };
        let mut settings = UserSettings {
            name: "u".into(),
            alias: None,
            max_connections: user.map(limits),
            min_connections: RoleLimits::default(),
            parameters: Default::default(),
        };
        if let Some(value) = read_only {
            settings.parameters.options.insert("Default_Transaction_Read_Only".into(), value.into());
        }
        let pool = PoolSettings {
            name: "p".into(),
            database: "p".into(),
            mode: PoolMode::Transaction,
            listen_mode: ListenMode::Pin,
            max_connections: limits(pool),
            idle_timeout: Duration::from_secs(1),
            max_lifetime: Duration::from_secs(1),
            checkout_timeout: Duration::from_secs(1),
            users: vec![],
        };
        role(&pool, &settings)
    }

    #[test]
    fn a_user_goes_where_it_has_capacity_and_may_write() {
        assert_eq!(route((10, 10), None, None), Role::Primary);
        assert_eq!(route((10, 10), Some((0, 5)), None), Role::Replica);
        assert_eq!(route((0, 10), None, None), Role::Replica);
        for value in ["on", "true", "t", "YES", "y", "1"] {
            assert_eq!(route((10, 10), None, Some(value)), Role::Replica, "{value}");
        }
        for value in ["off", "false", "", "o", "0"] {
            assert_eq!(route((10, 10), None, Some(value)), Role::Primary, "{value}");
        }
    }
}
