//! Asks every node of a cluster at its interval, and at once when somebody has a reason to.

use super::cluster::{Cluster, NodeIndex};
use super::node::{Change, Node};
use super::probe::{Probe, ProbeError, Prober};
use crate::net::Role;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Requests for a probe that come closer together than this are one.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Told when nodes are used as something else.
pub type OnChange = Arc<dyn Fn(&Cluster, &[Change]) + Send + Sync>;

/// Asks each of `nodes` once, and then for as long as the cluster is in use and names the node. Each has its own clock,
/// so that one that does not answer holds up nobody. Returns when every one was asked once.
pub async fn watch(
    cluster: &Arc<Cluster>,
    nodes: Vec<(NodeIndex, Arc<Node>)>,
    prober: &dyn Prober,
    on_change: &OnChange,
) {
    let mut first = Vec::with_capacity(nodes.len());
    for (index, node) in nodes {
        let watched = Watched {
            cluster: Arc::downgrade(cluster),
            index,
            probe: prober.probe(&node.address),
            node,
            on_change: Arc::clone(on_change),
        };
        let (asked, was_asked) = tokio::sync::oneshot::channel();
        tokio::spawn(watched.run(cluster.refresh_requests(), asked));
        first.push(was_asked);
    }
    for asked in first {
        // A probe that panicked is seen in the log; nobody else waits for it.
        let _ = asked.await;
    }
}

/// One node and how it is asked.
struct Watched {
    cluster: Weak<Cluster>,
    index: NodeIndex,
    node: Arc<Node>,
    probe: Box<dyn Probe>,
    on_change: OnChange,
}

impl Watched {
    async fn run(mut self, mut requests: watch::Receiver<u64>, asked: tokio::sync::oneshot::Sender<()>) {
        let mut asked = Some(asked);
        loop {
            let began = Instant::now();
            requests.mark_unchanged();
            let Some(interval) = self.round().await else { return };
            if let Some(asked) = asked.take() {
                let _ = asked.send(());
            }
            tokio::select! {
                () = sleep_until(began + interval) => {}
                changed = requests.changed() => match changed {
                    Ok(()) => sleep_until(began + REFRESH_INTERVAL_MIN).await,
                    // The cluster is gone.
                    Err(_) => return,
                }
            }
        }
    }

    /// One question. Returns the interval, or `None` when nobody needs the answer any more.
    async fn round(&mut self) -> Option<Duration> {
        if !self.node.is_configured() {
            return None;
        }
        let after = self.cluster.upgrade()?.settings().timeout;
        // The cluster is not held meanwhile: it may go.
        let outcome = timeout(after, self.probe.ask()).await;
        let outcome = outcome.unwrap_or(Err(ProbeError::Timeout { after }));
        let cluster = self.cluster.upgrade()?;
        if !self.node.is_configured() {
            return None;
        }
        self.log_failure(&cluster, &outcome);
        let changes = cluster.record(self.index, outcome);
        changes.iter().for_each(|change| log_change(&cluster, change));
        if !changes.is_empty() {
            (self.on_change)(&cluster, &changes);
        }
        Some(cluster.settings().interval)
    }

    fn log_failure<T>(&self, cluster: &Cluster, outcome: &Result<T, ProbeError>) {
        let Err(error) = outcome else { return };
        // Once when it begins; the reason may be wanted in detail later.
        if self.node.latest().is_none_or(|latest| latest.failures == 0) {
            tracing::warn!(cluster = cluster.name, node = %self.node.address, %error, "a node does not answer");
        } else {
            tracing::debug!(cluster = cluster.name, node = %self.node.address, %error, "a node does not answer");
        }
    }
}

fn log_change(cluster: &Cluster, change: &Change) {
    let role = |role: Option<Role>| role.map_or("none", Role::as_str);
    if change.lost {
        tracing::warn!(cluster = cluster.name, node = %change.node.address, "what runs on the node is given up");
    } else {
        tracing::info!(
            cluster = cluster.name,
            node = %change.node.address,
            from = role(change.from),
            role = role(change.to),
            "node role"
        );
    }
}
