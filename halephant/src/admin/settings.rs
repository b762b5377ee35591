//! `[admin]`.

use std::net::SocketAddr;

/// The database that the console answers as, where it has users.
pub const CONSOLE_DATABASE: &str = "halephant";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// `None` disables the admin API.
    pub listen: Option<SocketAddr>,
    /// Who may use the console for everything.
    pub users: Vec<String>,
    /// Who may only look.
    pub stats_users: Vec<String>,
}

impl AdminSettings {
    /// Whether there is a console at all.
    pub fn has_console(&self) -> bool {
        !self.users.is_empty() || !self.stats_users.is_empty()
    }
}
