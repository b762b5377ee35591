//! [`Rig`]: a kernel path of its own, listeners, and sessions of each kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::policy::Policy;
use halephant::splice::settings::{SpliceMode, SpliceSettings};
use halephant::splice::{Flow, Path, Sockets, Splice};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::relay::{Summary, Take, relay_taking};

/// Longest any step of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const CREDIT_BYTES: u64 = 1024 * 1024;

pub const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

pub struct Rig {
    pub splice: Splice,
    /// Clients that connect here are enrolled.
    near: TcpListener,
    /// Clients that connect here are as good as remote.
    far: TcpListener,
    server: TcpListener,
    /// Held from a connect to its accept, so that the two are of one connection.
    pairing: Mutex<()>,
}

/// A session's far ends, and the relay between them.
pub struct Session {
    pub client: TcpStream,
    pub server: TcpStream,
    pub relay: JoinHandle<Result<Summary>>,
    /// To take one direction back.
    pub takes: mpsc::Sender<Take>,
}

pub fn settings(mode: SpliceMode, credit_bytes: u64) -> SpliceSettings {
    let cgroup = PathBuf::from("/sys/fs/cgroup");
    SpliceSettings { mode, colocated: true, cgroup, policy: Policy::Every, credit_bytes }
}

impl Rig {
    pub async fn start(address: IpAddr) -> Result<Self> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .try_init();
        let bind = async || TcpListener::bind(SocketAddr::new(address, 0)).await;
        let (near, far, server) = (bind().await?, bind().await?, bind().await?);
        let port = near.local_addr()?.port();
        let splice = tokio::task::spawn_blocking(move || {
            Splice::start(&settings(SpliceMode::Require, CREDIT_BYTES), &[port])
        })
        .await??
        .context("the kernel path is off")?;
        Ok(Self { splice, near, far, server, pairing: Mutex::default() })
    }

    /// The two pairs of sockets of a session: client, accepted, dialled, server.
    pub async fn pairs(&self, path: Path) -> Result<[TcpStream; 4]> {
        let listener =
            if matches!(path, Path::ClientLocal | Path::Colocated) { &self.near } else { &self.far };
        let pairing = self.pairing.lock().await;
        let client = TcpStream::connect(listener.local_addr()?).await?;
        let (accepted, _) = listener.accept().await?;
        drop(pairing);
        let [dialled, server] = self.server(path).await?;
        for socket in [&client, &accepted] {
            socket.set_nodelay(true)?;
        }
        Ok([client, accepted, dialled, server])
    }

    /// The server's side of a session: dialled, server.
    pub async fn server(&self, path: Path) -> Result<[TcpStream; 2]> {
        let address = self.server.local_addr()?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if matches!(path, Path::ServerLocal | Path::Colocated) {
            self.splice.before_connect(socket.as_fd());
        }
        let _pairing = self.pairing.lock().await;
        let dialled = socket.connect(address).await?;
        let (server, _) = self.server.accept().await?;
        for socket in [&dialled, &server] {
            socket.set_nodelay(true)?;
        }
        Ok([dialled, server])
    }

    /// Where clients are enrolled by connecting.
    pub fn near_address(&self) -> Result<SocketAddr> {
        Ok(self.near.local_addr()?)
    }

    pub async fn accept_near(&self) -> Result<TcpStream> {
        Ok(self.near.accept().await?.0)
    }

    pub async fn session(&self, path: Path) -> Result<Session> {
        let [client, accepted, dialled, server] = self.pairs(path).await?;
        let flow = self.splice.insert(Sockets { client: accepted.as_fd(), server: dialled.as_fd() }, 0)?;
        ensure!(flow.path() == path, "the path is {}", flow.path());
        Ok(Session::start(flow, [client, accepted, dialled, server]))
    }
}

impl Session {
    /// Of two pairs of sockets: client, accepted, dialled, server.
    pub fn start(flow: Flow, [client, accepted, dialled, server]: [TcpStream; 4]) -> Self {
        let (takes, asked) = mpsc::channel(1);
        let relay = tokio::spawn(async move { relay_taking(flow, &accepted, &dialled, asked).await });
        Self { client, server, relay, takes }
    }

    pub async fn finish(self) -> Result<Summary> {
        drop(self.client);
        drop(self.server);
        tokio::time::timeout(DEADLINE, self.relay).await.context("the relay does not end")??
    }
}

/// Sends and sees the same bytes arrive.
pub async fn carry(
    from: &mut (impl AsyncWrite + Unpin),
    to: &mut (impl AsyncRead + Unpin),
    bytes: &[u8],
    cut: impl Fn(usize) -> usize,
) -> Result<()> {
    let mut arrived = vec![0; bytes.len()];
    let send = async {
        let (mut rest, mut i) = (bytes, 0);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cut(i).clamp(1, rest.len()));
            from.write_all(chunk).await?;
            (rest, i) = (after, i + 1);
        }
        anyhow::Ok(())
    };
    let receive = async { Ok(to.read_exact(&mut arrived).await.map(|_| ())?) };
    tokio::time::timeout(DEADLINE, async { tokio::try_join!(send, receive) })
        .await
        .context("the bytes do not arrive")??;
    ensure!(arrived == bytes, "other bytes arrive");
    Ok(())
}
