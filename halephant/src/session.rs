//! One client after its login: without a server connection, waiting for one, or relayed to one, until it ends.

mod begun;
mod control;
mod detached;
mod ending;
mod listen;
pub mod parameters;
mod place;
mod recover;
mod trace;
pub mod welcome;

use crate::cancel::{Registration, Signal};
use crate::net::Role;
use crate::notify;
use crate::pool::settings::PoolMode;
use crate::pool::{CheckoutError, Lease, Pool, UserIndex};
use crate::relay::{self, Client, Relay, RelayEnd, Release};
use crate::route::Access;
use crate::splice::Splice;
use begun::Begun;
use detached::Detached;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use std::sync::Arc;

/// Server connections that are tried for one statement whose parameters a statement_timeout keeps from being set.
const STRUCK_MAX: u8 = 3;

/// A logged-in client.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub registration: Registration,
    pub pool: Arc<Pool>,
    pub user: UserIndex,
    pub role: Role,
    access: Access,
    splice: Option<Splice>,
    /// Bytes of a refused message that are still to be read and dropped.
    discard: usize,
    /// After an error in the extended protocol: drop everything up to Sync.
    skipping: bool,
    begun: Begun,
    /// Server connections in a row on which a statement_timeout struck our own SETs.
    struck: u8,
}

/// Why a session ended, for its closing log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    Terminated,
    ClientClosed,
    ClientViolation,
    ServerClosed,
    ServerViolation,
    Rejected,
    CheckoutFailed,
    NodeLeft,
    NodeLost,
    KernelFault,
    IdleTimeout,
    IdleTransactionTimeout,
    QueryTimeout,
    Unanswered,
    Shutdown,
}

impl SessionEnd {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminated => "terminated",
            Self::ClientClosed => "client_closed",
            Self::ClientViolation => "client_protocol_violation",
            Self::ServerClosed => "server_closed",
            Self::ServerViolation => "server_protocol_violation",
            Self::Rejected => "parameters_rejected",
            Self::CheckoutFailed => "checkout_failed",
            Self::NodeLeft => "node_left",
            Self::NodeLost => "node_lost",
            Self::KernelFault => "kernel_fault",
            Self::IdleTimeout => "client_idle_timeout",
            Self::IdleTransactionTimeout => "idle_transaction_timeout",
            Self::QueryTimeout => "query_timeout",
            Self::Unanswered => "server_silent",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why there is no server connection for a client that needs one.
enum NoServer {
    Error(CheckoutError),
    Cancelled,
    ClientClosed,
    Shutdown,
    /// No connection listens for the client's LISTEN.
    Listener(notify::Refusal),
}

impl Session {
    pub fn new(
        client: Client,
        registration: Registration,
        pool: Arc<Pool>,
        user: UserIndex,
        role: Role,
        splice: Option<Splice>,
    ) -> Self {
        let access = Access::of(pool.settings(), pool.user_settings(user));
        Self {
            client,
            registration,
            pool,
            user,
            role,
            access,
            splice,
            discard: 0,
            skipping: false,
            begun: Begun::Nothing,
            struck: 0,
        }
    }

    /// Serves the client to its end. `lease`: a connection that the login already took, in session mode.
    pub async fn run(mut self, mut lease: Option<Lease>) -> SessionEnd {
        let release = match self.pool.settings().mode {
            PoolMode::Transaction => Release::AtTransactionEnd,
            PoolMode::Statement => Release::AtStatementEnd,
            PoolMode::Session => Release::AtSessionEnd,
        };
        loop {
            match self.detached().await {
                Detached::NeedsServer => {}
                Detached::Ended(end) => {
                    lease.take().into_iter().for_each(recover::give_back);
                    return self.finish(end, None).await;
                }
                Detached::Violation(error) => {
                    let report = ErrorReport::fatal(error.sqlstate(), error.to_string());
                    return self.finish(SessionEnd::ClientViolation, Some(report)).await;
                }
            }
            let lease = match lease.take() {
                Some(lease) => lease,
                None => match self.checkout().await {
                    Ok(lease) => lease,
                    Err(reason) => match self.refuse(reason) {
                        None => continue,
                        Some(end) => return self.finish(end, None).await,
                    },
                },
            };
            if let Some((end, report)) = self.relay(lease, release).await {
                return self.finish(end, report).await;
            }
        }
    }

    /// Relays until the server connection is free again (`None`) or the session is over.
    async fn relay(
        &mut self,
        mut lease: Lease,
        release: Release,
    ) -> Option<(SessionEnd, Option<ErrorReport>)> {
        if release == Release::AtSessionEnd {
            lease.connection().dirty = true;
        }
        self.registration.set_running(&lease.connection().cancel);
        if !lease.is_current() {
            // Sessions on the node were told before this one was on it.
            self.registration.signal(Signal::Leave);
        }
        lease.server().lend(self.registration.process_id());
        self.trace_node(&lease);
        let mut relay =
            Relay::new(&mut self.client, &mut lease, &self.registration, release, self.splice.as_ref());
        if let Some(ahead) = self.begun.ahead() {
            relay.begin(ahead);
        }
        let end = relay.run().await;
        let begun = std::mem::take(&mut self.begun);
        let state = std::mem::take(&mut relay.state);
        self.registration.set_idle();
        lease.server().unlend();
        self.trace_detached();
        let cut = self.client.body_left > 0;
        let mid_answer = state.is_mid_answer();
        let (end, report) = match end {
            RelayEnd::Complete => {
                self.struck = 0;
                recover::give_back(lease);
                return None;
            }
            RelayEnd::Retired => {
                lease.suspect_node();
                return None;
            }
            RelayEnd::BeginRefused(error) => {
                if state.tracker.is_complete() && state.at_boundary() {
                    lease.connection().busy = false;
                    recover::give_back(lease);
                } else {
                    recover::recover(lease, state, cut);
                }
                self.begin_refused(begun, error.as_deref());
                return None;
            }
            RelayEnd::Terminated => {
                recover::recover(lease, state, cut);
                (SessionEnd::Terminated, None)
            }
            RelayEnd::ClientClosed => {
                recover::recover(lease, state, cut);
                (SessionEnd::ClientClosed, None)
            }
            RelayEnd::ClientViolation(error) => {
                recover::recover(lease, state, cut);
                (SessionEnd::ClientViolation, Some(ErrorReport::fatal(error.sqlstate(), error.to_string())))
            }
            RelayEnd::Drained | RelayEnd::Stopped => {
                recover::recover(lease, state, cut);
                (SessionEnd::Shutdown, Some(ending::shutdown_report()))
            }
            RelayEnd::NodeLeft => {
                let node = self.node_text(&lease);
                recover::recover(lease, state, cut);
                (SessionEnd::NodeLeft, Some(ending::node_left_report(&node)))
            }
            RelayEnd::NodeLost => {
                (SessionEnd::NodeLost, Some(ending::node_lost_report(&self.node_text(&lease))))
            }
            RelayEnd::KernelFault => {
                recover::recover(lease, state, cut);
                (SessionEnd::KernelFault, None)
            }
            RelayEnd::Transaction => {
                // Its ReadyForQuery was not counted: the connection is closed, and the block with it.
                let report = relay::transaction_report();
                let hint = report.hint.unwrap_or_default();
                (
                    SessionEnd::ClientViolation,
                    Some(ErrorReport::fatal(report.sqlstate, report.message).hint(hint)),
                )
            }
            RelayEnd::TimedOut(phase) => {
                let limit = self.client.clock.limit(phase);
                recover::recover(lease, state, cut);
                ending::timed_out(phase, limit)
            }
            RelayEnd::ServerClosed { told } => {
                lease.suspect_node();
                let report =
                    ErrorReport::fatal(SqlState::CONNECTION_FAILURE, "the server connection was lost")
                        .detail(format!("Node {} closed it.", self.node_text(&lease)));
                (SessionEnd::ServerClosed, (!told).then_some(report))
            }
            RelayEnd::ServerViolation => {
                let report =
                    ErrorReport::fatal(SqlState::PROTOCOL_VIOLATION, "the server broke the protocol")
                        .detail(format!("Node {}; its connection was closed.", self.node_text(&lease)));
                (SessionEnd::ServerViolation, Some(report))
            }
            RelayEnd::Unanswered => {
                // The connection is closed, and what runs there is cancelled.
                lease.suspect_node();
                let after = lease.checkout_timeout();
                if state.has_sent_nothing() {
                    self.begun = begun;
                    let refused = self.refuse(NoServer::Error(CheckoutError::Unanswered { after }));
                    return refused.map(|end| (end, None));
                }
                let report = ending::unanswered_report(&self.node_text(&lease), after);
                (SessionEnd::Unanswered, Some(report))
            }
            RelayEnd::Rejected(error)
                if error.sqlstate == SqlState::QUERY_CANCELED
                    && state.has_sent_nothing()
                    && self.struck < STRUCK_MAX =>
            {
                self.begun = begun;
                if !state.is_hasty {
                    // It was the client who cancelled.
                    return self.refuse(NoServer::Cancelled).map(|end| (end, None));
                }
                // The connection's last client has left the timeout there. Another one may be without it.
                self.struck += 1;
                return None;
            }
            RelayEnd::Rejected(error) => {
                (SessionEnd::Rejected, Some(ErrorReport::fatal(error.sqlstate, error.message)))
            }
        };
        // In the middle of a row, a report would be read as a part of it.
        Some((end, report.filter(|_| !mid_answer)))
    }

    fn node_text(&self, lease: &Lease) -> String {
        self.pool.cluster().node(lease.node()).address.to_string()
    }

    /// Answers the message that needed a server connection. `Some`: the session ends.
    fn refuse(&mut self, reason: NoServer) -> Option<SessionEnd> {
        let report = match reason {
            NoServer::ClientClosed => return Some(SessionEnd::ClientClosed),
            NoServer::Shutdown => {
                ending::shutdown_report().encode_error(&mut self.client.out);
                return Some(SessionEnd::Shutdown);
            }
            NoServer::Cancelled => {
                ErrorReport::error(SqlState::QUERY_CANCELED, "canceling statement due to user request")
            }
            NoServer::Listener(refusal) => relay::listen_report(&refusal),
            NoServer::Error(error) => {
                tracing::warn!(
                    process_id = self.registration.process_id(),
                    pool = self.pool.settings().name,
                    user = self.pool.user_settings(self.user).name,
                    sqlstate = %error.sqlstate(),
                    %error,
                    "checkout failed"
                );
                let report = ErrorReport::error(error.sqlstate(), error.to_string());
                if self.pool.settings().mode == PoolMode::Session {
                    ErrorReport::fatal(report.sqlstate, report.message).encode_error(&mut self.client.out);
                    return Some(SessionEnd::CheckoutFailed);
                }
                report
            }
        };
        self.refuse_message(&report);
        None
    }
}

#[cfg(test)]
mod tests;
