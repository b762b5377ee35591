//! The last words to a client.

use super::{Session, SessionEnd};
use crate::relay::Phase;
use crate::telemetry::trace::attribute;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use std::io;
use std::time::Duration;

/// Longest that a client is given to take its last message.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that we wait for the client to close after we did.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Most that is read and dropped meanwhile.
const LINGER_BYTES_MAX: usize = 1 << 20;

/// PostgreSQL's own words for a session that ends because the server does.
pub(super) fn shutdown_report() -> ErrorReport {
    ErrorReport::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// For a session that keeps its server connection over transactions, when the node has another role.
pub(super) fn node_left_report(node: &str) -> ErrorReport {
    ErrorReport::fatal(
        SqlState::ADMIN_SHUTDOWN,
        format!("terminating connection because node {node} is no longer what it was"),
    )
    .detail("Another node may have been promoted; a new session goes to the node that fits.")
}

/// For a session whose server does not answer any more.
pub(super) fn node_lost_report(node: &str) -> ErrorReport {
    ErrorReport::fatal(SqlState::CONNECTION_FAILURE, "the server connection was lost").detail(format!(
        "Node {node} does not answer any more. Whether the transaction was committed is not known."
    ))
}

/// For a session of which only the server knows what it has set, and does not say.
pub(super) fn unanswered_report(node: &str, limit: Duration) -> ErrorReport {
    ErrorReport::fatal(
        SqlState::CONNECTION_FAILURE,
        "terminating connection because the server does not answer",
    )
    .detail(format!(
        "Node {node} did not say within checkout_timeout ({}) what the session's state is.",
        humantime::format_duration(limit)
    ))
}

/// For a client that did one thing for longer than its pool allows.
pub(super) fn timed_out(phase: Phase, limit: Duration) -> (SessionEnd, Option<ErrorReport>) {
    let (end, sqlstate, message) = match phase {
        Phase::Idle => (
            SessionEnd::IdleTimeout,
            SqlState::IDLE_SESSION_TIMEOUT,
            "terminating connection due to idle-session timeout",
        ),
        Phase::IdleInTransaction => (
            SessionEnd::IdleTransactionTimeout,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            "terminating connection due to idle-in-transaction timeout",
        ),
        Phase::Query => (
            SessionEnd::QueryTimeout,
            SqlState::QUERY_CANCELED,
            "terminating connection due to query timeout: the statement did not end after it was cancelled",
        ),
    };
    let detail = format!("{} of its pool is {}.", phase.key(), humantime::format_duration(limit));
    (end, Some(ErrorReport::fatal(sqlstate, message).detail(detail)))
}

impl Session {
    /// Writes what is pending and closes the client's connection.
    pub(super) async fn finish(mut self, end: SessionEnd, report: Option<ErrorReport>) -> SessionEnd {
        if let Some(trace) = &mut self.client.trace {
            trace.session().set(attribute::END_REASON, end.as_str());
        }
        let told = report.is_some() || !self.client.out.is_empty();
        if let Some(report) = report {
            report.encode_error(&mut self.client.out);
        }
        if told && end != SessionEnd::ClientClosed {
            let client = &mut self.client;
            let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, async {
                std::future::poll_fn(|cx| client.poll_flush(cx)).await?;
                client.stream.shutdown().await
            })
            .await;
            // A close with unread input would reset the connection, and the last words with it.
            let _ = tokio::time::timeout(LINGER_TIMEOUT, self.drain()).await;
        }
        end
    }

    async fn drain(&mut self) -> io::Result<()> {
        let mut drained = 0;
        let mut sink = vec![0; 4096];
        while drained < LINGER_BYTES_MAX {
            match self.client.stream.read(&mut sink).await? {
                0 => break,
                read => drained += read,
            }
        }
        Ok(())
    }
}
