//! The console's way in, and what its orders lead to.

use super::live::Live;
use super::login::LoginError;
use super::prove::{self, Account};
use super::run::{Event, Shutdown};
use super::source::View;
use super::state::State;
use crate::cancel::{ClientDetails, Registration, Signal};
use crate::console::{self, Control, OrderError, Ordered, Rights};
use crate::overview::Source;
use crate::pool::Pool;
use crate::proxy::settings::Config;
use crate::startup::StartupRequest;
use crate::wire::{MessageBuffer, Stream};
use bytes::BytesMut;
use halephant_protocol::backend::{Authentication, ParameterStatus, ReadyForQuery, TransactionStatus};
use std::sync::Arc;
use std::time::Duration;

/// Longest that RELOAD waits for what came of it.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest that PAUSE waits for the last server connection to be closed; the pools stay paused then.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(600);
const RELOAD_POLL: Duration = Duration::from_millis(20);
/// What drivers ask for first; all of it is constant here.
const PARAMETERS: [(&str, &str); 6] = [
    ("server_version", concat!(env!("CARGO_PKG_VERSION"), "/halephant")),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
];

/// A client of the console that has proved who it is.
pub struct Admitted {
    stream: Stream,
    buffer: MessageBuffer,
    registration: Registration,
    user: String,
}

/// Whether the console is what the client asks for.
pub fn is_wanted(config: &Config, request: &StartupRequest) -> bool {
    config.admin.has_console() && request.database == crate::admin::CONSOLE_DATABASE
}

/// Takes `stream` over on success; on an error it is the caller's to say why and close.
pub async fn admit(
    state: &State,
    stream: &mut Option<Stream>,
    buffer: &mut MessageBuffer,
    request: &StartupRequest,
) -> Result<Admitted, LoginError> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
    let open = stream.as_mut().ok_or_else(gone)?;
    let account = match rights(&state.config, &request.user) {
        Some(_) => Account::Console,
        None => Account::Unknown,
    };
    let mut out = BytesMut::new();
    prove::Login::new(state, open, buffer, &mut out, request, account).prove().await?;
    let details = ClientDetails {
        origin: Arc::clone(&request.origin),
        user: request.user.clone(),
        database: request.database.clone(),
        cluster: String::new(),
        application_name: super::login::client_name(request),
        role: None,
    };
    let registration = state.sessions().register(request.version.has_long_secret_keys(), details)?;
    Authentication::Ok.encode(&mut out)?;
    for (name, value) in PARAMETERS {
        ParameterStatus { name: name.as_bytes(), value: value.as_bytes() }.encode(&mut out)?;
    }
    registration.key_data().encode(&mut out)?;
    ReadyForQuery { status: TransactionStatus::Idle }.encode(&mut out);
    open.write_all(&out).await?;
    let stream = stream.take().ok_or_else(gone)?;
    Ok(Admitted { stream, buffer: std::mem::take(buffer), registration, user: request.user.clone() })
}

fn rights(config: &Config, user: &str) -> Option<Rights> {
    let listed = |users: &[String]| users.iter().any(|listed| listed == user);
    if listed(&config.admin.users) {
        return Some(Rights::Everything);
    }
    listed(&config.admin.stats_users).then_some(Rights::Look)
}

impl Admitted {
    pub fn process_id(&self) -> u32 {
        self.registration.process_id()
    }

    /// Serves it to its end; returns why it ended.
    pub async fn serve(self, live: Arc<Live>) -> String {
        let Self { stream, buffer, registration, user } = self;
        console::serve(stream, buffer, &user, &registration, Arc::new(View(live))).await
    }
}

impl Control for View {
    fn rights(&self, user: &str) -> Option<Rights> {
        rights(&self.0.state().config, user)
    }

    fn reload(&self) -> Ordered<'_> {
        Box::pin(async {
            let state = self.0.state();
            let reloads = &state.shared.metrics.reloads;
            let before = reloads.totals();
            state.shared.order(Event::Reload);
            let counted = async {
                loop {
                    let now = reloads.totals();
                    let grown = now.iter().find(|counted| !before.contains(counted));
                    match grown {
                        Some((outcome, _)) => return *outcome,
                        None => tokio::time::sleep(RELOAD_POLL).await,
                    }
                }
            };
            match tokio::time::timeout(RELOAD_TIMEOUT, counted).await {
                Ok("success") => Ok(()),
                Ok(outcome) => Err(OrderError::ReloadRejected { outcome }),
                Err(_) => Err(OrderError::Timeout("the reload")),
            }
        })
    }

    fn shut_down(&self) {
        self.0.state().shared.order(Event::Shutdown(Shutdown::Graceful));
    }

    fn pause<'a>(&'a self, database: Option<&'a str>) -> Ordered<'a> {
        Box::pin(async move {
            let pools = self.named(database)?;
            let everything = database.is_none() && !self.0.state().shared.set_paused(true);
            let paused = pools.iter().filter(|pool| pool.pause()).cloned().collect();
            let mut undo = Undo { view: self, everything, paused };
            let closed = async {
                for pool in &pools {
                    pool.paused().await;
                }
            };
            let result = tokio::time::timeout(PAUSE_TIMEOUT, closed).await;
            undo.keep();
            result.map_err(|_| OrderError::Timeout("the pause"))
        })
    }

    fn resume(&self, database: Option<&str>) -> Result<(), OrderError> {
        let pools = self.named(database)?;
        if database.is_none() {
            self.0.state().shared.set_paused(false);
        }
        for pool in pools {
            pool.resume();
        }
        Ok(())
    }

    fn reconnect(&self, database: Option<&str>) -> Result<(), OrderError> {
        self.named(database)?.iter().for_each(|pool| pool.reconnect());
        Ok(())
    }

    fn switch_splice(&self, on: bool) -> Result<(), OrderError> {
        let splice = Source::splice(self).map_err(OrderError::NoKernelPath)?;
        if !on {
            splice.kill();
        } else if !splice.revive() {
            return Err(OrderError::KernelFault);
        }
        Ok(())
    }

    fn drain(&self, node: &str, draining: bool) -> Result<(), OrderError> {
        let mut found = false;
        for cluster in &self.0.state().clusters {
            for (_, known) in cluster.cluster.configured() {
                if known.address.to_string() == node {
                    found = true;
                    if known.set_draining(draining) {
                        cluster.cluster.announce();
                    }
                }
            }
        }
        let unknown = || OrderError::Unknown { what: "node", name: node.to_owned() };
        found.then_some(()).ok_or_else(unknown)
    }

    fn kill(&self, process_id: u32) -> Result<(), OrderError> {
        let unknown = || OrderError::Unknown { what: "client", name: process_id.to_string() };
        let handle = self.0.state().sessions().find(process_id).ok_or_else(unknown)?;
        handle.signal(Signal::Stop);
        Ok(())
    }
}

impl View {
    /// One pool, or all.
    fn named(&self, database: Option<&str>) -> Result<Vec<Arc<Pool>>, OrderError> {
        let state = self.0.state();
        let Some(name) = database else { return Ok(state.pools().cloned().collect()) };
        let unknown = || OrderError::Unknown { what: "database", name: name.to_owned() };
        Ok(vec![Arc::clone(&state.served(name).ok_or_else(unknown)?.pool)])
    }
}

/// Takes a pause back whose giver did not wait for it.
struct Undo<'a> {
    view: &'a View,
    everything: bool,
    paused: Vec<Arc<Pool>>,
}

impl Undo<'_> {
    fn keep(&mut self) {
        self.everything = false;
        self.paused.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.everything {
            self.view.0.state().shared.set_paused(false);
        }
        for pool in &self.paused {
            pool.resume();
        }
    }
}
