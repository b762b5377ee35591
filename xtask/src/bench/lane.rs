//! The lanes: what is asked of each program, under which name.

use anyhow::{Result, bail};
use halephant_harness::pgbench::{Protocol, Script};

use super::bulk::Bulk;
use super::figure::Figure;
use super::scrape;

/// What direct connections are measured with at most: PostgreSQL is not set up for more.
pub const SERVER_CONNECTIONS: u32 = 20;
const DIRECT_CLIENTS_MAX: u32 = 64;

/// Those that are measured with one end on another host, too.
const REMOTE_LANES: [&str; 6] = [
    "session-prepared-1",
    "session-prepared-8",
    "session-simple-8",
    "session-select-1gb",
    "session-copy-out-1gb",
    "session-copy-in-1gb",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Session,
    Transaction,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// An end of a session that is on another host than halephant; the other end is on halephant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote {
    Client,
    Server,
}

impl Remote {
    const ALL: [Self; 2] = [Self::Client, Self::Server];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// pgbench.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub protocol: Protocol,
    pub clients: u32,
    pub script: Script,
    pub reconnect: bool,
    /// Between the client and the program.
    pub tls: bool,
}

impl Load {
    /// Reads by primary key, on connections that stay.
    fn select(protocol: Protocol, clients: u32) -> Self {
        Self { protocol, clients, script: Script::Select, reconnect: false, tls: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    Load(Load),
    Bulk(Bulk),
    /// Clients that have done one transaction and then nothing.
    Idle,
    /// Clients that run while many others log in.
    Storm,
    /// Clients that run while the metrics are read every second.
    Scrape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub name: String,
    pub mode: Mode,
    pub work: Work,
    /// Without one, everything is on one host.
    pub remote: Option<Remote>,
}

impl Lane {
    fn new(mode: Mode, rest: &str, work: Work) -> Self {
        Self { name: format!("{}-{rest}", mode.name()), mode, work, remote: None }
    }

    fn with_remote(&self, remote: Remote) -> Self {
        Self { name: format!("{}-remote-{}", self.name, remote.name()), remote: Some(remote), ..self.clone() }
    }

    /// Clients that are connected at a time, for the size of a session pool.
    pub fn clients(&self) -> u32 {
        match &self.work {
            Work::Load(load) => load.clients,
            Work::Bulk(_) => 1,
            Work::Idle => 10_000,
            Work::Storm => 8,
            Work::Scrape => scrape::CLIENTS,
        }
    }

    /// Whether the programs are compared with no program at all.
    pub fn has_direct(&self) -> bool {
        self.clients() <= DIRECT_CLIENTS_MAX
    }

    pub fn has_tls(&self) -> bool {
        matches!(&self.work, Work::Load(load) if load.tls)
    }

    /// Whether it needs prepared statements that outlive a transaction.
    pub fn keeps_statements(&self) -> bool {
        matches!(&self.work, Work::Load(load) if load.protocol == Protocol::Prepared)
            && self.mode == Mode::Transaction
    }

    /// The figures it gives, the first for the comparison and the chart.
    pub fn figures(&self) -> &'static [Figure] {
        match self.work {
            Work::Load(_) => &[
                Figure::Tps,
                Figure::P50Ms,
                Figure::P95Ms,
                Figure::P99Ms,
                Figure::P999Ms,
                Figure::HostUsPerTransaction,
                Figure::ProgramUsPerTransaction,
                Figure::SyscallsPerTransaction,
                Figure::OthersPercent,
            ],
            Work::Bulk(_) => &[Figure::SecondsPerGb, Figure::HostSecondsPerGb, Figure::ProgramSecondsPerGb],
            Work::Idle => &[Figure::KibPerClientAt10000, Figure::KibPerClientAt1000],
            Work::Scrape => {
                &[Figure::ScrapeFactor, Figure::NoiseFactor, Figure::CalmP99Ms, Figure::ScrapedP99Ms]
            }
            Work::Storm => {
                &[Figure::StormFactor, Figure::CalmP99Ms, Figure::StormP99Ms, Figure::LoginsPerSecond]
            }
        }
    }

    /// One line for a reader.
    pub fn description(&self) -> String {
        let elsewhere = match self.remote {
            Some(Remote::Client) => "; the client is on another host",
            Some(Remote::Server) => "; PostgreSQL is on another host",
            None => "",
        };
        self.what() + elsewhere
    }

    fn what(&self) -> String {
        let mode = self.mode.name();
        match &self.work {
            Work::Load(load) => {
                let what = match load.script {
                    Script::TpcB => "TPC-B-like transactions",
                    _ => "one SELECT by primary key",
                };
                let each = if load.reconnect { ", a new connection with SCRAM for each" } else { "" };
                let (protocol, clients) = (load.protocol.name(), load.clients);
                let tls = if load.tls { ", TLS" } else { "" };
                format!("{mode} mode, {what}, {protocol} protocol, {clients} clients{each}{tls}")
            }
            Work::Bulk(bulk) => format!("{mode} mode, {}", bulk.description()),
            Work::Idle => {
                format!("{mode} mode, resident memory for each client that has done one statement and waits")
            }
            Work::Storm => format!("{mode} mode, p99 of 8 clients while 2,000 others log in"),
            Work::Scrape => {
                format!(
                    "{mode} mode, p99 of 64 clients while the metrics are read every second, and noise without"
                )
            }
        }
    }
}

/// Every lane, in the order they are run.
pub fn all() -> Vec<Lane> {
    let mut lanes = Vec::new();
    for mode in [Mode::Session, Mode::Transaction] {
        for protocol in [Protocol::Prepared, Protocol::Simple, Protocol::Extended] {
            let crowds: &[u32] = if mode == Mode::Transaction { &[500, 5000] } else { &[] };
            for clients in [1, 8, 64].iter().chain(crowds) {
                let load = Load::select(protocol, *clients);
                lanes.push(Lane::new(mode, &format!("{}-{clients}", protocol.name()), Work::Load(load)));
            }
        }
        let simple = Load::select(Protocol::Simple, 8);
        let connect = Load { reconnect: true, ..simple.clone() };
        let tpcb = Load { script: Script::TpcB, ..simple.clone() };
        lanes.push(Lane::new(mode, "tls-8", Work::Load(Load { tls: true, ..simple })));
        lanes.push(Lane::new(mode, "tls-connect-8", Work::Load(Load { tls: true, ..connect.clone() })));
        lanes.push(Lane::new(mode, "connect-8", Work::Load(connect)));
        lanes.push(Lane::new(mode, "tpcb-8", Work::Load(tpcb)));
        for bulk in Bulk::ALL {
            lanes.push(Lane::new(mode, bulk.name(), Work::Bulk(bulk)));
        }
    }
    lanes.push(Lane::new(Mode::Transaction, "idle", Work::Idle));
    lanes.push(Lane::new(Mode::Transaction, "storm", Work::Storm));
    lanes.push(Lane::new(Mode::Transaction, "scrape", Work::Scrape));
    let is_measured = |lane: &&Lane| REMOTE_LANES.contains(&lane.name.as_str());
    let remote = Remote::ALL
        .into_iter()
        .flat_map(|remote| lanes.iter().filter(is_measured).map(move |lane| lane.with_remote(remote)));
    let remote: Vec<Lane> = remote.collect();
    lanes.extend(remote);
    lanes
}

/// Those that match one of `patterns`, in which `*` stands for anything. A pattern that matches none is an error.
pub fn select(patterns: &[String]) -> Result<Vec<Lane>> {
    let lanes = all();
    if let Some(pattern) = patterns.iter().find(|p| !lanes.iter().any(|lane| matches(p, &lane.name))) {
        bail!("no lane matches {pattern:?}; --list shows them");
    }
    Ok(lanes.into_iter().filter(|lane| patterns.iter().any(|p| matches(p, &lane.name))).collect())
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|at| name.is_char_boundary(at) && matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let lanes = all();
        let names: BTreeSet<_> = lanes.iter().map(|lane| &lane.name).collect();
        assert_eq!(names.len(), lanes.len());
    }

    #[test]
    fn patterns_select() {
        let names = |pattern: &str| -> Vec<String> {
            select(&[pattern.to_owned()])
                .map(|lanes| lanes.into_iter().map(|lane| lane.name).collect())
                .unwrap_or_default()
        };
        assert_eq!(names("session-prepared-8"), ["session-prepared-8"]);
        assert_eq!(names("*-simple-64"), ["session-simple-64", "transaction-simple-64"]);
        assert_eq!(names("transaction-*-5000").len(), 3);
        assert_eq!(names("session-simple-*-remote-server"), ["session-simple-8-remote-server"]);
        assert_eq!(names("*-remote-*").len(), 2 * REMOTE_LANES.len());
        assert!(names("nonsense*").is_empty());
    }
}
