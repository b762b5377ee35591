//! What is counted: one client, one kind of transaction, halephant with one worker under callgrind.

use anyhow::{Context, Result, bail};
use halephant_harness::{Cluster, Proxy, ProxyConfig};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::callgrind::{self, Costs};
use crate::bench::wire::Client;

pub const ROLE: &str = "counted";
pub const PASSWORD: &str = "counted-password";
pub const DATABASE: &str = "counted";

/// Two runs, and only what the second has more than the first: starting up and logging in cancel out.
const TRANSACTIONS: [u32; 2] = [100, 1100];
const STOP_LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Parse, track and forward, on a connection that stays.
    SessionSimple,
    /// As before with checkout, checkin, routing and a look at the statement.
    TransactionSimple,
    /// Five messages there, six back.
    TransactionExtended,
    /// A thousand small messages back.
    TransactionRows,
}

/// For each transaction.
pub struct Cost {
    pub total: f64,
    /// The most expensive first.
    pub functions: Vec<(String, f64)>,
}

impl Scenario {
    pub const ALL: [Self; 4] =
        [Self::SessionSimple, Self::TransactionSimple, Self::TransactionExtended, Self::TransactionRows];

    pub fn name(self) -> &'static str {
        match self {
            Self::SessionSimple => "session-simple",
            Self::TransactionSimple => "transaction-simple",
            Self::TransactionExtended => "transaction-extended",
            Self::TransactionRows => "transaction-rows",
        }
    }

    fn mode(self) -> &'static str {
        if self == Self::SessionSimple { "session" } else { "transaction" }
    }

    fn transaction(self, client: &mut Client) -> Result<()> {
        match self {
            Self::SessionSimple | Self::TransactionSimple => client.query("SELECT 1"),
            Self::TransactionExtended => client.extended("SELECT 1"),
            Self::TransactionRows => client.query("SELECT generate_series(1, 1000)"),
        }
        .map(drop)
    }
}

pub fn count(scenario: Scenario, cluster: &Cluster, halephant: &Path) -> Result<Cost> {
    let [few, many] = TRANSACTIONS;
    let (before, after) = (run(scenario, cluster, halephant, few)?, run(scenario, cluster, halephant, many)?);
    let each = |count: i64| count as f64 / f64::from(many - few);
    let mut functions: Vec<(String, f64)> = after
        .iter()
        .map(|(name, count)| {
            let more = i64::try_from(*count)? - i64::try_from(before.get(name).copied().unwrap_or(0))?;
            Ok((name.clone(), each(more)))
        })
        .collect::<Result<_>>()?;
    functions.sort_by(|one, other| other.1.total_cmp(&one.1));
    let total = functions.iter().map(|(_, count)| count).sum();
    if total < 1.0 {
        bail!("nothing was counted: the program's functions are not found in callgrind's output");
    }
    Ok(Cost { total, functions })
}

fn run(scenario: Scenario, cluster: &Cluster, halephant: &Path, transactions: u32) -> Result<Costs> {
    let directory = tempfile::tempdir()?;
    let output = directory.path().join("callgrind.out");
    let program = under_callgrind(directory.path(), &output, halephant)?;
    let config = ProxyConfig::new(cluster)
        .set("server.workers", 1)
        .set("logging.level", "warn")
        .set("ebpf.mode", "off")
        // Probing goes by the clock.
        .set("cluster.main.topology.interval", "1h")
        .pool(DATABASE, scenario.mode(), 5, &[ROLE]);
    let mut proxy = Proxy::start_binary(&program, &config)?;
    let mut client = Client::connect(&proxy.login(cluster.login(ROLE, DATABASE)))?;
    for _ in 0..transactions {
        scenario.transaction(&mut client)?;
    }
    drop(client);
    let status = proxy.stop(STOP_LIMIT)?;
    if !status.success() {
        bail!("halephant ended with {status} under callgrind\n{}", proxy.log_tail());
    }
    let text = std::fs::read(&output).context("callgrind wrote nothing")?;
    let object = halephant.to_str().context("the program's path is not UTF-8")?;
    Ok(callgrind::parse(&String::from_utf8_lossy(&text), object))
}

/// A program that runs halephant under callgrind: what is started takes no arguments of ours.
fn under_callgrind(directory: &Path, output: &Path, halephant: &Path) -> Result<std::path::PathBuf> {
    let program = directory.join("counted");
    let text = format!(
        "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --callgrind-out-file='{}' '{}' \"$@\"\n",
        output.display(),
        halephant.display()
    );
    std::fs::write(&program, text)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(program)
}
