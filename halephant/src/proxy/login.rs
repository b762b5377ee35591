//! From a StartupMessage to a session: who the client is, where it goes, what it is told.

use super::admission::{Excess, Ticket};
use super::console::{self, Admitted};
use super::prove::{self, Account, ProofError};
use super::state::{Served, State};
use crate::cancel::{ClientDetails, Registration};
use crate::net::Role;
use crate::notify::Listening;
use crate::pool::settings::{ClientTimeouts, ListenMode, PoolMode};
use crate::pool::{Lease, UserIndex};
use crate::prepared::ClientStatements;
use crate::relay::READ_ONLY_HINT;
use crate::relay::{Client, Clock};
use crate::server::parameters::{ReportedParameters, SessionParameters};
use crate::server::query::QueryError;
use crate::server::{OpenError, Replication};
use crate::session::Session;
use crate::session::parameters::{self, ParameterError, session_parameters};
use crate::session::welcome::WelcomeError;
use crate::splice::NodeSet;
use crate::startup::StartupRequest;
use crate::telemetry::trace::Span;
use crate::wire::{MessageBuffer, Stream};
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::{
    Authentication, ErrorReport, ParameterStatus, ReadyForQuery, TransactionStatus,
};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("database \"{0}\" does not exist")]
    UnknownDatabase(String),
    #[error(transparent)]
    Excess(#[from] Excess),
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error(transparent)]
    Welcome(#[from] WelcomeError),
    #[error("replication connections are supported in session mode only")]
    Replication,
    #[error("no walsender could be had: {0}")]
    Walsender(#[from] OpenError),
    #[error("user \"{user}\" is routed to replicas and cannot have default_transaction_read_only off")]
    ReadOnly { user: String },
    #[error("no random bytes for a secret key: {0}")]
    Random(#[from] getrandom::Error),
    #[error("the answer cannot be encoded: {0}")]
    Encode(#[from] halephant_protocol::EncodeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl LoginError {
    /// What the client is told; a connection that just ended is told nothing.
    pub fn report(&self) -> Option<ErrorReport> {
        let sqlstate = match self {
            Self::Excess(excess) => return Some(excess.report()),
            Self::Proof(error) => return error.report(),
            Self::Io(_) => return None,
            Self::UnknownDatabase(_) => SqlState::INVALID_CATALOG_NAME,
            Self::Parameters(error) => error.sqlstate(),
            Self::Welcome(WelcomeError::Checkout(error)) => error.sqlstate(),
            // The server's own words, as it would have said them to this client.
            Self::Welcome(WelcomeError::Apply(error)) => match &**error {
                QueryError::Server(error) => {
                    return Some(ErrorReport::fatal(error.sqlstate, &error.message));
                }
                _ => SqlState::CONNECTION_FAILURE,
            },
            Self::Replication => {
                let report = ErrorReport::fatal(SqlState::FEATURE_NOT_SUPPORTED, self.to_string());
                return Some(report.hint("Connect to a pool with mode = \"session\"."));
            }
            // The server's own words, as it would have said them to this client.
            Self::Walsender(OpenError::Refused { error, .. }) => {
                return Some(ErrorReport::fatal(error.sqlstate, &error.message));
            }
            Self::Walsender(_) => SqlState::CONNECTION_FAILURE,
            Self::ReadOnly { .. } => {
                let report = ErrorReport::fatal(SqlState::READ_ONLY_SQL_TRANSACTION, self.to_string());
                return Some(report.hint(READ_ONLY_HINT));
            }
            Self::Random(_) => SqlState::SYSTEM_ERROR,
            Self::Encode(_) => SqlState::PROTOCOL_VIOLATION,
        };
        Some(ErrorReport::fatal(sqlstate, self.to_string()))
    }
}

/// What a client that is logged in gets.
pub enum LoggedIn {
    /// A session ready to run, and the server connection that the login took for it.
    Session {
        session: Box<Session>,
        lease: Option<Lease>,
    },
    Console(Admitted),
}

/// Takes `stream` over on success; on an error it is the caller's to say why and close.
pub async fn log_in(
    state: &State,
    stream: &mut Option<Stream>,
    buffer: &mut MessageBuffer,
    request: &StartupRequest,
    setup: &Span,
    ticket: &mut Ticket,
) -> Result<LoggedIn, LoginError> {
    if console::is_wanted(&state.config, request) {
        let mut span = state.shared.tracer.child("auth", setup.reference().as_ref());
        let admitted = console::admit(state, stream, buffer, request).await;
        if admitted.is_err() {
            span.fail("authentication");
        }
        return Ok(LoggedIn::Console(admitted?));
    }
    ticket.asks(&state.config.server, request.origin.ip())?;
    let mut out = BytesMut::new();
    let entered = enter(state, stream, buffer, &mut out, request, setup, ticket).await;
    if entered.is_err()
        && let Some(stream) = stream
    {
        // The proof was right; what else is wrong comes behind that.
        let _ = stream.write_all(&out).await;
    }
    entered
}

/// A session for a client that proves who it is. On an error, `out` has what it is told first.
async fn enter(
    state: &State,
    stream: &mut Option<Stream>,
    buffer: &mut MessageBuffer,
    out: &mut BytesMut,
    request: &StartupRequest,
    setup: &Span,
    ticket: &mut Ticket,
) -> Result<LoggedIn, LoginError> {
    let (served, user) = {
        let stream = stream.as_mut().ok_or_else(gone)?;
        let mut span = state.shared.tracer.child("auth", setup.reference().as_ref());
        let authenticated = authenticate(state, stream, buffer, out, request).await;
        if authenticated.is_err() {
            span.fail("authentication");
        }
        authenticated?
    };
    ticket.enters(served.pool.settings(), served.pool.user_settings(user))?;
    let parameters = request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let wanted = session_parameters(parameters)?;
    let (role, granted) = served.route(user, &wanted);
    if !granted {
        return Err(LoginError::ReadOnly { user: request.user.clone() });
    }
    let replication = replication_of(request)?;
    let (known, mut lease) = match replication {
        None => served.welcomes.learn(&served.pool, user, role, &wanted).await?,
        Some(replication) => begin_replication(&served, user, role, &wanted, replication).await?,
    };
    if served.pool.settings().mode != PoolMode::Session {
        lease.take().into_iter().for_each(Lease::checkin);
    }
    let details = ClientDetails {
        origin: Arc::clone(&request.origin),
        user: request.user.clone(),
        database: request.database.clone(),
        cluster: served.cluster.cluster.name.clone(),
        application_name: client_name(request),
        role: Some(role),
    };
    let registration = state.sessions().register(request.version.has_long_secret_keys(), details)?;
    let settings = served.pool.settings();
    let multiplexes = settings.mode != PoolMode::Session && settings.listen_mode == ListenMode::Multiplex;
    let mut client = Client {
        stream: stream.take().ok_or_else(gone)?,
        held: std::mem::take(buffer).into_bytes(),
        out: std::mem::take(out),
        body_left: 0,
        statements: ClientStatements::new(Arc::clone(&state.shared.statements)),
        read_under: SessionParameters::default(),
        known,
        startup: wanted.clone(),
        // A stream of changes has no end, and pauses where nothing changes.
        clock: Clock::new(match replication {
            None => served.pool.settings().client_timeouts,
            Some(_) => ClientTimeouts::default(),
        }),
        listening: multiplexes.then(|| Box::new(Listening::new(Arc::clone(&state.shared.listeners)))),
        trace: None,
        spliced_nodes: NodeSet::default(),
        wanted,
    };
    welcome(&mut client, &registration)?;
    let session = new_session(state, client, registration, &served, user, role);
    Ok(LoggedIn::Session { session: Box::new(session), lease })
}

fn replication_of(request: &StartupRequest) -> Result<Option<Replication>, ParameterError> {
    parameters::replication(request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Whether physical replication is asked for, which is of no database.
pub(super) fn is_physical(request: &StartupRequest) -> bool {
    matches!(replication_of(request), Ok(Some(Replication::Physical)))
}

/// A walsender of the client's own. It takes the place of one of the pool's connections.
async fn begin_replication(
    served: &Served,
    user: UserIndex,
    role: Role,
    wanted: &SessionParameters,
    replication: Replication,
) -> Result<(ReportedParameters, Option<Lease>), LoginError> {
    if served.pool.settings().mode != PoolMode::Session {
        return Err(LoginError::Replication);
    }
    let mut lease = served.pool.checkout(user, role, wanted).await.map_err(WelcomeError::Checkout)?;
    lease.become_walsender(replication, wanted).await?;
    Ok((lease.connection().reported.clone(), Some(lease)))
}

/// What the client calls itself; PostgreSQL keeps as much of it.
pub(super) fn client_name(request: &StartupRequest) -> String {
    let named = request.parameters.iter().find(|(name, _)| name == "application_name");
    named.map(|(_, value)| value.chars().filter(|c| !c.is_control()).take(63).collect()).unwrap_or_default()
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::NotConnected.into()
}

fn new_session(
    state: &State,
    client: Client,
    registration: Registration,
    served: &Served,
    user: UserIndex,
    role: Role,
) -> Session {
    Session::new(client, registration, Arc::clone(&served.pool), user, role, state.shared.splice.clone())
}

/// Everything a server says between a good password and its first ReadyForQuery.
fn welcome(client: &mut Client, registration: &Registration) -> Result<(), LoginError> {
    Authentication::Ok.encode(&mut client.out)?;
    for (name, value) in client.known.iter() {
        ParameterStatus { name: name.as_bytes(), value: value.as_bytes() }.encode(&mut client.out)?;
    }
    registration.key_data().encode(&mut client.out)?;
    ReadyForQuery { status: TransactionStatus::Idle }.encode(&mut client.out);
    Ok(())
}

/// As PostgreSQL does, the password is checked before anything is said about the database.
async fn authenticate(
    state: &State,
    stream: &mut Stream,
    buffer: &mut MessageBuffer,
    out: &mut BytesMut,
    request: &StartupRequest,
) -> Result<(Arc<Served>, UserIndex), LoginError> {
    let asked = match is_physical(request) {
        true => state.replicated(&request.database, &request.user),
        false => state.served(&request.database),
    };
    let served = asked.or_else(|| state.any_with_user(&request.user)).cloned();
    let found = served.and_then(|served| Some((served.pool.user(&request.user)?, served)));
    let account = match &found {
        Some((user, served)) => Account::Pool(served, *user),
        None => Account::Unknown,
    };
    let proof = prove::Login::new(state, stream, buffer, out, request, account).prove().await?;
    let (user, served) = match found {
        Some(found) if asked.is_some() => found,
        _ => return Err(LoginError::UnknownDatabase(request.database.clone())),
    };
    let role = served.pool.user_settings(user).role();
    served.cluster.upstream.learn(&served.pool.settings().database, role, proof);
    Ok((served, user))
}
