//! The proxy at one moment: rows and instruments made from copies, for the admin API, the console and exporters.

mod collect;
pub mod instruments;
mod kernel_path;
mod listeners;
mod prepared;
pub mod rows;

pub use collect::{clients, clusters, nodes, pools, queues, servers};
pub use kernel_path::kernel_path;
pub use prepared::prepared;

use crate::cancel::Sessions;
use crate::notify::ListenerSnapshot;
use crate::pool::Pool;
use crate::prepared::Store;
use crate::splice::Splice;
use crate::telemetry::metrics::ProcessMetrics;
use crate::topology::Cluster;
use std::sync::Arc;

/// What is looked at: the configuration's clusters and pools as they are now.
pub trait Source: Send + Sync + 'static {
    /// In the order of their names.
    fn clusters(&self) -> Vec<Arc<Cluster>>;

    /// In the order of clusters and names.
    fn pools(&self) -> Vec<Arc<Pool>>;

    fn sessions(&self) -> Arc<Sessions>;

    /// The kernel path, where it was started; why not, where it was not.
    fn splice(&self) -> Result<Splice, &'static str>;

    /// The prepared statements of all clients.
    fn statements(&self) -> Arc<Store>;

    /// Who listens for clients of pools that multiplex.
    fn listeners(&self) -> Vec<ListenerSnapshot>;

    fn process(&self) -> Arc<ProcessMetrics>;

    /// Entries of the tables that failed logins are throttled by.
    fn throttle_entries(&self) -> usize;

    /// The effective configuration, with the keys of the file; no value of it is a secret.
    fn config(&self) -> serde_json::Value;
}
