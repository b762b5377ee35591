//! How a cluster's nodes are reached and as whom.

use crate::net::NodeAddress;
use std::collections::BTreeMap;
use std::time::Duration;

/// The part of `[cluster.<name>]` that opening a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    pub nodes: Vec<NodeAddress>,
    pub admin_user: String,
    pub admin_database: String,
    pub connect_timeout: Duration,
}

/// `[cluster.<name>.pool.<database>.user.<name>.parameters]`: sent in the StartupMessage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterSettings {
    pub application_name: Option<String>,
    /// Run-time parameters passed through `options`, name to value.
    pub options: BTreeMap<String, String>,
}
