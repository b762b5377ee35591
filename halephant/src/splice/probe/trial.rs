//! One path's trial: a session of four sockets in this process, and what has to be true of it.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use halephant_common::flow::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::splice::core::Core;
use crate::splice::error::NotArmed;
use crate::splice::flow::{Direction, Flow, Sockets};
use crate::splice::policy::Path;
use crate::splice::socket;

/// Longest that any step may take, on a machine that is busy.
const STEP: Duration = Duration::from_secs(5);
/// Longest until FIONREAD counts bytes that are readable.
const TELL: Duration = Duration::from_millis(200);
const QUERY: &[u8] = b"Q\0\0\0\x06x\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
/// A row of 8 kB: type byte, length, body.
const ROW_BYTES: usize = 8192;

type Trial<T> = Result<T, String>;

/// All of it; the first thing that is not as it should be.
pub(super) async fn run(core: &Arc<Core>, path: Path) -> Trial<()> {
    Session::open(core, path).await?.redirects_and_ends(path).await?;
    Session::open(core, path).await?.keeps_within_credit(core).await?;
    Session::open(core, path).await?.passes_without_a_target().await
}

async fn step<T, E: Display>(what: &str, action: impl Future<Output = Result<T, E>>) -> Trial<T> {
    match timeout(STEP, action).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: nothing happens")),
    }
}

fn check(holds: bool, what: &str) -> Trial<()> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

struct Session {
    client: TcpStream,
    accepted: TcpStream,
    dialled: TcpStream,
    server: TcpStream,
    flow: Flow,
}

impl Session {
    /// Connected, on the path, and both directions taken by the kernel.
    async fn open(core: &Arc<Core>, path: Path) -> Trial<Self> {
        let listen = || step("listening", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let (near, far) = (listen().await?, listen().await?);
        let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
        let (near_address, far_address) = (address(&near)?, address(&far)?);
        if matches!(path, Path::ClientLocal | Path::Colocated) {
            super::listen(core, near_address.port()).map_err(|error| error.to_string())?;
        }
        let client = step("connecting", TcpStream::connect(near_address)).await;
        super::unlisten(core, near_address.port());
        let client = client?;
        let (accepted, _) = step("accepting", near.accept()).await?;
        let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
        if matches!(path, Path::ServerLocal | Path::Colocated) {
            core.announce(socket.as_fd());
        }
        let dialled = step("connecting", socket.connect(far_address)).await?;
        let (server, _) = step("accepting", far.accept()).await?;
        let sockets = Sockets { client: accepted.as_fd(), server: dialled.as_fd() };
        let flow = Flow::insert(core, sockets, 0).map_err(|error| error.to_string())?;
        check(flow.path() == path, "sockets are not enrolled")?;
        for direction in Direction::BOTH {
            check(flow.status(direction).usable, "sock_diag does not show the receiver (module tcp_diag)")?;
        }
        let mut session = Self { client, accepted, dialled, server, flow };
        session.copy_once(path).await?;
        session.arm(Direction::ClientToServer).await?;
        session.arm(Direction::ServerToClient).await?;
        Ok(session)
    }

    /// One exchange in userspace.
    async fn copy_once(&mut self, path: Path) -> Trial<()> {
        let mut bytes = [0; 64];
        step("copying", async {
            self.client.write_all(QUERY).await?;
            let read = self.accepted.read_exact(&mut bytes[..QUERY.len()]).await?;
            self.flow.read(Direction::ClientToServer, read);
            self.dialled.write_all(QUERY).await?;
            self.server.read_exact(&mut bytes[..QUERY.len()]).await?;
            self.server.write_all(READY).await?;
            let read = self.dialled.read_exact(&mut bytes[..READY.len()]).await?;
            self.flow.read(Direction::ServerToClient, read);
            self.accepted.write_all(READY).await?;
            self.client.readable().await
        })
        .await?;
        self.unread_is_told(path, "FIONREAD does not count bytes that came by TCP").await?;
        step("copying", self.client.read_exact(&mut bytes[..READY.len()])).await.map(|_| ())
    }

    /// Clients ask FIONREAD how much waits for them (pgjdbc's `available`). Kernels that do not count what lies in the queue of
    /// redirected bytes answer 0, and must not enrol clients.
    async fn unread_is_told(&self, path: Path, what: &str) -> Trial<()> {
        if !matches!(path, Path::ClientLocal | Path::Colocated) {
            return Ok(());
        }
        // A socket may be woken a moment before the bytes are there.
        let told = async {
            while socket::unread(self.client.as_fd())? != READY.len() as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            std::io::Result::Ok(())
        };
        match timeout(TELL, told).await {
            Ok(told) => told.map_err(|error| error.to_string()),
            Err(_) => Err(what.to_owned()),
        }
    }

    async fn arm(&mut self, direction: Direction) -> Trial<()> {
        let sockets = Sockets { client: self.accepted.as_fd(), server: self.dialled.as_fd() };
        step("arming", async {
            loop {
                match self.flow.arm(direction, sockets) {
                    Ok(()) => return Ok(()),
                    Err(NotArmed::SourceBusy | NotArmed::TargetBusy) => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        })
        .await
    }

    /// Bytes both ways, what FIONREAD says of them, and the end of the client's stream.
    async fn redirects_and_ends(mut self, path: Path) -> Trial<()> {
        let mut bytes = [0; 64];
        for _ in 0..3 {
            step("client to server", async {
                self.client.write_all(QUERY).await?;
                self.server.read_exact(&mut bytes[..QUERY.len()]).await
            })
            .await?;
            check(bytes.starts_with(QUERY), "client to server: other bytes")?;
            step("server to client", async {
                self.server.write_all(READY).await?;
                self.client.readable().await
            })
            .await?;
            self.unread_is_told(path, "FIONREAD does not count redirected bytes").await?;
            step("server to client", self.client.read_exact(&mut bytes[..READY.len()])).await?;
            check(bytes.starts_with(READY), "server to client: other bytes")?;
        }
        for (direction, message) in [(Direction::ClientToServer, QUERY), (Direction::ServerToClient, READY)] {
            let status = self.flow.status(direction);
            let all = 3 * message.len() as u64;
            check(status.spliced && status.redirected == all, "bytes are not redirected")?;
        }
        check(
            self.flow.status(Direction::ServerToClient).framing.status == b'I',
            "messages are not followed",
        )?;
        step("half-close", self.client.shutdown()).await?;
        let end = step("end of stream", self.accepted.read(&mut bytes)).await?;
        check(end == 0, "end of stream: there are bytes instead")?;
        let sockets = Sockets { client: self.accepted.as_fd(), server: self.dialled.as_fd() };
        for direction in Direction::BOTH {
            step("reclaim", self.flow.reclaim(direction, sockets)).await?;
        }
        check(self.flow.release(sockets).server_reusable, "bytes are lost")
    }

    /// A client that does not read: the kernel takes no more than the credit, and loses nothing of it.
    async fn keeps_within_credit(mut self, core: &Arc<Core>) -> Trial<()> {
        let mut row = vec![0; ROW_BYTES];
        row[0] = b'D';
        row[1..5].copy_from_slice(&(ROW_BYTES as u32 - 1).to_be_bytes());
        let most = 2 * core.credit_bytes() as usize + ROW_BYTES;
        let (mut sent, mut arrived) = (0, 0);
        while self.flow.status(Direction::ServerToClient).spliced || sent == 0 {
            check(sent < most, "credit is not kept")?;
            step("slow reader", self.server.write_all(&row)).await?;
            sent += ROW_BYTES;
            // Lets the kernel's own queues run.
            tokio::task::yield_now().await;
        }
        let redirected = self.flow.status(Direction::ServerToClient).redirected;
        check(redirected > 0 && redirected <= core.credit_bytes(), "credit is not kept")?;
        let mut buffer = vec![0; 64 * 1024];
        step("slow reader", async {
            while arrived < redirected as usize {
                arrived += self.client.read(&mut buffer).await?;
            }
            std::io::Result::Ok(())
        })
        .await?;
        check(arrived == redirected as usize, "slow reader: too many bytes")?;
        let sockets = Sockets { client: self.accepted.as_fd(), server: self.dialled.as_fd() };
        let reclaimed = step("reclaim", self.flow.reclaim(Direction::ServerToClient, sockets)).await?;
        check(reclaimed.reason == Reason::Credit, "credit: another reason")?;
        step("slow reader", async {
            while arrived < sent {
                arrived += self.dialled.read(&mut buffer).await?;
            }
            std::io::Result::Ok(())
        })
        .await?;
        check(arrived == sent, "slow reader: bytes are doubled")
    }

    /// What a client sends once the target's socket is gone comes to userspace.
    async fn passes_without_a_target(self) -> Trial<()> {
        let Self { mut client, mut accepted, mut dialled, server, flow } = self;
        drop(server);
        let mut bytes = [0; 64];
        let end = step("server gone", dialled.read(&mut bytes)).await?;
        check(end == 0, "server gone: there are bytes instead")?;
        // As long as ours is there it can send, whether the server reads or not.
        drop(dialled);
        step("server gone", client.write_all(QUERY)).await?;
        step("server gone", accepted.read_exact(&mut bytes[..QUERY.len()])).await?;
        check(!flow.status(Direction::ClientToServer).spliced, "server gone: the direction is still spliced")
    }
}
