//! Where everything is measured: one PostgreSQL for all, and one program at a time before it.

use anyhow::{Context, Result, bail};
use halephant_harness::port::Port;
use halephant_harness::postgres::Binaries;
use halephant_harness::{Cluster, Login, Proxy, ProxyConfig, pgbench, process};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lane::{Lane, Mode, SERVER_CONNECTIONS, Work};
use super::options::Plan;
use super::peer::{Peer, Server};
use super::program::Program;

const ROLE: &str = "bench";
const PASSWORD: &str = "bench-password";
const DATABASE: &str = "bench";

/// For session pools and direct clients.
const CONNECTIONS_MAX: u32 = 150;

pub struct Stage {
    pub cluster: Cluster,
    halephant: PathBuf,
    /// Program files by name.
    peers: BTreeMap<&'static str, PathBuf>,
    settings: Vec<(String, toml::Value)>,
}

/// A program that runs, and the way to PostgreSQL through it.
pub struct Subject {
    pub login: Login,
    /// Of the admin API, where the lane reads it.
    pub admin: Option<Port>,
    running: Running,
}

enum Running {
    Nothing,
    Halephant(Box<Proxy>),
    Peer(Peer),
}

impl Subject {
    /// Its processes, without those below them.
    pub fn pids(&self) -> Vec<u32> {
        match &self.running {
            Running::Nothing => Vec::new(),
            Running::Halephant(proxy) => proxy.pid().into_iter().collect(),
            Running::Peer(peer) => peer.pids(),
        }
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        self.pids().into_iter().flat_map(process::tree).map(process::resident_bytes).sum()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        match &self.running {
            Running::Nothing => String::new(),
            Running::Halephant(proxy) => proxy.log_tail(),
            Running::Peer(peer) => peer.log_tail(),
        }
    }
}

impl Stage {
    /// Starts PostgreSQL with pgbench's tables at `scale`.
    pub fn start(plan: &Plan, scale: u32) -> Result<Self> {
        let binaries = Binaries::find_or_install()?;
        let cluster = Cluster::builder()
            .binaries(binaries)
            .setting("shared_buffers", "512MB")
            .setting("max_connections", &CONNECTIONS_MAX.to_string())
            .role(ROLE, PASSWORD)
            .database(DATABASE, ROLE)
            .start()?;
        let direct = cluster.login(ROLE, DATABASE);
        pgbench::initialize(cluster.binaries(), &direct, scale)?;
        let tables =
            ["CREATE UNLOGGED TABLE bulk (line text)", "CREATE UNLOGGED TABLE visits (at timestamptz)"];
        for sql in tables {
            halephant_harness::psql::query(cluster.binaries(), &direct, sql)?;
        }
        cluster.query(DATABASE, "VACUUM ANALYZE")?;
        // What the first seconds would otherwise pay for.
        cluster.query(DATABASE, "CHECKPOINT")?;
        Ok(Self {
            cluster,
            halephant: plan.halephant.clone(),
            peers: plan.peers.clone(),
            settings: plan.settings.clone(),
        })
    }

    pub fn direct(&self) -> Login {
        self.cluster.login(ROLE, DATABASE)
    }

    /// Starts `program` for the clients of `lane`.
    pub fn subject(&self, program: Program, lane: &Lane) -> Result<Subject> {
        let direct = self.direct();
        match program {
            Program::Direct => Ok(Subject { login: direct, admin: None, running: Running::Nothing }),
            Program::Halephant | Program::HalephantOwn | Program::HalephantColocated => {
                let settings = self.settings.iter().cloned();
                let config =
                    settings.fold(self.config(program, lane), |config, (key, value)| config.set(&key, value));
                self.proxy(&self.halephant, config, lane)
            }
            Program::HalephantBaseline => self.proxy(self.file(program)?, self.config(program, lane), lane),
            peer => {
                let peer = Peer::start(peer, self.file(peer)?, &self.server(lane)?)?;
                Ok(Subject { login: direct.at(peer.port()), admin: None, running: Running::Peer(peer) })
            }
        }
    }

    fn proxy(&self, file: &Path, config: ProxyConfig, lane: &Lane) -> Result<Subject> {
        let admin = (lane.work == Work::Scrape).then(Port::pick).transpose()?;
        let config = match &admin {
            Some(port) => config.set("admin.listen", format!("127.0.0.1:{}", port.number())),
            None => config,
        };
        let proxy = Proxy::start_binary(file, &config)?;
        Ok(Subject { login: proxy.login(self.direct()), admin, running: Running::Halephant(Box::new(proxy)) })
    }

    fn file(&self, program: Program) -> Result<&Path> {
        let name = program.peer().context("it is halephant")?;
        Ok(self.peers.get(name).with_context(|| format!("{name} is not here"))?)
    }

    fn server(&self, lane: &Lane) -> Result<Server> {
        let verifier = self
            .cluster
            .query(DATABASE, &format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{ROLE}'"))?;
        if !verifier.starts_with("SCRAM-SHA-256$") {
            bail!("PostgreSQL stored no SCRAM verifier");
        }
        let direct = self.direct();
        Ok(Server { login: direct, verifier, mode: lane.mode, pool_size: pool_size(lane) })
    }

    fn config(&self, program: Program, lane: &Lane) -> ProxyConfig {
        let (mode, colocated) = match program {
            Program::HalephantOwn => ("require", false),
            Program::HalephantColocated => ("require", true),
            _ => ("off", false),
        };
        let config = ProxyConfig::new(&self.cluster)
            .set("logging.level", "info")
            .set("server.checkout_timeout", "60s")
            .set("ebpf.mode", mode)
            .pool(DATABASE, lane.mode.name(), pool_size(lane), &[ROLE]);
        // A key that does nothing is refused.
        if colocated { config.set("ebpf.colocated", true) } else { config }
    }
}

fn pool_size(lane: &Lane) -> u32 {
    match lane.mode {
        Mode::Session => CONNECTIONS_MAX - 30,
        Mode::Transaction => SERVER_CONNECTIONS,
    }
}
