//! Why a client is not let in, and what it is told of it.

use crate::auth::AuthError;
use crate::auth::hba::Subject;
use crate::auth::throttle::Throttled;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;

#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("no pg_hba.conf entry for {0}")]
    NoEntry(String),
    #[error("pg_hba.conf rejects connection for {0}")]
    Rejected(String),
    #[error("role \"{0}\" does not exist")]
    NoRole(String),
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The reason is for the log.
    #[error("{method} authentication failed for user \"{user}\": {reason}")]
    External {
        method: &'static str,
        user: String,
        reason: String,
        /// The client was wrong, not somebody who should have known.
        guess: bool,
    },
}

impl ProofError {
    pub(super) fn no_entry(subject: &Subject<'_>) -> Self {
        Self::NoEntry(describe(subject))
    }

    pub(super) fn rejected(subject: &Subject<'_>) -> Self {
        Self::Rejected(describe(subject))
    }

    /// What the client is told; a connection that just ended is told nothing.
    pub fn report(&self) -> Option<ErrorReport> {
        let text = match self {
            Self::Auth(error) => return error.report(),
            Self::External { method, user, .. } => {
                format!("{method} authentication failed for user \"{user}\"")
            }
            other => other.to_string(),
        };
        Some(ErrorReport::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, text))
    }

    /// The client was asked and did not know.
    pub(super) fn is_failure(&self) -> bool {
        let of_password = matches!(self, Self::Auth(AuthError::Failed { .. } | AuthError::EmptyPassword));
        of_password || matches!(self, Self::External { .. })
    }

    /// And it may have been a guess.
    pub(super) fn is_guess(&self) -> bool {
        self.is_failure() && !matches!(self, Self::External { guess: false, .. })
    }

    /// The attribute in metrics; a client that went away has none.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::NoEntry(_) => Some("no_entry"),
            Self::Rejected(_) => Some("rejected"),
            Self::NoRole(_) => Some("no_role"),
            Self::Throttled(_) | Self::Auth(AuthError::Throttled(_)) => Some("throttled"),
            Self::External { guess: false, .. } => Some("unavailable"),
            Self::External { .. } => Some("external"),
            Self::Auth(AuthError::Failed { .. } | AuthError::EmptyPassword) => Some("password"),
            Self::Auth(AuthError::Method { method: "Peer", .. }) => Some("peer"),
            Self::Auth(AuthError::NoCertificate | AuthError::Method { .. }) => Some("certificate"),
            Self::Auth(error) => error.report().map(|_| "protocol"),
        }
    }
}

/// In PostgreSQL's words.
fn describe(subject: &Subject<'_>) -> String {
    let Subject { database, user, origin, tls, replicates } = subject;
    let encryption = if *tls { "SSL encryption" } else { "no encryption" };
    if *replicates {
        return format!("replication connection from host \"{origin}\", user \"{user}\", {encryption}");
    }
    format!("host \"{origin}\", user \"{user}\", database \"{database}\", {encryption}")
}
