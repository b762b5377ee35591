//! Every listener of the process. They stay for their counts; a connection is there only while somebody listens.

use super::listener::{Listener, ListenerSnapshot, Origin};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Cluster, database, role and encoding: configured names, and the server's names of its encodings.
type Key = (String, String, String, String);

#[derive(Debug)]
pub struct Listeners {
    control: Handle,
    all: Mutex<BTreeMap<Key, Arc<Listener>>>,
}

impl Listeners {
    /// `control`: the runtime on which the connections live.
    pub fn new(control: Handle) -> Arc<Self> {
        Arc::new(Self { control, all: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Listener>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, origin: Origin) -> Arc<Listener> {
        let key = (
            origin.cluster.name.clone(),
            origin.database.clone(),
            origin.role.clone(),
            origin.encoding.clone(),
        );
        let mut all = self.lock();
        if let Some(known) = all.get(&key)
            && Arc::ptr_eq(&known.origin.cluster, &origin.cluster)
        {
            return Arc::clone(known);
        }
        let listener = Listener::new(origin, self.control.clone());
        all.insert(key, Arc::clone(&listener));
        listener
    }

    /// In the order of clusters, databases, roles and encodings.
    pub fn snapshots(&self) -> Vec<ListenerSnapshot> {
        self.lock().values().map(|listener| listener.snapshot()).collect()
    }
}
