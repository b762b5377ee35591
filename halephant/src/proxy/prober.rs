//! Asks a node what it is, over a connection that is kept open.

use super::cluster::Upstream;
use crate::net::{NodeAddress, ServerAddress};
use crate::server::query::{QueryError, Row};
use crate::server::{OpenError, ServerConnection};
use crate::telemetry::trace::{Span, Tracer, attribute};
use crate::topology::Observation;
use crate::topology::observation::{Lsn, timeline_of_file};
use crate::topology::probe::{Answer, Probe, ProbeError, Prober};
use std::sync::Arc;
use std::time::Duration;

/// One row: in recovery, position, name of the file that is written, seconds since the last replayed commit.
const QUESTION: &str = "\
SELECT pg_catalog.pg_is_in_recovery(), \
CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
ELSE pg_catalog.pg_current_wal_lsn() END, \
CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL \
ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END, \
CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END";
/// It does not change while a server runs.
const SYSTEM_IDENTIFIER: &str = "SELECT system_identifier FROM pg_catalog.pg_control_system()";

#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the answer makes no sense")]
    Answer,
}

/// Makes probes that log in to a cluster's nodes as its admin user.
pub struct AdminProber {
    pub cluster: String,
    pub upstream: Arc<Upstream>,
    pub tracer: Tracer,
}

impl Prober for AdminProber {
    fn probe(&self, node: &NodeAddress) -> Box<dyn Probe> {
        let (cluster, tracer) = (self.cluster.clone(), self.tracer.clone());
        let upstream = Arc::clone(&self.upstream);
        Box::new(AdminProbe { cluster, tracer, upstream, node: node.clone(), kept: None, last: None })
    }
}

struct AdminProbe {
    cluster: String,
    tracer: Tracer,
    upstream: Arc<Upstream>,
    node: NodeAddress,
    kept: Option<Kept>,
    /// Where the node was reached last.
    last: Option<ServerAddress>,
}

struct Kept {
    connection: ServerConnection,
    user: String,
    database: String,
    system_identifier: Option<u64>,
}

impl Probe for AdminProbe {
    fn ask(&mut self) -> Answer<'_> {
        Box::pin(async move {
            let mut span = self.span();
            let result = self.observe().await;
            if result.is_err() {
                span.fail("no_answer");
            }
            result.map_err(ProbeError::failed)
        })
    }
}

impl AdminProbe {
    fn span(&self) -> Span {
        let mut span = self.tracer.root("topology.refresh", None);
        if span.is_on() {
            span.set(attribute::DB_SYSTEM_NAME, attribute::POSTGRESQL);
            span.set(attribute::CLUSTER, self.cluster.clone());
            span.set(attribute::SERVER_ADDRESS, self.node.host.clone());
            span.set(attribute::SERVER_PORT, i64::from(self.node.port));
        }
        span
    }

    async fn observe(&mut self) -> Result<Observation, NodeError> {
        let moved = self.has_moved().await;
        // Taken out while it is used: an answer that is given up takes its connection with it.
        let settings = self.upstream.settings();
        let kept = self.kept.take().filter(|kept| {
            !moved && kept.user == settings.admin_user && kept.database == settings.admin_database
        });
        // A kept connection may have ended without a word; a fresh one is tried once.
        if let Some(mut kept) = kept
            && let Ok(rows) = kept.connection.query(QUESTION, &[]).await
        {
            let observation = interpret(&rows, kept.system_identifier, false).ok_or(NodeError::Answer)?;
            self.kept = Some(kept);
            return Ok(observation);
        }
        let (user, database) = (settings.admin_user.clone(), settings.admin_database.clone());
        let mut connection = self.upstream.open_admin(&self.node, &user, &database).await?;
        // A role without the right to see it does without.
        let system_identifier = match connection.query(SYSTEM_IDENTIFIER, &[]).await {
            Ok(rows) => rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()),
            Err(QueryError::Server(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let rows = connection.query(QUESTION, &[]).await?;
        let observation = interpret(&rows, system_identifier, moved).ok_or(NodeError::Answer)?;
        self.last = Some(connection.cancel.address().clone());
        self.kept = Some(Kept { connection, user, database, system_identifier });
        Ok(observation)
    }

    /// Whether the node's name no longer leads to the address where it was reached last. A resolver that fails says
    /// nothing about that.
    async fn has_moved(&self) -> bool {
        let Some(ServerAddress::Tcp(last)) = &self.last else { return false };
        match tokio::net::lookup_host((self.node.host.as_str(), self.node.port)).await {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.collect();
                !addresses.is_empty() && !addresses.contains(last)
            }
            Err(_) => false,
        }
    }
}

fn interpret(rows: &[Row], system_identifier: Option<u64>, moved: bool) -> Option<Observation> {
    let [row] = rows else { return None };
    let [in_recovery, lsn, file, age] = row.as_slice() else { return None };
    let in_recovery = match in_recovery.as_deref()? {
        "t" => true,
        "f" => false,
        _ => return None,
    };
    let seconds = |text: &str| text.parse::<f64>().ok();
    Some(Observation {
        in_recovery,
        lsn: lsn.as_deref().and_then(Lsn::parse),
        timeline: file.as_deref().and_then(timeline_of_file),
        // Clocks of two machines may differ: an age below zero is none.
        replay_age: age
            .as_deref()
            .and_then(seconds)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        system_identifier,
        moved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: [Option<&str>; 4]) -> Vec<Row> {
        vec![columns.iter().map(|column| column.map(str::to_owned)).collect()]
    }

    #[test]
    fn a_primary_and_a_replica() {
        let rows = row([Some("f"), Some("1/A0"), Some("00000003000000010000002B"), None]);
        let said = interpret(&rows, Some(7), false).expect("it is an answer");
        assert_eq!((said.in_recovery, said.timeline, said.system_identifier), (false, Some(3), Some(7)));
        assert_eq!(said.lsn, Some(Lsn(0x1_0000_00A0)));
        let rows = row([Some("t"), Some("1/A0"), None, Some("-0.25")]);
        let said = interpret(&rows, None, true).expect("it is an answer");
        assert_eq!((said.in_recovery, said.moved, said.replay_age), (true, true, Some(Duration::ZERO)));
        let rows = row([Some("t"), None, None, Some("1.5")]);
        let said = interpret(&rows, None, false).expect("it is an answer");
        assert_eq!((said.lsn, said.replay_age), (None, Some(Duration::from_millis(1500))));
    }

    #[test]
    fn nonsense_is_no_answer() {
        assert_eq!(interpret(&[], None, false), None);
        assert_eq!(interpret(&row([Some("x"), None, None, None]), None, false), None);
        assert_eq!(interpret(&row([None, None, None, None]), None, false), None);
        assert_eq!(interpret(&[vec![Some("t".to_owned())]], None, false), None);
    }
}
