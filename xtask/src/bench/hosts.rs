//! Two hosts on one machine, for lanes where one end is elsewhere: PostgreSQL's, in the network namespace the benchmark was
//! started in, and the client's, in a namespace of its own behind a veth pair. Each has a cgroup of its own, so that a kernel
//! path finds the sockets of its host alone.

use anyhow::{Context, Result, anyhow};
use halephant_harness::{command, wait_for};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::time::Duration;

use crate::say;

/// Whose process, on whose host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Postgres,
    Client,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Client => "client",
        }
    }
}

const HOSTS: [Host; 2] = [Host::Postgres, Host::Client];
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
const CLIENT_DEVICE: &str = "veth-bench";
const GROUP_PREFIX: &str = "halephant-bench-";
const IP_LIMIT: Duration = Duration::from_secs(10);
/// For processes that were ended to leave their cgroup.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// Nothing of it outlives its owner: the veth pair goes with the client's namespace, and that with the last process in it.
/// Empty cgroups stay when the benchmark is killed; the next one removes them.
pub struct Hosts {
    /// In the order of [`HOSTS`].
    namespaces: [File; 2],
    groups: Groups,
}

impl Hosts {
    /// From here on this process is one of PostgreSQL's host.
    pub fn start() -> Result<Self> {
        let postgres = File::open(OWN_NAMESPACE).context("cannot open the network namespace")?;
        let client = namespace().context("no network namespace for the client's host, which needs root")?;
        let groups = Groups::make().context("no cgroups for two hosts, which needs root and cgroup2")?;
        let hosts = Self { namespaces: [postgres, client], groups };
        hosts.enter(Host::Postgres)?;
        Ok(hosts)
    }

    /// Runs `work` as a process of `host`, and what it starts.
    pub fn at<T>(&self, host: Host, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let outcome = self.enter(host).and_then(|()| work());
        self.enter(Host::Postgres)?;
        outcome
    }

    fn enter(&self, host: Host) -> Result<()> {
        self.groups.enter(&self.group(host))?;
        setns(&self.namespaces[host as usize], CloneFlags::CLONE_NEWNET)
            .context("cannot change the network namespace")
    }

    pub fn group(&self, host: Host) -> PathBuf {
        self.groups.of(host)
    }

    /// Of PostgreSQL's host, as the client's reaches it.
    pub fn address() -> Ipv4Addr {
        addresses(id())[Host::Postgres as usize]
    }

    /// Both hosts, as `pg_hba.conf` has them.
    pub fn network() -> String {
        let [a, b, c, _] = Self::address().octets();
        format!("{a}.{b}.{c}.0/30")
    }
}

/// Out of the range for measurements of networks, RFC 2544; others for another benchmark at the same time.
fn addresses(process: u32) -> [Ipv4Addr; 2] {
    let [number, ..] = process.to_le_bytes();
    [Ipv4Addr::new(198, 18, number, 1), Ipv4Addr::new(198, 18, number, 2)]
}

/// A network namespace that is connected with this one. It lasts as long as the file, or a process in it.
fn namespace() -> Result<File> {
    let (process, [here, there]) = (id(), addresses(id()));
    let device = format!("hpb{process}");
    let peer = device.clone();
    let work = move || {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
        let own = File::open(OWN_NAMESPACE)?;
        ip("link set lo up")?;
        ip(&format!("link add {CLIENT_DEVICE} type veth peer name {peer} netns {process}"))?;
        ip(&format!("addr add {there}/30 dev {CLIENT_DEVICE}"))?;
        ip(&format!("link set {CLIENT_DEVICE} up"))?;
        Ok::<_, anyhow::Error>(own)
    };
    // The namespace is a thread's: this one stays where it is.
    let own = std::thread::spawn(work).join().map_err(|_| anyhow!("the thread panicked"))??;
    ip(&format!("addr add {here}/30 dev {device}"))?;
    ip(&format!("link set {device} up"))?;
    Ok(own)
}

fn ip(arguments: &str) -> Result<()> {
    command::succeed(Command::new("ip").args(arguments.split(' ')), IP_LIMIT).map(drop)
}

/// A cgroup for each host, in the cgroup2 hierarchy.
struct Groups {
    base: PathBuf,
    /// Where this process came from.
    home: PathBuf,
}

impl Groups {
    fn make() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = hierarchy(&mounts).context("no cgroup2 hierarchy is mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("in no cgroup2")?;
        remove_old(&root)?;
        let groups = Self { base: root.join(format!("{GROUP_PREFIX}{}", id())), home: root.join(own) };
        for host in HOSTS {
            let group = groups.of(host);
            fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
        }
        Ok(groups)
    }

    fn of(&self, host: Host) -> PathBuf {
        self.base.join(host.name())
    }

    /// Moves this process, and what it starts from now on.
    fn enter(&self, group: &Path) -> Result<()> {
        fs::write(group.join("cgroup.procs"), "0")
            .with_context(|| format!("cannot go to {}", group.display()))
    }

    fn remove(&self) -> Result<()> {
        self.enter(&self.home)?;
        wait_for("the processes of both hosts to end", LEAVE_LIMIT, || {
            let gone =
                HOSTS.iter().all(|host| fs::remove_dir(self.of(*host)).is_ok() || !self.of(*host).exists());
            Ok(gone.then_some(()))
        })?;
        fs::remove_dir(&self.base).with_context(|| format!("cannot remove {}", self.base.display()))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            say(&format!("cgroups are left: {error:#}"));
        }
    }
}

/// The first cgroup2 of `mounts`.
fn hierarchy(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| path.into())
    })
}

/// Those of benchmarks that were killed.
fn remove_old(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(GROUP_PREFIX)) else { continue };
        if !Path::new("/proc").join(process).exists() {
            // One that is in use stays.
            let _ = HOSTS.map(|host| fs::remove_dir(entry.path().join(host.name())));
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}
