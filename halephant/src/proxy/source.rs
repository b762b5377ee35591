//! The running proxy as the admin API, the console and exporters look at it.

use super::effective::effective;
use super::live::Live;
use crate::cancel::Sessions;
use crate::notify::ListenerSnapshot;
use crate::overview::Source;
use crate::pool::Pool;
use crate::prepared::Store;
use crate::splice::Splice;
use crate::splice::settings::SpliceMode;
use crate::telemetry::metrics::ProcessMetrics;
use crate::topology::Cluster;
use std::sync::Arc;

/// Looks at the state; cheap to make.
#[derive(Debug)]
pub struct View(pub Arc<Live>);

impl Source for View {
    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.0.state().clusters.iter().map(|cluster| Arc::clone(&cluster.cluster)).collect()
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        let mut pools: Vec<_> = self.0.state().pools().cloned().collect();
        pools.sort_by(|one, other| {
            let key = |pool: &Arc<Pool>| (pool.cluster().name.clone(), pool.settings().name.clone());
            key(one).cmp(&key(other))
        });
        pools
    }

    fn sessions(&self) -> Arc<Sessions> {
        Arc::clone(self.0.state().sessions())
    }

    fn splice(&self) -> Result<Splice, &'static str> {
        let state = self.0.state();
        state.shared.splice.clone().ok_or(match state.config.ebpf.mode {
            SpliceMode::Off => "ebpf.mode is \"off\"",
            SpliceMode::Auto | SpliceMode::Require => "it does not work on this host; the log says why",
        })
    }

    fn statements(&self) -> Arc<Store> {
        Arc::clone(&self.0.state().shared.statements)
    }

    fn listeners(&self) -> Vec<ListenerSnapshot> {
        self.0.state().shared.listeners.snapshots()
    }

    fn process(&self) -> Arc<ProcessMetrics> {
        Arc::clone(&self.0.state().shared.metrics)
    }

    fn throttle_entries(&self) -> usize {
        self.0.state().shared.throttle.entries()
    }

    fn config(&self) -> serde_json::Value {
        effective(&self.0.state().config)
    }
}
