//! One configured cluster at run time: its nodes, its verifiers and the credentials that its pools log in with.

use super::admin_connection::AdminConnection;
use super::settings::ClusterConfig;
use crate::auth::{PgPass, Verifiers};
use crate::net::NodeAddress;
use crate::secret::Secret;
use crate::server::{
    Credentials, KeyCache, LearnedKeys, Login, OpenError, OpenFuture, Opener, ServerConnection, open,
};
use crate::topology::Cluster;
use halephant_protocol::scram::{ClientKeys, Verifier};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

#[derive(Debug)]
pub struct ClusterState {
    pub cluster: Arc<Cluster>,
    pub verifiers: Verifiers,
    pub upstream: Arc<Upstream>,
}

impl ClusterState {
    /// `control`: the runtime on which the admin connections live.
    pub fn new(config: &ClusterConfig, pgpass: Arc<PgPass>, control: &Handle) -> Self {
        let cluster = Arc::new(Cluster::new(config.name.clone(), config.node.nodes.iter().cloned()));
        let logins =
            cluster.nodes().map(|(_, node)| (node.address.clone(), Semaphore::new(LOGINS_PER_NODE_MAX)));
        let upstream = Arc::new(Upstream {
            pgpass,
            keys: KeyCache::default(),
            learned: Mutex::default(),
            connect_timeout: config.node.connect_timeout,
            logins: logins.collect(),
        });
        let admin =
            AdminConnection::new(config, Arc::clone(&cluster), Arc::clone(&upstream), control.clone());
        let verifiers = Verifiers::new(Arc::new(admin), config.auth.cache_ttl);
        Self { cluster, verifiers, upstream }
    }
}

/// How the cluster's nodes are logged in to.
#[derive(Debug)]
pub struct Upstream {
    pgpass: Arc<PgPass>,
    keys: KeyCache,
    /// By role: the keys of clients that proved their password to us.
    learned: Mutex<HashMap<String, LearnedKeys>>,
    connect_timeout: Duration,
    /// By node: how many more logins of pools may be under way, over all pools.
    logins: HashMap<NodeAddress, Semaphore>,
}

/// Logins to one node at a time: a storm of clients reaches PostgreSQL as a queue, in order of arrival.
const LOGINS_PER_NODE_MAX: usize = 16;

impl Upstream {
    /// Remembers the keys of a client, so that no password has to be stored to log in as its role.
    pub fn learn(&self, role: &str, verifier: &Verifier, keys: ClientKeys) {
        let learned =
            LearnedKeys { keys, salt: verifier.salt().to_vec(), iterations: verifier.iterations().get() };
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).insert(role.to_owned(), learned);
    }

    /// A password from the password file comes first; learned keys serve where no line matches.
    fn credentials(&self, node: &NodeAddress, database: &str, role: &str) -> Credentials {
        let password: Option<Secret<Vec<u8>>> = self.pgpass.lookup(&node.host, node.port, database, role);
        let keys = match password {
            Some(_) => None,
            None => self.learned.lock().unwrap_or_else(PoisonError::into_inner).get(role).cloned(),
        };
        Credentials { password, keys }
    }
}

impl Upstream {
    /// Opens a connection for the proxy's own use, without waiting in line.
    pub async fn open_own(
        &self,
        node: &NodeAddress,
        login: Login<'_>,
    ) -> Result<ServerConnection, OpenError> {
        let credentials = self.credentials(node, login.database, login.role);
        open(node, login, &credentials, &self.keys, self.connect_timeout).await
    }
}

impl Opener for Upstream {
    fn open<'a>(&'a self, node: &'a NodeAddress, login: Login<'a>) -> OpenFuture<'a> {
        Box::pin(async move {
            // Each login ends within connect_timeout, so the line moves. The semaphores are never closed.
            let _turn = match self.logins.get(node) {
                Some(logins) => logins.acquire().await.ok(),
                None => None,
            };
            self.open_own(node, login).await
        })
    }
}
