//! The admin HTTP API.

use std::net::SocketAddr;

/// `[admin]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// `None` disables the admin API.
    pub listen: Option<SocketAddr>,
}
