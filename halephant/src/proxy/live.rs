//! The state that new connections come under, and how a reload replaces it.

use super::cluster::Unwatched;
use super::prober::AdminProber;
use super::settings::Config;
use super::state::{Novelties, Process, State};
use crate::cancel::{Sessions, Signal};
use crate::topology::watch::{OnChange, watch};
use crate::topology::{Change, Cluster};
use arc_swap::ArcSwap;
use std::sync::Arc;

#[derive(Debug)]
pub struct Live {
    state: ArcSwap<State>,
}

impl Live {
    /// Asks every node once before it returns, and goes on asking. Runs on the control runtime.
    pub async fn start(config: Config, shared: Arc<Process>) -> Self {
        let (state, new) = State::new(config, shared);
        let live = Self { state: ArcSwap::from_pointee(state) };
        live.set_going(new).await;
        live
    }

    /// The state for a connection that comes now; the connection keeps it to its end.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Lets new connections come under another configuration. Then nodes are asked, those that are new before it returns, and
    /// pools are filled and cut to their limits. One at a time, on the control runtime.
    pub async fn replace(&self, config: Config) {
        let (next, new) = self.state().succeeded_by(config);
        if let Some(splice) = &next.shared.splice {
            splice.set_credit(next.config.ebpf.credit_bytes);
        }
        let next = Arc::new(next);
        let before = self.state.swap(Arc::clone(&next));
        // Sessions that began under it hold its pools themselves.
        drop(before);
        next.clusters.iter().for_each(|cluster| {
            cluster.cluster.refresh();
            cluster.cluster.announce();
        });
        self.set_going(new).await;
        next.pools().for_each(|pool| pool.tend_now());
    }

    async fn set_going(&self, new: Novelties) {
        let sessions = Arc::clone(self.state().sessions());
        let on_change: OnChange = Arc::new(move |_: &Cluster, changes| tell_sessions(&sessions, changes));
        for pool in new.pools {
            tokio::spawn(pool.tend());
        }
        let tracer = self.state().shared.tracer.clone();
        let watches: Vec<_> = new
            .nodes
            .into_iter()
            .map(|(cluster, nodes): (_, Vec<Unwatched>)| {
                let (on_change, tracer) = (Arc::clone(&on_change), tracer.clone());
                tokio::spawn(async move {
                    let upstream = Arc::clone(&cluster.upstream);
                    let prober = AdminProber { cluster: cluster.cluster.name.clone(), upstream, tracer };
                    watch(&cluster.cluster, nodes, &prober, &on_change).await;
                })
            })
            .collect();
        for watch in watches {
            // Only a panic ends it otherwise; the log has it.
            let _ = watch.await;
        }
    }
}

/// Sessions that keep a server connection over transactions leave a node that is no longer what it was.
fn tell_sessions(sessions: &Sessions, changes: &[Change]) {
    for change in changes {
        let node = change.node.address.to_string();
        if change.lost {
            sessions.signal_on(&node, Signal::Abandon);
        } else if change.displaced {
            sessions.signal_on(&node, Signal::Leave);
        }
    }
}
