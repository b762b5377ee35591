//! `[cluster.<name>]`: its nodes, authentication and topology, and the pools in it.

use super::ClusterConfig;
use super::document::Table;
use super::findings::Reported;
use super::kind::{AuthQuery, FROM_10_MILLISECONDS, FROM_MILLISECOND, FROM_ZERO, Identifier, Node};
use super::pool;
use super::problem::{Problem, Quoted};
use super::tls;
use crate::admin::CONSOLE_DATABASE;
use crate::auth::Stored;
use crate::auth::settings::{AuthSettings, DEFAULT_QUERY};
use crate::server::settings::NodeSettings;
use crate::topology::settings::TopologySettings;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The pools read so far, each with its cluster: clients name only the pool.
pub(super) type PoolNames = BTreeMap<String, String>;

pub(super) fn read(
    name: String,
    cluster: &mut Table<'_>,
    inherited: pool::Inherited,
    taken: &mut PoolNames,
    has_console: bool,
) -> Result<ClusterConfig, Reported> {
    let node = node(cluster);
    let auth = cluster.table("auth", auth);
    let topology = cluster.table("topology", topology);
    let pools = cluster.tables("pool", "<database>", Identifier, |database, table| {
        let unique = match taken.entry(database.clone()) {
            Entry::Occupied(other) => {
                Err(table.wrong(Problem::DuplicatePool { other: Quoted::new(other.get()) }))
            }
            Entry::Vacant(entry) => {
                entry.insert(name.clone());
                Ok(())
            }
        };
        let free = match database == CONSOLE_DATABASE && has_console {
            true => Err(table.wrong(Problem::ConsolePool)),
            false => Ok(()),
        };
        let pool = pool::read(database, table, inherited);
        unique.and(free).and(pool)
    });
    let pools = pools.and_then(|pools| pools.into_iter().collect());
    Ok(ClusterConfig { node: node?, auth: auth?, topology: topology?, pools: pools?, name })
}

fn node(cluster: &mut Table<'_>) -> Result<NodeSettings, Reported> {
    let nodes = cluster.list("nodes", None, Node);
    let admin_user = cluster.text("admin_user", "halephant", Identifier);
    let admin_database = cluster.text("admin_database", "postgres", Identifier);
    let connect_timeout = cluster.text("connect_timeout", "5s", FROM_MILLISECOND);
    let tls = cluster.table("tls", tls::server_leg);
    Ok(NodeSettings {
        nodes: nodes?,
        admin_user: admin_user?,
        admin_database: admin_database?,
        connect_timeout: connect_timeout?,
        tls: tls?,
    })
}

fn auth(auth: &mut Table<'_>) -> Result<AuthSettings, Reported> {
    let query = auth.text("query", DEFAULT_QUERY, AuthQuery);
    let cache_ttl = auth.text("cache_ttl", "300s", FROM_ZERO);
    let password_passthrough = auth.boolean("password_passthrough", false);
    let verifiers = auth.map("verifiers", |_, value| match value.as_str() {
        Some(text) if Stored::parse(text).is_some() => Ok(text.to_owned()),
        _ => Err(Problem::Verifier),
    });
    let stored = |(role, text): (String, String)| Some((role, Stored::parse(&text)?));
    Ok(AuthSettings {
        query: query?,
        cache_ttl: cache_ttl?,
        verifiers: verifiers?.into_iter().filter_map(stored).collect(),
        password_passthrough: password_passthrough?,
    })
}

fn topology(topology: &mut Table<'_>) -> Result<TopologySettings, Reported> {
    let interval = topology.text("interval", "5s", FROM_10_MILLISECONDS);
    let timeout = topology.text("timeout", "3s", FROM_MILLISECOND);
    Ok(TopologySettings { interval: interval?, timeout: timeout? })
}
