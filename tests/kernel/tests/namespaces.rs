//! Two clients with the same addresses and ports, one of them in a network namespace of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use halephant::splice::{Direction, Path, Sockets};
use halephant_kernel_tests::messages::{query, ready};
use halephant_kernel_tests::relay::Summary;
use halephant_kernel_tests::rig::{ADDRESSES, Rig, Session, carry};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

const EXCHANGES: usize = 100;

/// A connection over loopback, in the network namespace of the calling thread: the client's end and ours.
fn connect(client: SocketAddr, ours: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_port(true)?;
    listener.bind(&ours.into())?;
    listener.listen(1)?;
    let listener = TcpListener::from(listener);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&client.into())?;
    socket.connect(&ours.into())?;
    let (accepted, _) = listener.accept()?;
    Ok((socket.into(), accepted))
}

/// Runs `connect` in a new network namespace, which lives as long as the sockets.
fn connect_elsewhere(client: SocketAddr, ours: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let work = move || {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace of its own")?;
        // Of the thread that starts it.
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
            .or_else(|_| Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status());
        ensure!(up.context("neither ip nor busybox is installed")?.success(), "lo stays down");
        connect(client, ours)
    };
    thread::spawn(work).join().map_err(|_| anyhow::anyhow!("the thread panicked"))?
}

fn to_tokio(stream: TcpStream) -> Result<tokio::net::TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(tokio::net::TcpStream::from_std(stream)?)
}

/// A session of a client that is connected already; whether its second direction may be used is answered.
async fn session(rig: &Rig, ends: (TcpStream, TcpStream), path: Path) -> Result<(Session, bool)> {
    let (client, accepted) = (to_tokio(ends.0)?, to_tokio(ends.1)?);
    let [dialled, server] = rig.server(path).await?;
    let flow = rig.splice.insert(Sockets { client: accepted.as_fd(), server: dialled.as_fd() }, 0)?;
    ensure!(flow.path() == path, "the path is {}", flow.path());
    let usable = flow.status(Direction::ServerToClient).usable;
    Ok((Session::start(flow, [client, accepted, dialled, server]), usable))
}

async fn talk(session: &mut Session, who: u8) -> Result<()> {
    carry(&mut session.client, &mut session.server, &query(&[who; 40]), |_| usize::MAX).await?;
    let answer = [query(&[who; 60]), ready(b'I')].concat();
    carry(&mut session.server, &mut session.client, &answer, |_| usize::MAX).await
}

#[tokio::test]
async fn clients_with_equal_addresses_are_told_apart() -> Result<()> {
    for path in [Path::ClientLocal, Path::Colocated] {
        let rig = Rig::start(ADDRESSES[0]).await?;
        ensure!(rig.splice.report().netns, "this kernel does not tell network namespaces apart");
        // A port that clients are enrolled by, in either namespace; the rig holds it in this one.
        let ours = rig.near_address()?;
        let own = TcpStream::connect(ours)?;
        let client = own.local_addr()?;
        let here = (own, rig.accept_near().await?.into_std()?);
        let there = connect_elsewhere(client, ours)?;
        ensure!(there.0.local_addr()? == client && there.0.peer_addr()? == ours);
        let (mut here, here_usable) = session(&rig, here, path).await?;
        let (mut there, there_usable) = session(&rig, there, path).await?;
        // What cannot be seen by sock_diag is not redirected to.
        ensure!(here_usable && !there_usable, "{path}: {here_usable} {there_usable}");
        for _ in 0..EXCHANGES {
            talk(&mut here, b'h').await.context("this namespace")?;
            talk(&mut there, b't').await.context("the other namespace")?;
        }
        let (here, there): (Summary, Summary) = (here.finish().await?, there.finish().await?);
        ensure!(
            here.redirected[0] > here.copied[0] && here.redirected[1] > here.copied[1],
            "{path}: {here:?}"
        );
        ensure!(there.redirected[0] > there.copied[0] && there.redirected[1] == 0, "{path}: {there:?}");
        ensure!(rig.splice.faults() == 0, "{path}");
    }
    Ok(())
}
