//! What a configuration stands for at run time: clusters, pools, and what their sessions share.

use super::cluster::ClusterState;
use super::prober::Prober;
use super::settings::Config;
use crate::auth::PgPass;
use crate::cancel::Sessions;
use crate::net::Role;
use crate::pool::{Pool, UserIndex};
use crate::route;
use crate::session::welcome::Welcomes;
use crate::telemetry::metrics::ProcessMetrics;
use crate::worker::Workers;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// How often pools look after their idle connections.
const TEND_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The running proxy as its connections see it.
#[derive(Debug)]
pub struct State {
    pub clusters: Vec<Arc<ClusterState>>,
    /// By the name that clients ask for.
    pools: HashMap<String, Arc<Served>>,
    pub sessions: Arc<Sessions>,
    pub metrics: Arc<ProcessMetrics>,
    /// Makes the salts of unknown users: the same for a name, unpredictable from outside.
    pub mock_secret: [u8; 32],
}

/// A pool with what its logins need.
#[derive(Debug)]
pub struct Served {
    pub pool: Arc<Pool>,
    pub cluster: Arc<ClusterState>,
    pub welcomes: Welcomes,
}

impl Served {
    pub fn route(&self, user: UserIndex) -> Role {
        let settings = self.pool.settings();
        route::role(settings, &settings.users[user.0])
    }
}

impl State {
    pub fn new(
        config: &Config,
        pgpass: Arc<PgPass>,
        workers: &Workers,
        control: &Handle,
    ) -> Result<Self, getrandom::Error> {
        let mut clusters = Vec::new();
        let mut pools = HashMap::new();
        for settings in &config.clusters {
            let cluster = Arc::new(ClusterState::new(settings, Arc::clone(&pgpass), control));
            for pool in &settings.pools {
                let opener = Arc::clone(&cluster.upstream);
                let nodes = Arc::clone(&cluster.cluster);
                let served = Served {
                    pool: Pool::new(pool.clone(), nodes, opener, workers.clone()),
                    cluster: Arc::clone(&cluster),
                    welcomes: Welcomes::default(),
                };
                pools.insert(pool.name.clone(), Arc::new(served));
            }
            clusters.push(cluster);
        }
        let mut mock_secret = [0; 32];
        getrandom::fill(&mut mock_secret)?;
        Ok(Self { clusters, pools, sessions: Arc::default(), metrics: Arc::default(), mock_secret })
    }

    pub fn served(&self, database: &str) -> Option<&Arc<Served>> {
        self.pools.get(database)
    }

    /// Some pool that has this user: for the login of somebody who asks for an unknown database.
    pub fn any_with_user(&self, user: &str) -> Option<&Arc<Served>> {
        self.pools.values().find(|served| served.pool.user(user).is_some())
    }

    /// Starts what runs by the clock, on the calling runtime. Returns when every node has been asked once.
    pub async fn start(self: &Arc<Self>, config: &Config) {
        let mut first = Vec::new();
        for (settings, cluster) in config.clusters.iter().zip(&self.clusters) {
            let mut prober =
                Prober::new(settings, Arc::clone(&cluster.cluster), Arc::clone(&cluster.upstream));
            first.push(tokio::spawn(async move {
                prober.probe().await;
                prober
            }));
        }
        for (prober, settings) in first.into_iter().zip(&config.clusters) {
            // A probe that panicked would leave its cluster without roles: it is not started again, but seen in the log.
            let Ok(prober) = prober.await else { continue };
            let pools: Vec<_> =
                settings.pools.iter().filter_map(|pool| self.pools.get(&pool.name).cloned()).collect();
            tokio::spawn(prober.run(move || pools.iter().for_each(|served| served.pool.wake())));
        }
        for served in self.pools.values().cloned() {
            tokio::spawn(async move {
                let mut clock = tokio::time::interval(TEND_INTERVAL);
                loop {
                    clock.tick().await;
                    served.pool.tend();
                }
            });
        }
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values().map(|served| &served.pool)
    }
}
