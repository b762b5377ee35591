//! The sockets that clients connect to, and the tasks that take connections from them.

use super::connection::serve;
use super::live::Live;
use super::run::RunError;
use super::settings::ServerSettings;
use crate::net::unix::socket_path;
use crate::net::{ListenAddress, Origin, SocketFile, bind, bind_unix};
use crate::wire::Stream;
use crate::worker::{WorkerId, Workers};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;

/// After an accept error such as too many open files: a pause instead of a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bound, and listening; nobody takes connections yet.
#[derive(Debug)]
pub(super) struct Listeners {
    /// One per address for each worker.
    tcp: Vec<Vec<std::net::TcpListener>>,
    unix: Vec<std::os::unix::net::UnixListener>,
    files: Vec<SocketFile>,
}

/// Connections are taken until this is dropped, and the files of Unix sockets stay as long.
#[derive(Debug)]
pub(super) struct Accepting {
    _stop: watch::Sender<()>,
    _files: Vec<SocketFile>,
}

impl Listeners {
    /// What `server` says of them; `workers` for each TCP address.
    pub(super) fn bind(server: &ServerSettings, workers: usize) -> Result<Self, RunError> {
        let mut listeners =
            Self { tcp: (0..workers).map(|_| Vec::new()).collect(), unix: Vec::new(), files: Vec::new() };
        for address in &server.listen {
            let failed = |source| RunError::Bind { address: address.clone(), source };
            match address {
                ListenAddress::Tcp(address) => {
                    let bound = bind(*address, workers, server.so_reuseport).map_err(failed)?;
                    listeners.tcp.iter_mut().zip(bound).for_each(|(worker, socket)| worker.push(socket));
                }
                ListenAddress::Unix { directory, port } => {
                    let port = port.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
                    let (socket, file) =
                        bind_unix(&socket_path(directory, port), server.socket_mode).map_err(failed)?;
                    listeners.unix.push(socket);
                    listeners.files.push(file);
                }
            }
        }
        Ok(listeners)
    }

    pub(super) fn accept(self, live: &Arc<Live>, workers: &Workers) -> Accepting {
        let (stop, accepting) = watch::channel(());
        for (worker, listeners) in self.tcp.into_iter().enumerate() {
            for listener in listeners {
                let task = accept_tcp(Arc::clone(live), listener, accepting.clone());
                workers.spawn_on(WorkerId(worker), task);
            }
        }
        for (index, listener) in self.unix.into_iter().enumerate() {
            let task = accept_unix(Arc::clone(live), listener, accepting.clone(), workers.clone());
            workers.spawn_on(WorkerId(index % workers.len()), task);
        }
        Accepting { _stop: stop, _files: self.files }
    }
}

async fn accept_tcp(live: Arc<Live>, listener: std::net::TcpListener, mut accepting: watch::Receiver<()>) {
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
                let state = live.state();
                state.shared.metrics.accepted.add(1);
                tokio::spawn(serve(state, Stream::Tcp(stream), Arc::new(Origin::tcp(peer))));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// The kernel does not spread the connections of a Unix socket: the workers get them in turn.
async fn accept_unix(
    live: Arc<Live>,
    listener: std::os::unix::net::UnixListener,
    mut accepting: watch::Receiver<()>,
    workers: Workers,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener could not be registered"),
    };
    for worker in (0..workers.len()).cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = accepting.changed() => return,
        };
        let identified = accepted.and_then(|(stream, _)| Ok((Origin::of_unix(&stream)?, stream.into_std()?)));
        match identified {
            Ok((origin, stream)) => {
                let state = live.state();
                state.shared.metrics.accepted.add(1);
                workers.spawn_on(WorkerId(worker), async move {
                    match UnixStream::from_std(stream) {
                        Ok(stream) => serve(state, Stream::Unix(stream), Arc::new(origin)).await,
                        Err(error) => tracing::warn!(%error, "a connection could not be registered"),
                    }
                });
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
