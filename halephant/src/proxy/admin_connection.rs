//! The connection that auth queries run on: kept open, reopened when it ended, always as the admin user.

use super::cluster::Upstream;
use super::settings::ClusterConfig;
use crate::auth::settings::DEFAULT_QUERY;
use crate::auth::verifiers::{FetchError, FetchFuture, Lookup, Stored, VerifierSource};
use crate::net::Role;
use crate::server::query::{QueryError, Row};
use crate::server::{OpenError, ServerConnection};
use crate::topology::{Cluster, Node};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

/// Longest that one auth query may take, a new connection included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Names resolve to the catalog whatever the role's search_path is, and dates come in one form.
const PREPARE_SESSION: &str =
    "SET search_path = pg_catalog, pg_temp; SET DateStyle = ISO; SET TimeZone = 'UTC'";

/// With the time until which a password is good (CVE-2025-2291 of PgBouncer).
const QUERY_WITH_EXPIRY: &str =
    "SELECT usename, passwd, valuntil FROM pg_catalog.pg_shadow WHERE usename = $1";

/// Cheap to clone: a handle on the one connection.
#[derive(Clone)]
pub struct AdminConnection(Arc<Inner>);

struct Inner {
    cluster: Arc<Cluster>,
    upstream: Arc<Upstream>,
    user: String,
    database: String,
    query: String,
    /// The connection is bound to this runtime's reactor.
    control: Handle,
    open: Mutex<Option<Kept>>,
}

/// A connection, and what its node was when it was opened.
struct Kept {
    connection: ServerConnection,
    node: Arc<Node>,
    tenure: u32,
}

#[derive(Debug, thiserror::Error)]
enum AdminError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl AdminConnection {
    pub fn new(
        settings: &ClusterConfig,
        cluster: Arc<Cluster>,
        upstream: Arc<Upstream>,
        control: Handle,
    ) -> Self {
        Self(Arc::new(Inner {
            cluster,
            upstream,
            user: settings.node.admin_user.clone(),
            database: settings.node.admin_database.clone(),
            query: match settings.auth.query.as_str() {
                // What is written down for everybody to see looks at no date; what is run does.
                DEFAULT_QUERY => QUERY_WITH_EXPIRY.to_owned(),
                own => own.to_owned(),
            },
            control,
            open: Mutex::new(None),
        }))
    }
}

impl VerifierSource for AdminConnection {
    fn fetch<'a>(&'a self, role: &'a str) -> FetchFuture<'a> {
        let (inner, role) = (Arc::clone(&self.0), role.to_owned());
        let failed = |error: &dyn std::fmt::Display| FetchError(error.to_string());
        Box::pin(async move {
            let control = inner.control.clone();
            let query = tokio::time::timeout(FETCH_TIMEOUT, async move { inner.fetch(&role).await });
            match control.spawn(query).await {
                Ok(Ok(result)) => result.map_err(|error| failed(&error)),
                Ok(Err(elapsed)) => Err(failed(&elapsed)),
                Err(ended) => Err(failed(&ended)),
            }
        })
    }
}

impl Inner {
    async fn fetch(&self, role: &str) -> Result<Lookup, AdminError> {
        let mut open = self.open.lock().await;
        // A kept connection may have ended without a word; a fresh one is tried once.
        if let Some(mut kept) = open.take()
            && kept.is_current()
            && kept.connection.is_alive(true)
            && let Ok(rows) = kept.connection.query(&self.query, &[role]).await
        {
            *open = Some(kept);
            return Ok(interpret(&rows));
        }
        let mut kept = self.connect().await?;
        let rows = kept.connection.query(&self.query, &[role]).await;
        if !matches!(rows, Err(QueryError::Read(_) | QueryError::Write(_))) && !kept.connection.busy {
            *open = Some(kept);
        }
        Ok(interpret(&rows?))
    }

    /// The primary first; a replica has the same roles.
    async fn connect(&self) -> Result<Kept, AdminError> {
        let mut nodes = self.cluster.configured();
        nodes.sort_by_key(|(_, node)| {
            (node.assessed_role() != Some(Role::Primary), node.assessed_role().is_none())
        });
        let mut last = None;
        for (_, node) in nodes {
            let tenure = node.tenure();
            match self.upstream.open_admin(&node.address, &self.user, &self.database).await {
                Ok(mut connection) => {
                    connection.command(PREPARE_SESSION).await?;
                    return Ok(Kept { connection, node, tenure });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a cluster has at least one node").into())
    }
}

impl Kept {
    /// The node is in use, as what it was.
    fn is_current(&self) -> bool {
        self.node.is_configured() && self.node.tenure() == self.tenure
    }
}

/// Columns: name, verifier and, if there is a third, the time until the password is valid.
fn interpret(rows: &[Row]) -> Lookup {
    let absent = |reason: &str| Lookup::Absent { reason: reason.to_owned(), nobody: rows.is_empty() };
    let [row] = rows else {
        return absent(if rows.is_empty() {
            "the auth query found no row"
        } else {
            "the auth query found several rows"
        });
    };
    let Some(Some(secret)) = row.get(1) else {
        return absent("the auth query returned no password");
    };
    let Some(stored) = Stored::parse(secret) else {
        return absent("the password is stored neither as a SCRAM-SHA-256 verifier nor as an MD5 hash");
    };
    match row.get(2).and_then(Option::as_deref).map(parse_valid_until) {
        None => Lookup::Found { stored, valid_until: None },
        Some(Some(until)) => Lookup::Found { stored, valid_until: until },
        Some(None) => absent("the third column of the auth query is not a time"),
    }
}

/// A timestamptz in ISO form and UTC; `infinity` is no limit. `None`: something else.
fn parse_valid_until(text: &str) -> Option<Option<SystemTime>> {
    match text {
        "infinity" => return Some(None),
        "-infinity" => return Some(Some(SystemTime::UNIX_EPOCH)),
        _ => {}
    }
    let utc = text.strip_suffix("+00")?;
    // Beyond year 9999 is as good as no limit.
    match humantime::parse_rfc3339_weak(utc) {
        Ok(until) => Some(Some(until)),
        Err(_) if utc.split('-').next().is_some_and(|year| year.len() > 4) => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn reason(row: &[Option<&str>]) -> String {
        let row = row.iter().map(|column| column.map(str::to_owned)).collect();
        match interpret(&[row]) {
            Lookup::Absent { reason, .. } => reason,
            Lookup::Found { valid_until, .. } => format!("{valid_until:?}"),
        }
    }

    #[test]
    fn rows_that_cannot_be_used_say_why() {
        assert!(matches!(interpret(&[]), Lookup::Absent { .. }));
        assert!(matches!(interpret(&[vec![], vec![]]), Lookup::Absent { .. }));
        assert_eq!(reason(&[Some("u")]), "the auth query returned no password");
        assert_eq!(reason(&[Some("u"), None]), "the auth query returned no password");
        assert!(reason(&[Some("u"), Some("md5abc")]).contains("SCRAM-SHA-256"));
        assert!(reason(&[Some("u"), Some(VERIFIER), Some("tomorrow")]).contains("not a time"));
    }

    #[test]
    fn valid_until_is_read_in_every_form_postgresql_writes() {
        assert_eq!(reason(&[Some("u"), Some(VERIFIER)]), "None");
        assert_eq!(reason(&[Some("u"), Some(VERIFIER), None]), "None");
        assert_eq!(reason(&[Some("u"), Some(VERIFIER), Some("infinity")]), "None");
        assert_eq!(reason(&[Some("u"), Some(VERIFIER), Some("294276-12-31 23:59:59+00")]), "None");
        let at = |text| {
            parse_valid_until(text).flatten().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        };
        assert_eq!(at("1970-01-02 00:00:00+00"), Some(Duration::from_secs(86_400)));
        assert_eq!(at("1970-01-01 00:00:00.5+00"), Some(Duration::from_millis(500)));
    }
}
