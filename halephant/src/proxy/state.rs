//! What one configuration stands for at run time: clusters, pools, and what their sessions share.

use super::admission::Admission;
use super::cluster::{ClusterState, Unwatched};
use super::live::Live;
use super::run::Event;
use super::settings::Config;
use crate::auth::PgPass;
use crate::auth::throttle::Throttle;
use crate::cancel::{Identity, Sessions};
use crate::net::{BeforeConnect, Role};
use crate::notify::Listeners;
use crate::pool::settings::{PoolMode, PoolSettings};
use crate::pool::{Pool, Retired, UserIndex};
use crate::prepared::Store;
use crate::route::{Access, asks_for_writes};
use crate::server::parameters::SessionParameters;
use crate::session::welcome::Welcomes;
use crate::splice::Splice;
use crate::telemetry::metrics::ProcessMetrics;
use crate::telemetry::trace::Tracer;
use crate::topology::Cluster;
use crate::worker::Workers;
use halephant_protocol::scram::{ITERATIONS_DEFAULT, Verifier};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The running proxy as the connections see it that came under one configuration.
#[derive(Debug)]
pub struct State {
    pub config: Config,
    pub clusters: Vec<Arc<ClusterState>>,
    /// By the name that clients ask for.
    pools: HashMap<String, Arc<Served>>,
    pub shared: Arc<Process>,
}

/// What stays through every reload.
#[derive(Debug)]
pub struct Process {
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<ProcessMetrics>,
    pub admission: Arc<Admission>,
    /// The prepared statements of all clients.
    pub statements: Arc<Store>,
    /// Who listens for the clients of pools that multiplex.
    pub listeners: Arc<Listeners>,
    pub tracer: Tracer,
    /// The kernel path, where it is on.
    pub splice: Option<Splice>,
    /// What the process is told from inside.
    orders: mpsc::Sender<Event>,
    live: OnceLock<Weak<Live>>,
    /// Pools that the configuration had before, with their clusters: one that comes back goes on with what it has.
    retired: Mutex<HashMap<String, (Weak<Cluster>, Retired)>>,
    /// By an order of the console; pools that a reload brings are paused, too.
    paused: AtomicBool,
    /// Makes the salts of unknown users: the same for a name, unpredictable from outside.
    mock_secret: [u8; 32],
    /// The most iterations of a verifier so far: what unknown users seem to have where nobody stands in for them.
    mock_iterations: AtomicU32,
    /// Chooses who stands in for whom, so that it cannot be told from outside.
    stand_ins: RandomState,
    /// Who failed to log in, and how often.
    pub throttle: Throttle,
    pgpass: Arc<PgPass>,
    workers: Workers,
    /// The runtime of probes, auth queries and pools' clocks.
    control: Handle,
}

/// A pool with what its logins need.
#[derive(Debug)]
pub struct Served {
    pub pool: Arc<Pool>,
    pub cluster: Arc<ClusterState>,
    pub welcomes: Welcomes,
    /// Servers may be logged in to with the passwords that clients send in cleartext.
    pub password_passthrough: bool,
}

impl Served {
    /// Where a user that has just logged in goes, and `false` where it asks to be writable and cannot be.
    pub fn route(&self, user: UserIndex, wanted: &SessionParameters) -> (Role, bool) {
        let access = Access::of(self.pool.settings(), self.pool.user_settings(user));
        let role = access.role(wanted, None, || self.pool.cluster().has(Role::Replica));
        (role, !(access.is_read_only() && asks_for_writes(wanted)))
    }
}

impl Process {
    pub fn new(
        pgpass: Arc<PgPass>,
        workers: Workers,
        control: Handle,
        tracer: Tracer,
        splice: Option<Splice>,
        orders: mpsc::Sender<Event>,
        identity: Identity,
    ) -> Result<Self, getrandom::Error> {
        let mut mock_secret = [0; 32];
        getrandom::fill(&mut mock_secret)?;
        let sessions = Arc::new(Sessions::new(identity));
        let metrics: Arc<ProcessMetrics> = Arc::default();
        let admission = Admission::new(Arc::clone(&metrics));
        // Its limit comes with each configuration.
        let statements = Store::new(0);
        let live = OnceLock::new();
        let paused = AtomicBool::new(false);
        Ok(Self {
            sessions,
            metrics,
            admission,
            statements,
            listeners: Listeners::new(control.clone()),
            tracer,
            splice,
            orders,
            live,
            retired: Mutex::default(),
            paused,
            mock_secret,
            mock_iterations: AtomicU32::new(ITERATIONS_DEFAULT),
            stand_ins: RandomState::new(),
            throttle: Throttle::default(),
            pgpass,
            workers,
            control,
        })
    }

    /// What is done to a socket that will lead to PostgreSQL.
    fn before_connect(&self) -> BeforeConnect {
        match self.splice.clone() {
            Some(splice) => BeforeConnect::new(move |socket| splice.before_connect(socket)),
            None => BeforeConnect::default(),
        }
    }

    /// A verifier for somebody who is unknown or has none. It looks like those of the others and fits no password.
    pub fn mock_verifier(&self, user: &str, iterations: Option<NonZeroU32>) -> Verifier {
        let most = NonZeroU32::new(self.mock_iterations.load(Ordering::Relaxed));
        Verifier::mock(&self.mock_secret, user, iterations.or(most).unwrap_or(NonZeroU32::MIN))
    }

    /// A verifier that somebody has.
    pub fn saw_verifier(&self, verifier: &Verifier) {
        self.mock_iterations.fetch_max(verifier.iterations().get(), Ordering::Relaxed);
    }

    fn retired(&self) -> MutexGuard<'_, HashMap<String, (Weak<Cluster>, Retired)>> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|_, (_, pool)| !pool.is_over());
        retired
    }

    /// A pool of the cluster that was retired and has connections yet.
    fn revived(&self, cluster: &ClusterState, settings: &PoolSettings) -> Option<Arc<Pool>> {
        let mut retired = self.retired();
        let (of, _) = retired.get(&settings.name)?;
        if !std::ptr::eq(of.as_ptr(), Arc::as_ptr(&cluster.cluster)) {
            return None;
        }
        let (_, pool) = retired.remove(&settings.name)?;
        pool.revived(settings.clone())
    }

    /// Tells the process something; a queue that is full has it already.
    pub fn order(&self, event: Event) {
        let _ = self.orders.try_send(event);
    }

    /// Returns whether every pool was paused before.
    pub fn set_paused(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::SeqCst)
    }

    /// Where the state is replaced; known once the first one is made.
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.get()?.upgrade()
    }

    pub fn set_live(&self, live: &Arc<Live>) {
        let _ = self.live.set(Arc::downgrade(live));
    }
}

/// What is new in a state and has to be set going.
#[derive(Debug, Default)]
pub struct Novelties {
    pub nodes: Vec<(Arc<ClusterState>, Vec<Unwatched>)>,
    pub pools: Vec<Arc<Pool>>,
}

impl State {
    pub fn new(config: Config, shared: Arc<Process>) -> (Self, Novelties) {
        let empty = Config { clusters: Vec::new(), ..config.clone() };
        let nothing = Self { config: empty, clusters: Vec::new(), pools: HashMap::new(), shared };
        nothing.succeeded_by(config)
    }

    /// The state for another configuration. What both configurations have is carried over: clusters with what is known of their
    /// nodes, pools with their connections. Pools that are gone are retired.
    pub fn succeeded_by(&self, config: Config) -> (Self, Novelties) {
        let mut new = Novelties::default();
        self.shared.statements.set_limit(config.server.max_prepared_statements);
        let mut clusters = Vec::new();
        let mut pools = HashMap::new();
        for of_cluster in &config.clusters {
            let known = self.clusters.iter().find(|known| known.cluster.name == of_cluster.name);
            let (cluster, unwatched) = match known {
                Some(known) => known.reconfigured(of_cluster, &self.shared.control),
                None => {
                    let pgpass = Arc::clone(&self.shared.pgpass);
                    let before = self.shared.before_connect();
                    let cluster = ClusterState::new(of_cluster, pgpass, before, &self.shared.control);
                    let nodes = cluster.cluster.configured();
                    (cluster, nodes)
                }
            };
            let cluster = Arc::new(cluster);
            for pool in &of_cluster.pools {
                let before = self.pools.get(&pool.name);
                let pool = match before.filter(|served| served.is_of(&cluster)) {
                    Some(served) => served.pool.reconfigured(pool.clone()),
                    None => self.shared.revived(&cluster, pool).unwrap_or_else(|| {
                        let nodes = Arc::clone(&cluster.cluster);
                        let opener = Arc::clone(&cluster.upstream);
                        let pool = Pool::new(pool.clone(), nodes, opener, self.shared.workers.clone());
                        pool.set_tracer(self.shared.tracer.clone());
                        if self.shared.paused.load(Ordering::SeqCst) {
                            pool.pause();
                        }
                        new.pools.push(Arc::clone(&pool));
                        pool
                    }),
                };
                let name = pool.settings().name.clone();
                let served = Served {
                    pool,
                    cluster: Arc::clone(&cluster),
                    welcomes: Welcomes::default(),
                    password_passthrough: of_cluster.auth.password_passthrough,
                };
                pools.insert(name, Arc::new(served));
            }
            new.nodes.push((Arc::clone(&cluster), unwatched));
            clusters.push(cluster);
        }
        let next = Self { config, clusters, pools, shared: Arc::clone(&self.shared) };
        self.retire_all_but(&next);
        (next, new)
    }

    /// Retires the pools, and removes the nodes, that `next` does not have.
    fn retire_all_but(&self, next: &Self) {
        for (name, served) in &self.pools {
            if next.pools.get(name).is_none_or(|kept| !served.is_of(&kept.cluster)) {
                let retired = served.pool.retire();
                let cluster = Arc::downgrade(&served.cluster.cluster);
                self.shared.retired().insert(name.clone(), (cluster, retired));
            }
        }
    }

    pub fn served(&self, database: &str) -> Option<&Arc<Served>> {
        self.pools.get(database)
    }

    /// The pool for physical replication, which is of no database: the one that is asked for, or any in session mode that has the
    /// user.
    pub fn replicated(&self, database: &str, user: &str) -> Option<&Arc<Served>> {
        let fits = |served: &&Arc<Served>| {
            served.pool.settings().mode == PoolMode::Session && served.pool.user(user).is_some()
        };
        let order = |served: &&Arc<Served>| served.pool.settings().name.clone();
        self.served(database).or_else(|| self.pools.values().filter(fits).min_by_key(order))
    }

    /// Some pool that has this user: for the login of somebody who asks for an unknown database.
    pub fn any_with_user(&self, user: &str) -> Option<&Arc<Served>> {
        self.pools.values().find(|served| served.pool.user(user).is_some())
    }

    /// A user whom an unknown one is treated like: what is stored of it is looked up as if it were the client. The same for a name
    /// as long as there is this user.
    pub fn stand_in(&self, database: &str, user: &str) -> Option<(&Arc<Served>, UserIndex)> {
        let order = |name: &str| self.shared.stand_ins.hash_one((user, name));
        let any = || self.pools.iter().min_by_key(|(name, _)| order(name)).map(|(_, served)| served);
        let served = self.served(database).or_else(any)?;
        let (index, _) = served.pool.users().min_by_key(|(_, settings)| order(&settings.name))?;
        Some((served, index))
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values().map(|served| &served.pool)
    }

    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.shared.sessions
    }
}

impl Served {
    fn is_of(&self, cluster: &ClusterState) -> bool {
        Arc::ptr_eq(&self.cluster.cluster, &cluster.cluster)
    }
}
