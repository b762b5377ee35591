//! Where everything is measured: one PostgreSQL for all, and one program at a time before it.

use anyhow::{Context, Result, bail};
use halephant_harness::certificates::{self, Identity};
use halephant_harness::port::Port;
use halephant_harness::postgres::Binaries;
use halephant_harness::scratch::Scratch;
use halephant_harness::{Cluster, Login, Proxy, ProxyConfig, pgbench, process, wait_for};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hosts::{Host, Hosts};
use super::lane::{Lane, Mode, Remote, SERVER_CONNECTIONS, Work};
use super::options::Plan;
use super::peer::{Peer, Server};
use super::program::Program;
use super::scrape;
use super::wire::Client;

const ROLE: &str = "bench";
const PASSWORD: &str = "bench-password";
const DATABASE: &str = "bench";

/// For a session that asks to come to the kernel.
const PATH_LIMIT: Duration = Duration::from_secs(5);

/// For session pools and direct clients.
const CONNECTIONS_MAX: u32 = 150;

pub struct Stage {
    pub cluster: Cluster,
    halephant: PathBuf,
    /// Program files by name.
    peers: BTreeMap<&'static str, PathBuf>,
    settings: Vec<(String, toml::Value)>,
    /// Where a lane has a remote end; after PostgreSQL, which lives there.
    hosts: Option<Result<Hosts>>,
    identity: Identity,
    /// The identity's files.
    scratch: Scratch,
}

/// A program that runs, and the way to PostgreSQL through it.
pub struct Subject {
    pub login: Login,
    /// Of the admin API, where it is read.
    pub admin: Option<Port>,
    running: Running,
    /// Where clients on another host reach it.
    _port: Option<Port>,
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
        let hosts = plan.lanes.iter().any(|lane| lane.remote.is_some()).then(Hosts::start);
        let binaries = Binaries::find_or_install()?;
        let mut cluster = Cluster::builder()
            .binaries(binaries)
            .setting("shared_buffers", "512MB")
            .setting("max_connections", &CONNECTIONS_MAX.to_string())
            .role(ROLE, PASSWORD)
            .database(DATABASE, ROLE);
        if let Some(Ok(_)) = &hosts {
            cluster = cluster
                .setting("listen_addresses", &format!("127.0.0.1,{}", Hosts::address()))
                .hba(&format!("host all all {} scram-sha-256", Hosts::network()));
        }
        let cluster = cluster.start()?;
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
            hosts,
            identity: certificates::Subject::new("localhost", &["localhost", "127.0.0.1"]).self_signed()?,
            scratch: Scratch::new("stage")?,
        })
    }

    pub fn direct(&self) -> Login {
        self.cluster.login(ROLE, DATABASE)
    }

    /// Starts `program` for the clients of `lane`, on the host where it has to be.
    pub fn subject(&self, program: Program, lane: &Lane) -> Result<Subject> {
        let subject = match lane.remote {
            Some(Remote::Server) => self.hosts()?.at(Host::Client, || self.start_program(program, lane))?,
            Some(Remote::Client) => self.hosts().and_then(|_| self.start_program(program, lane))?,
            None => self.start_program(program, lane)?,
        };
        if let Some(path) = program.kernel_path().filter(|_| lane.remote.is_some()) {
            self.require_path(&subject, lane, path)?;
        }
        Ok(subject)
    }

    /// Runs `work` where the clients of `lane` are.
    pub fn at_clients<T>(&self, lane: &Lane, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match lane.remote {
            Some(_) => self.hosts()?.at(Host::Client, work),
            None => work(),
        }
    }

    fn hosts(&self) -> Result<&Hosts> {
        match self.hosts.as_ref().context("no lane has a remote end")? {
            Ok(hosts) => Ok(hosts),
            Err(error) => bail!("{error:#}"),
        }
    }

    /// A session that is not on `path` would be measured as if it were.
    fn require_path(&self, subject: &Subject, lane: &Lane, path: &str) -> Result<()> {
        let admin = subject.admin.as_ref().context("it has no admin port")?.number();
        let mut client = self.at_clients(lane, || Client::connect(&subject.login))?;
        let wanted = format!("\"kernel_path\":\"{path}\"");
        let mut clients = String::new();
        let found = wait_for(&format!("a session on {path}"), PATH_LIMIT, || {
            client.query("SELECT 1")?;
            let read = || scrape::read(admin, "/admin/clients");
            clients = match lane.remote {
                Some(Remote::Server) => self.at_clients(lane, read)?,
                _ => read()?,
            };
            Ok(clients.contains(&wanted).then_some(()))
        });
        found.map_err(|error| error.context(clients).context(subject.log_tail()))
    }

    fn start_program(&self, program: Program, lane: &Lane) -> Result<Subject> {
        match program {
            Program::Direct => {
                let login = match lane.remote {
                    Some(_) => Login { host: Hosts::address().to_string(), ..self.direct() },
                    None => self.direct(),
                };
                Ok(Subject { login, admin: None, running: Running::Nothing, _port: None })
            }
            Program::HalephantBaseline => self.proxy(self.file(program)?, self.config(program, lane)?, lane),
            _ if program.peer().is_none() => {
                let settings = self.settings.iter().cloned();
                let config = settings
                    .fold(self.config(program, lane)?, |config, (key, value)| config.set(&key, value));
                self.proxy(&self.halephant, config, lane)
            }
            peer => {
                let peer = Peer::start(peer, self.file(peer)?, &self.server(lane)?)?;
                let login = self.direct().at(peer.port());
                Ok(Subject { login, admin: None, running: Running::Peer(peer), _port: None })
            }
        }
    }

    fn proxy(&self, file: &Path, mut config: ProxyConfig, lane: &Lane) -> Result<Subject> {
        let has_admin = lane.work == Work::Scrape || lane.remote.is_some();
        let admin = has_admin.then(Port::pick).transpose()?;
        if let Some(port) = &admin {
            config = config.set("admin.listen", format!("127.0.0.1:{}", port.number()));
        }
        // The harness has it listen on loopback, which is no way for a client on another host.
        let port = (lane.remote == Some(Remote::Client)).then(Port::pick).transpose()?;
        if let Some(port) = &port {
            config = config.listen(&format!("{}:{}", Hosts::address(), port.number()));
        }
        let environment = [("HALEPHANT_SPLICE_POLICY", "every")];
        let environment = if lane.remote.is_some() { &environment[..] } else { &[] };
        let proxy = Proxy::start_binary_in(file, &config, environment)?;
        let login = match &port {
            Some(port) => Login { host: Hosts::address().to_string(), port: port.number(), ..self.direct() },
            None => proxy.login(self.direct()),
        };
        Ok(Subject { login, admin, running: Running::Halephant(Box::new(proxy)), _port: port })
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
        let tls = lane.has_tls().then(|| self.identity.clone());
        Ok(Server { login: direct, verifier, mode: lane.mode, pool_size: pool_size(lane), tls })
    }

    fn config(&self, program: Program, lane: &Lane) -> Result<ProxyConfig> {
        let mode = if program.kernel_path().is_some() { "require" } else { "off" };
        let mut config = ProxyConfig::new(&self.cluster)
            .set("logging.level", "info")
            .set("server.checkout_timeout", "60s")
            .set("ebpf.mode", mode)
            .pool(DATABASE, lane.mode.name(), pool_size(lane), &[ROLE]);
        if lane.remote == Some(Remote::Server) {
            config = config
                .set("cluster.main.nodes", vec![format!("{}:{}", Hosts::address(), self.direct().port)]);
        }
        if lane.has_tls() {
            let files = self.identity.write(self.scratch.path(), "server")?;
            let text = |path: PathBuf| path.display().to_string();
            config = config
                .set("server.tls.mode", "require")
                .set("server.tls.certificate", text(files.certificate))
                .set("server.tls.key", text(files.key));
        }
        // Keys that do nothing are refused.
        let cgroup = match program {
            Program::HalephantColocated => return Ok(config.set("ebpf.colocated", true)),
            Program::HalephantServerLocal => Host::Postgres,
            Program::HalephantClientLocal => Host::Client,
            _ => return Ok(config),
        };
        let cgroup = self.hosts()?.group(cgroup);
        let cgroup = cgroup.to_str().context("the cgroup's path is not UTF-8")?;
        Ok(config.set("ebpf.colocated", true).set("ebpf.cgroup", cgroup))
    }
}

fn pool_size(lane: &Lane) -> u32 {
    match lane.mode {
        Mode::Session => CONNECTIONS_MAX - 30,
        Mode::Transaction => SERVER_CONNECTIONS,
    }
}
