//! A process's life: bind, start the workers, serve, and end in good order.

use super::connection::serve;
use super::settings::Config;
use super::source::View;
use super::state::State;
use crate::admin::{Admin, AdminError};
use crate::auth::PgPass;
use crate::auth::pgpass::PgPassError;
use crate::cancel::Signal;
use crate::net::{bind, raise_descriptor_limit};
use crate::worker::{WorkerId, Workers};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often the end is looked for while sessions drain.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// Longest that pools are given to close their connections in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// After an accept error such as too many open files: a pause instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not listen on {address}: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("could not start a worker: {0}")]
    Worker(#[source] io::Error),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    PgPass(#[from] PgPassError),
    #[error("no random bytes from the system: {0}")]
    Random(#[from] getrandom::Error),
}

/// What the process is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Let transactions finish, within `shutdown_timeout`.
    Graceful,
    Immediate,
}

/// Serves until `shutdown` says so a first time; a second time ends it at once.
///
/// Runs on the calling thread's runtime, which becomes the control runtime: it probes nodes, tends pools and runs auth
/// queries; clients are served by the workers.
pub async fn run(config: Config, mut shutdown: impl Source) -> Result<(), RunError> {
    let count = match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let pgpass = Arc::new(PgPass::load(config.server.pgpass.as_deref())?);
    match raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "the limit on open descriptors could not be raised"),
    }
    let listeners = bind_all(&config.server.listen, count)?;
    let admin = Admin::bind(&config.admin)?;
    let threads = Threads::start(count).map_err(RunError::Worker)?;
    let control = tokio::runtime::Handle::current();
    let state = Arc::new(State::new(&config, pgpass, &threads.workers, &control)?);
    if let Some(admin) = admin {
        let view = View { state: Arc::clone(&state), config: config.clone() };
        tokio::spawn(admin.serve(Arc::new(view)));
    }
    state.start(&config).await;
    let (stop_accepting, accepting) = watch::channel(());
    for (worker, listeners) in listeners.into_iter().enumerate() {
        for listener in listeners {
            let accept = accept(Arc::clone(&state), listener, accepting.clone());
            threads.workers.spawn_on(WorkerId(worker), accept);
        }
    }
    drop(accepting);
    let listen = config.server.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(listen, workers = count, "ready");
    let kind = shutdown.next().await;
    drop(stop_accepting);
    tracing::info!(?kind, sessions = state.sessions.len(), "shutting down");
    if kind == Shutdown::Graceful {
        state.sessions.signal_all(Signal::Drain);
        tokio::select! {
            () = sessions_ended(&state) => {}
            () = tokio::time::sleep(config.server.shutdown_timeout) => {}
            _ = shutdown.next() => {}
        }
    }
    state.sessions.signal_all(Signal::Stop);
    let closing = async {
        sessions_ended(&state).await;
        state.pools().for_each(crate::pool::Pool::close);
        while state.pools().any(|pool| pool.connections() > 0) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(CLOSE_TIMEOUT, closing) => {}
        _ = shutdown.next() => {}
    }
    tracing::info!("stopped");
    threads.stop();
    Ok(())
}

/// Where shutdown requests come from: signals in a process, a channel in a test.
pub trait Source {
    fn next(&mut self) -> impl Future<Output = Shutdown>;
}

async fn sessions_ended(state: &State) {
    while !state.sessions.is_empty() {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// One listener per address and worker, by worker.
fn bind_all(addresses: &[SocketAddr], count: usize) -> Result<Vec<Vec<std::net::TcpListener>>, RunError> {
    let mut by_worker: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for &address in addresses {
        let listeners = bind(address, count).map_err(|source| RunError::Bind { address, source })?;
        by_worker.iter_mut().zip(listeners).for_each(|(worker, listener)| worker.push(listener));
    }
    Ok(by_worker)
}

async fn accept(state: Arc<State>, listener: std::net::TcpListener, mut accepting: watch::Receiver<()>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener could not be registered"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The sender is dropped when the proxy stops accepting.
            _ = accepting.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                state.metrics.accepted.add(1);
                tokio::spawn(serve(Arc::clone(&state), stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The worker threads.
struct Threads {
    workers: Workers,
    stop: watch::Sender<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(count: usize) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for id in (0..count).map(WorkerId) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let mut stopped = stopped.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
                Workers::enter(id);
                // The sender is dropped at the end; there is nothing else to wait for.
                runtime.block_on(async { while stopped.changed().await.is_ok() {} });
            })?;
            threads.push(thread);
        }
        Ok(Self { workers: Workers::new(handles), stop, threads })
    }

    fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
