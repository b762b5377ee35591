//! One configured cluster at run time: its nodes, its verifiers and the credentials that its pools log in with.

use super::admin_connection::AdminConnection;
use super::learned::Learned;
use super::settings::ClusterConfig;
use crate::auth::settings::AuthSettings;
use crate::auth::{PgPass, Verifiers};
use crate::net::{BeforeConnect, NodeAddress};
use crate::secret::Secret;
use crate::server::settings::{NodeSettings, ParameterSettings};
use crate::server::{Credentials, KeyCache, Login, OpenError, OpenFuture, Opener, ServerConnection, open};
use crate::topology::Cluster;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

#[derive(Debug)]
pub struct ClusterState {
    pub cluster: Arc<Cluster>,
    pub verifiers: Arc<Verifiers>,
    pub upstream: Arc<Upstream>,
    /// What the verifiers were fetched by.
    auth: AuthSettings,
}

impl ClusterState {
    /// `control`: the runtime on which the admin connections live.
    pub fn new(
        settings: &ClusterConfig,
        pgpass: Arc<PgPass>,
        before_connect: BeforeConnect,
        control: &Handle,
    ) -> Self {
        let nodes = settings.node.nodes.iter().cloned();
        let cluster = Arc::new(Cluster::new(settings.name.clone(), nodes, settings.topology.clone()));
        let upstream = Arc::new(Upstream {
            pgpass,
            keys: KeyCache::default(),
            learned: Mutex::new(Learned::new(settings.auth.password_passthrough)),
            settings: ArcSwap::from_pointee(settings.node.clone()),
            logins: Mutex::default(),
            before_connect,
        });
        let verifiers = verifiers(settings, &cluster, &upstream, control);
        Self { cluster, verifiers, upstream, auth: settings.auth.clone() }
    }

    /// The same cluster under other settings. Nodes keep what is known about them, and verifiers that were fetched stay
    /// where they would be fetched in the same way again. Returns the nodes that nobody watches yet, too.
    pub fn reconfigured(&self, settings: &ClusterConfig, control: &Handle) -> (Self, Vec<Unwatched>) {
        let added = self.cluster.reconfigure(&settings.node.nodes, settings.topology.clone());
        let before = self.upstream.settings.swap(Arc::new(settings.node.clone()));
        self.upstream.learned().keep_passwords(settings.auth.password_passthrough);
        let cluster = Arc::clone(&self.cluster);
        let upstream = Arc::clone(&self.upstream);
        let same = self.auth == settings.auth
            && before.nodes == settings.node.nodes
            && before.admin_user == settings.node.admin_user
            && before.admin_database == settings.node.admin_database;
        let verifiers = if same {
            Arc::clone(&self.verifiers)
        } else {
            verifiers(settings, &cluster, &upstream, control)
        };
        (Self { cluster, verifiers, upstream, auth: settings.auth.clone() }, added)
    }
}

/// A node and its position.
pub type Unwatched = (crate::topology::NodeIndex, Arc<crate::topology::Node>);

fn verifiers(
    settings: &ClusterConfig,
    cluster: &Arc<Cluster>,
    upstream: &Arc<Upstream>,
    control: &Handle,
) -> Arc<Verifiers> {
    let admin = AdminConnection::new(settings, Arc::clone(cluster), Arc::clone(upstream), control.clone());
    let auth = &settings.auth;
    Arc::new(Verifiers::new(Arc::new(admin), auth.cache_ttl, auth.verifiers.clone()))
}

/// How the cluster's nodes are logged in to.
#[derive(Debug)]
pub struct Upstream {
    pgpass: Arc<PgPass>,
    keys: KeyCache,
    learned: Mutex<Learned>,
    settings: ArcSwap<NodeSettings>,
    /// By node: how many more logins of pools may be under way, over all pools.
    logins: Mutex<HashMap<NodeAddress, Arc<Semaphore>>>,
    before_connect: BeforeConnect,
}

/// Where libpq looks for a server that it is told nothing of, and then for `localhost` in the password file.
const DEFAULT_SOCKET_DIRECTORIES: [&str; 3] = ["/run/postgresql", "/tmp", "/var/run/postgresql"];
/// Logins to one node at a time: a storm of clients reaches PostgreSQL as a queue, in order of arrival.
const LOGINS_PER_NODE_MAX: usize = 16;

impl Upstream {
    /// As of the newest configuration.
    pub fn settings(&self) -> Arc<NodeSettings> {
        self.settings.load_full()
    }

    /// Remembers what a client has proved who it is with, so that no password has to be stored to log in as its role to the
    /// same database. Nobody else's connection is opened with it.
    pub fn learn(&self, database: &str, role: &str, proof: Credentials) {
        self.learned().add(database, role, proof);
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection without waiting in line.
    async fn open_own(&self, node: &NodeAddress, login: Login<'_>) -> Result<ServerConnection, OpenError> {
        let credentials = self.credentials(node, login.database, login.role);
        let settings = self.settings();
        let opened = self.open_with(node, login, &credentials, &settings).await;
        if !matches!(opened, Err(OpenError::NoCredentials { .. })) || !credentials.is_empty() {
            return opened;
        }
        // A client may have brought some meanwhile, and may be waiting for this very connection.
        match self.credentials(node, login.database, login.role) {
            credentials if credentials.is_empty() => opened,
            credentials => self.open_with(node, login, &credentials, &settings).await,
        }
    }

    async fn open_with(
        &self,
        node: &NodeAddress,
        login: Login<'_>,
        credentials: &Credentials,
        settings: &NodeSettings,
    ) -> Result<ServerConnection, OpenError> {
        let tls = settings.tls.made();
        open(node, login, credentials, &self.keys, tls, &self.before_connect, settings.connect_timeout).await
    }

    fn logins(&self, node: &NodeAddress) -> Arc<Semaphore> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let semaphore = || Arc::new(Semaphore::new(LOGINS_PER_NODE_MAX));
        Arc::clone(logins.entry(node.clone()).or_insert_with(semaphore))
    }

    /// Opens a connection as the admin user, for the proxy's own use: not in line with pools.
    pub async fn open_admin(
        &self,
        node: &NodeAddress,
        user: &str,
        database: &str,
    ) -> Result<ServerConnection, OpenError> {
        let parameters =
            ParameterSettings { application_name: Some("halephant".into()), ..Default::default() };
        self.open_own(node, Login { database, role: user, parameters: &parameters, replication: None }).await
    }

    /// A password from the password file comes first; what clients brought serves where no line matches.
    fn credentials(&self, node: &NodeAddress, database: &str, role: &str) -> Credentials {
        let lookup = |host: &str| self.pgpass.lookup(host, node.port, database, role);
        let mut password: Option<Secret<Vec<u8>>> = lookup(&node.host);
        if password.is_none() && DEFAULT_SOCKET_DIRECTORIES.contains(&node.host.trim_end_matches('/')) {
            password = lookup("localhost");
        }
        if password.is_some() {
            return Credentials { password, ..Credentials::default() };
        }
        self.learned().of(database, role)
    }
}

impl Opener for Upstream {
    fn open<'a>(&'a self, node: &'a NodeAddress, login: Login<'a>) -> OpenFuture<'a> {
        Box::pin(async move {
            let logins = self.logins(node);
            // Each login ends within connect_timeout, so the line moves. The semaphore is never closed.
            let _turn = logins.acquire().await.ok();
            self.open_own(node, login).await
        })
    }
}
