//! A process's life: bind, start the workers, serve, and end in good order.

use super::listeners::Listeners;
use super::live::Live;
use super::reload::{Reread, reload};
use super::service;
use super::settings::Config;
use super::source::View;
use super::state::Process;
use crate::admin::{Admin, AdminError};
use crate::auth::PgPass;
use crate::auth::pgpass::PgPassError;
use crate::cancel::{Sessions, Signal, peers};
use crate::net::{ListenAddress, raise_descriptor_limit};
use crate::overview::instruments;
use crate::privileges::{self, PrivilegeError};
use crate::splice::policy::Policy;
use crate::splice::settings::SpliceSettings;
use crate::splice::{Splice, SpliceError, chain};
use crate::telemetry::otlp::{Otlp, OtlpError};
use crate::worker::{WorkerId, Workers};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How often the end is looked for while sessions drain.
const DRAIN_POLL: Duration = Duration::from_millis(20);
/// Longest that pools are given to close their connections in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Orders of the console that are not carried out yet.
const ORDERS_MAX: usize = 8;
/// `every`: the kernel paths are not chosen by what was measured. For measuring them.
const POLICY_VARIABLE: &str = "HALEPHANT_SPLICE_POLICY";

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("could not listen on {address}: {source}")]
    Bind { address: ListenAddress, source: io::Error },
    #[error("could not start a worker: {0}")]
    Worker(#[source] io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    #[error(transparent)]
    PgPass(#[from] PgPassError),
    #[error("no random bytes from the system: {0}")]
    Random(#[from] getrandom::Error),
    #[error("ebpf.mode is \"require\", and the kernel path does not start: {}", chain(.0))]
    KernelPath(#[from] SpliceError),
}

/// What the process is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Let transactions finish, within `shutdown_timeout`.
    Graceful,
    Immediate,
}

/// What a process is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Shutdown(Shutdown),
    /// Read the configuration again.
    Reload,
    /// Take every session off the kernel path.
    SpliceOff,
}

/// Serves until `events` has a shutdown; a second one ends it at once.
///
/// Runs on the calling thread's runtime, which becomes the control runtime: it probes nodes, tends pools, runs auth
/// queries and reloads; clients are served by the workers.
pub async fn run(config: Config, mut events: impl Source, reread: impl Reread) -> Result<(), RunError> {
    let listen = config.server.listen.clone();
    let count = match config.server.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let pgpass = Arc::new(PgPass::load(config.server.pgpass.as_deref())?);
    match raise_descriptor_limit() {
        Ok(limit) => tracing::debug!(limit, "open descriptors"),
        Err(error) => tracing::warn!(%error, "the limit on open descriptors could not be raised"),
    }
    // Before the first client can connect: what was connected earlier is not enrolled.
    let splice = start_splice(config.ebpf.clone(), &listen).await?;
    let listeners = Listeners::bind(&config.server, count)?;
    let admin = Admin::bind(&config.admin)?;
    // Workers are started with what is left.
    privileges::give_up(&config.server.privileges, splice.is_some())?;
    if let Some(splice) = &splice {
        splice.settle()?;
    }
    let confined = config.server.privileges.seccomp.then_some(splice.is_some());
    let threads = Threads::start(count).map_err(RunError::Worker)?;
    let mut otlp = Otlp::start(&config.otel)?;
    let tracer = otlp.as_ref().map(Otlp::tracer).unwrap_or_default();
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    // With what is left of its rights: others of the same user are to find it.
    let (identity, peers) = peers::claim();
    let (workers, control) = (threads.workers.clone(), Handle::current());
    let process = Arc::new(Process::new(pgpass, workers, control, tracer, splice, orders, identity)?);
    if let Some(peers) = peers {
        tokio::spawn(peers.serve(Arc::clone(&process.sessions)));
    }
    let live = Arc::new(Live::start(config, Arc::clone(&process)).await);
    process.set_live(&live);
    if let Some(otlp) = &mut otlp {
        let view = View(Arc::clone(&live));
        otlp.observe(Box::new(move || instruments::families(&view)));
    }
    if let Some(admin) = admin {
        tokio::spawn(admin.serve(Arc::new(View(Arc::clone(&live)))));
    }
    let accepting = listeners.accept(&live, &threads.workers);
    if let Some(kernel_path) = confined {
        privileges::seccomp::confine(kernel_path)?;
    }
    let listen = listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    tracing::info!(listen, workers = count, "ready");
    service::ready();
    let kind = serve_until_shutdown(&live, &mut events, ordered, reread).await;
    drop(accepting);
    service::stopping();
    shut_down(&live, kind, &mut events).await;
    if let Some(otlp) = otlp {
        let _ = tokio::task::spawn_blocking(|| otlp.stop()).await;
    }
    tracing::info!("stopped");
    threads.stop();
    Ok(())
}

/// Carries out reloads, one at a time; requests that come meanwhile are one more.
async fn serve_until_shutdown(
    live: &Arc<Live>,
    events: &mut impl Source,
    mut ordered: mpsc::Receiver<Event>,
    reread: impl Reread,
) -> Shutdown {
    let mut watchdog = pin!(service::feed_watchdog());
    let mut idle = Some(reread);
    let mut running = JoinSet::new();
    let mut requested = false;
    loop {
        tokio::select! {
            event = next_event(events, &mut ordered) => match event {
                Event::Shutdown(kind) => return kind,
                Event::Reload => requested = true,
                Event::SpliceOff => splice_off(live),
            },
            Some(ended) = running.join_next() => match ended {
                Ok(reread) => idle = Some(reread),
                Err(ended) => tracing::error!(%ended, "a reload did not end; there will be no other"),
            },
            () = &mut watchdog => {}
        }
        if requested && let Some(reread) = idle.take() {
            requested = false;
            running.spawn(reload(Arc::clone(live), reread));
        }
    }
}

fn splice_off(live: &Live) {
    match &live.state().shared.splice {
        Some(splice) => {
            splice.kill();
            tracing::warn!("the kernel path is switched off; sessions go on in userspace");
        }
        None => tracing::info!("the kernel path is not in use"),
    }
}

/// The self-test blocks for about a second, and needs a runtime of its own.
async fn start_splice(
    mut settings: SpliceSettings,
    listen: &[ListenAddress],
) -> Result<Option<Splice>, RunError> {
    if std::env::var_os(POLICY_VARIABLE).is_some_and(|policy| policy == "every") {
        tracing::warn!("sessions use every kernel path, also those that may repeat bytes");
        settings.policy = Policy::Every;
    }
    let ports: Vec<u16> =
        listen.iter().filter_map(ListenAddress::tcp).map(std::net::SocketAddr::port).collect();
    // In a thread that ends: those of the runtime would keep the rights that are given up later.
    let (done, started) = oneshot::channel();
    let start = move || drop(done.send(Splice::start(&settings, &ports)));
    let thread = std::thread::Builder::new().name("splice-start".into());
    let thread = thread.spawn(start).map_err(RunError::Worker)?;
    let started = started.await.map_err(|ended| RunError::Worker(io::Error::other(ended)))?;
    thread.join().map_err(|_| RunError::Worker(io::ErrorKind::Other.into()))?;
    Ok(started?)
}

/// From outside or from inside. Cancel safe.
async fn next_event(events: &mut impl Source, ordered: &mut mpsc::Receiver<Event>) -> Event {
    tokio::select! {
        event = events.next() => event,
        Some(event) = ordered.recv() => event,
    }
}

async fn shut_down(live: &Live, kind: Shutdown, events: &mut impl Source) {
    let state = live.state();
    let sessions = state.sessions();
    tracing::info!(?kind, sessions = sessions.len(), "shutting down");
    if kind == Shutdown::Graceful {
        sessions.signal_all(Signal::Drain);
        tokio::select! {
            () = sessions_ended(sessions) => {}
            () = tokio::time::sleep(state.config.server.shutdown_timeout) => {}
            () = another_shutdown(events) => {}
        }
    }
    sessions.signal_all(Signal::Stop);
    let closing = async {
        sessions_ended(sessions).await;
        state.pools().for_each(|pool| pool.close());
        while state.pools().any(|pool| pool.connections() > 0) {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(CLOSE_TIMEOUT, closing) => {}
        () = another_shutdown(events) => {}
    }
}

async fn another_shutdown(events: &mut impl Source) {
    while !matches!(events.next().await, Event::Shutdown(_)) {}
}

/// Where events come from: signals in a process, a channel in a test.
pub trait Source {
    /// Cancel safe.
    fn next(&mut self) -> impl Future<Output = Event>;
}

async fn sessions_ended(sessions: &Sessions) {
    while !sessions.is_empty() {
        tokio::time::sleep(DRAIN_POLL).await;
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
