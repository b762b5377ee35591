//! One accepted connection from its first byte to its last.

use super::admission::Ticket;
use super::balancer::{BalancerError, identify};
use super::console::Admitted;
use super::login::{LoggedIn, LoginError, log_in};
use super::state::State;
use crate::net::Origin;
use crate::relay::{ClientTrace, TraceSubject};
use crate::session::Session;
use crate::startup::{Opening, OpeningError, StartupRequest, read_opening};
use crate::telemetry::trace::{Span, attribute};
use crate::wire::{MessageBuffer, Stream};
use bytes::BytesMut;
use halephant_protocol::SqlState;
use halephant_protocol::backend::ErrorReport;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Longest that a refused client is given to take the reason.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Balancer(#[from] BalancerError),
    #[error(transparent)]
    Opening(#[from] OpeningError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("canceling authentication due to timeout")]
    Timeout,
}

impl Refused {
    fn report(&self) -> Option<ErrorReport> {
        match self {
            Self::Balancer(error) => error.report(),
            Self::Opening(error) => error.report(),
            Self::Login(error) => error.report(),
            Self::Timeout => {
                Some(ErrorReport::fatal(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, self.to_string()))
            }
        }
    }
}

/// Serves one connection to its end.
pub async fn serve(state: Arc<State>, stream: Stream, origin: Arc<Origin>) {
    let began = Instant::now();
    let mut span = state.shared.tracer.root("proxy.session", None);
    // The login's future is large and short: it lives on the heap for as long as it takes.
    let Some((logged_in, request, _ticket)) = Box::pin(establish(&state, stream, origin, &mut span)).await
    else {
        return;
    };
    let peer = Arc::clone(&request.origin);
    let (mut session, lease) = match logged_in {
        LoggedIn::Session { session, lease } => (session, lease),
        LoggedIn::Console(admitted) => return Box::pin(serve_console(state, admitted, request, peer)).await,
    };
    if span.is_on() {
        session.client.trace = Some(client_trace(&state, &session, span));
    }
    let process_id = session.registration.process_id();
    tracing::info!(
        %peer,
        process_id,
        user = request.user,
        database = request.database,
        role = session.role.as_str(),
        "client connected"
    );
    // Kept for the last line only.
    let StartupRequest { user, database, .. } = request;
    let (user, database) = (user.into_boxed_str(), database.into_boxed_str());
    let end = session.run(lease).await;
    tracing::info!(
        %peer,
        process_id,
        user,
        database,
        reason = end.as_str(),
        seconds = began.elapsed().as_secs_f64(),
        "client disconnected"
    );
}

async fn serve_console(state: Arc<State>, admitted: Admitted, request: StartupRequest, peer: Arc<Origin>) {
    let (process_id, user) = (admitted.process_id(), request.user);
    let Some(live) = state.shared.live() else { return };
    tracing::info!(%peer, process_id, user, "console connected");
    let reason = admitted.serve(live).await;
    tracing::info!(%peer, process_id, user, reason, "console disconnected");
}

/// Takes the session's span over.
fn client_trace(state: &State, session: &Session, mut span: Span) -> Box<ClientTrace> {
    let settings = session.pool.settings();
    let subject = TraceSubject {
        cluster: session.pool.cluster().name.clone(),
        pool: settings.name.clone(),
        namespace: settings.database.clone(),
        user: session.pool.user_settings(session.user).name.clone(),
    };
    span.set(attribute::DB_SYSTEM_NAME, attribute::POSTGRESQL);
    span.set(attribute::DB_NAMESPACE, subject.namespace.clone());
    span.set(attribute::DB_USER, subject.user.clone());
    span.set(attribute::CLUSTER, subject.cluster.clone());
    span.set(attribute::POOL_NAME, subject.pool.clone());
    span.set(attribute::CLIENT_PROCESS_ID, i64::from(session.registration.process_id()));
    Box::new(ClientTrace::new(state.shared.tracer.clone(), span, subject))
}

/// Opening and login, within client_login_timeout. `None`: there is no session, and the client knows why.
async fn establish(
    state: &Arc<State>,
    mut stream: Stream,
    mut origin: Arc<Origin>,
    span: &mut Span,
) -> Option<(LoggedIn, StartupRequest, Box<Ticket>)> {
    let mut setup = state.shared.tracer.child("proxy.setup", span.reference().as_ref());
    let mut ticket = match state.shared.admission.accepted() {
        Ok(ticket) => Box::new(ticket),
        Err(excess) => {
            setup.fail("refused");
            tracing::debug!(peer = %origin, error = %excess, "connection refused");
            tell_at_once(&mut stream, &excess.report());
            return None;
        }
    };
    let mut stream = Some(stream);
    match opening_and_login(state, &mut stream, &mut origin, &setup, &mut ticket).await {
        Ok(Some((logged_in, request))) => {
            ticket.logged_in();
            describe(span, &origin);
            return Some((logged_in, request, ticket));
        }
        Ok(None) => {}
        Err(refused) => {
            setup.fail(if matches!(refused, Refused::Timeout) { "timeout" } else { "refused" });
            tracing::info!(peer = %origin, error = %refused, "connection refused");
            // Its places are free for the next, however long this one takes to read why.
            ticket.refused();
            tell(stream.take(), refused.report()).await;
        }
    }
    describe(span, &origin);
    None
}

fn describe(span: &mut Span, origin: &Origin) {
    if !span.is_on() {
        return;
    }
    let address = origin.address();
    span.set(
        attribute::CLIENT_ADDRESS,
        address.map_or_else(|| origin.to_string(), |address| address.ip().to_string()),
    );
    if let Some(address) = address {
        span.set(attribute::CLIENT_PORT, i64::from(address.port()));
    }
}

async fn opening_and_login(
    state: &Arc<State>,
    stream: &mut Option<Stream>,
    origin: &mut Arc<Origin>,
    setup: &Span,
    ticket: &mut Ticket,
) -> Result<Option<(LoggedIn, StartupRequest)>, Refused> {
    let began = tokio::time::Instant::now();
    let deadline = began + state.config.server.client_login_timeout;
    let mut buffer = MessageBuffer::default();
    let opening = match stream {
        Some(stream) => {
            let networks = &state.config.server.proxy_protocol;
            let identity = identify(networks, stream, &mut buffer, Arc::clone(origin));
            *origin = tokio::time::timeout_at(deadline, identity).await.map_err(|_| Refused::Timeout)??;
            let acceptor = state.config.server.tls.made();
            let opening = read_opening(stream, &mut buffer, acceptor.map(AsRef::as_ref), origin);
            tokio::time::timeout_at(deadline, opening).await.map_err(|_| Refused::Timeout)??
        }
        None => return Ok(None),
    };
    let request = match opening {
        Opening::Cancel { process_id, secret_key } => {
            let cancel = state.sessions().cancel(process_id, &secret_key);
            return tokio::time::timeout_at(deadline, cancel)
                .await
                .map(|()| None)
                .map_err(|_| Refused::Timeout);
        }
        Opening::Session(request) => request,
    };
    // From here the pool's own timeout holds, as soon as it is known which it is.
    let own = state.served(&request.database).map(|served| served.pool.settings().client_login_timeout);
    let deadline = own.map_or(deadline, |own| began + own);
    if let Some(stream) = stream
        && !request.negotiation.is_empty()
    {
        stream.write_all(&request.negotiation).await.map_err(OpeningError::Io)?;
    }
    let logged_in = log_in(state, stream, &mut buffer, &request, setup, ticket);
    let logged_in = tokio::time::timeout_at(deadline, logged_in).await.map_err(|_| Refused::Timeout)??;
    Ok(Some((logged_in, request)))
}

/// Says why without waiting for anything: there are too many to wait for.
fn tell_at_once(stream: &mut Stream, report: &ErrorReport) {
    let mut out = BytesMut::new();
    report.encode_error(&mut out);
    // The socket of a new connection has room.
    let _ = stream.poll_write(&mut Context::from_waker(Waker::noop()), &out);
}

/// Says why, and closes in a way that the words arrive.
async fn tell(stream: Option<Stream>, report: Option<ErrorReport>) {
    let (Some(mut stream), Some(report)) = (stream, report) else { return };
    let mut out = BytesMut::new();
    report.encode_error(&mut out);
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, async {
        stream.write_all(&out).await?;
        stream.shutdown().await?;
        let mut sink = [0; 256];
        // A close with unread input would reset the connection, and the last words with it.
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of clients are idle, and each one is such a task: its stream, its session, its state.
    #[test]
    fn a_client_is_a_small_task() {
        fn bytes<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(serve);
        assert!(bytes <= 2816, "{bytes} bytes");
    }
}
