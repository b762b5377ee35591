//! What the process as a whole is told: `[server]`, and everything that it hands on to its parts.

use crate::admin::AdminSettings;
use crate::auth::settings::{AuthSettings, ClientAuthSettings};
use crate::net::ListenAddress;
use crate::pool::settings::PoolSettings;
use crate::privileges::PrivilegeSettings;
use crate::server::settings::NodeSettings;
use crate::splice::settings::SpliceSettings;
use crate::telemetry::settings::{LoggingSettings, OtelSettings};
use crate::tls::ClientLeg;
use crate::topology::settings::TopologySettings;
use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;

/// A valid configuration with every default filled in. Clusters, pools and users are in the order of their names,
/// so that moving a section about in the file changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub server: ServerSettings,
    pub logging: LoggingSettings,
    pub admin: AdminSettings,
    pub otel: OtelSettings,
    pub ebpf: SpliceSettings,
    pub clusters: Vec<ClusterConfig>,
}

/// `[cluster.<name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    pub name: String,
    pub node: NodeSettings,
    pub auth: AuthSettings,
    pub topology: TopologySettings,
    pub pools: Vec<PoolSettings>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Every Unix socket with its port.
    pub listen: Vec<ListenAddress>,
    /// The permissions of Unix sockets.
    pub socket_mode: u32,
    /// Other processes may listen on the TCP addresses, too.
    pub so_reuseport: bool,
    /// Where load balancers are that begin each connection with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
    /// `None`: `PGPASSFILE`, then `~/.pgpass`.
    pub pgpass: Option<PathBuf>,
    /// Worker threads; 0 means one per CPU.
    pub workers: usize,
    pub shutdown_timeout: Duration,
    pub checkout_timeout: Duration,
    pub client_login_timeout: Duration,
    /// Clients at a time; 0 is no limit.
    pub max_client_connections: u32,
    pub max_client_connections_per_address: u32,
    /// Distinct prepared statements kept over all pools; 0 means no limit.
    pub max_prepared_statements: usize,
    pub tls: ClientLeg,
    pub privileges: PrivilegeSettings,
    pub auth: ClientAuthSettings,
}
