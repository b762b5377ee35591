//! `[server]`: what the process as a whole is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    pub listen: Vec<SocketAddr>,
    /// `None`: `PGPASSFILE`, then `~/.pgpass`.
    pub pgpass: Option<PathBuf>,
    /// Worker threads; 0 means one per CPU.
    pub workers: usize,
    pub shutdown_timeout: Duration,
    pub checkout_timeout: Duration,
    /// Distinct prepared statements kept over all pools; 0 means no limit.
    pub max_prepared_statements: usize,
}
