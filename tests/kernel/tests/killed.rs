//! What a process that is killed under load leaves behind: nothing, and clients that see the end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use halephant::splice::settings::SpliceMode;
use halephant::splice::{Path, Sockets, Splice};
use halephant_kernel_tests::messages::{query, ready};
use halephant_kernel_tests::objects::Objects;
use halephant_kernel_tests::relay::relay;
use halephant_kernel_tests::rig::{CREDIT_BYTES, DEADLINE, settings};
use tokio::net::TcpSocket;

/// Set for the process that is killed: where its servers are.
const SERVER: &str = "HALEPHANT_KERNEL_TEST_SERVER";
/// Of each session, before the process is killed.
const EXCHANGES: u64 = 500;

/// Not a test of its own: the process that the next test kills. Relays one session on each path, in the order of
/// [`Path::ALL`].
#[test]
fn relay_until_killed() -> Result<()> {
    let Some(server) = std::env::var_os(SERVER) else { return Ok(()) };
    let server: SocketAddr = server.to_str().context("an address")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bind = || tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (near, far) = (bind().await?, bind().await?);
        let (near_port, far_port) = (near.local_addr()?.port(), far.local_addr()?.port());
        let settings = settings(SpliceMode::Require, CREDIT_BYTES);
        let splice = tokio::task::spawn_blocking(move || Splice::start(&settings, &[near_port])).await??;
        let splice = splice.context("the kernel path is off")?;
        println!("\nlistening {near_port} {far_port}");
        for path in Path::ALL {
            let listener = if matches!(path, Path::ClientLocal | Path::Colocated) { &near } else { &far };
            let (accepted, _) = listener.accept().await?;
            let socket = TcpSocket::new_v4()?;
            if matches!(path, Path::ServerLocal | Path::Colocated) {
                splice.before_connect(socket.as_fd());
            }
            let dialled = socket.connect(server).await?;
            let flow = splice.insert(Sockets { client: accepted.as_fd(), server: dialled.as_fd() }, 0)?;
            ensure!(flow.path() == path, "the path is {}", flow.path());
            tokio::spawn(async move { relay(flow, &accepted, &dialled).await });
        }
        let deadline = Instant::now() + DEADLINE;
        while splice.counters(0).arms < 2 * Path::ALL.len() as u64 {
            ensure!(Instant::now() < deadline, "the sessions are not spliced");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("\nspliced");
        std::future::pending().await
    })
}

/// A session's two ends, at work until theirs is gone.
struct Load {
    exchanges: Arc<AtomicU64>,
    client: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl Load {
    fn start(mut client: TcpStream, mut server: TcpStream) -> Self {
        let exchanges = Arc::new(AtomicU64::new(0));
        let (request, answer) = (query(b"select 1\0"), ready(b'I'));
        let (question, reply, done) = (request.clone(), answer.clone(), Arc::clone(&exchanges));
        let client = thread::spawn(move || {
            let mut bytes = vec![0; reply.len()];
            while client.write_all(&request).is_ok() && client.read_exact(&mut bytes).is_ok() {
                done.fetch_add(1, Ordering::AcqRel);
            }
        });
        let server = thread::spawn(move || {
            let mut bytes = vec![0; question.len()];
            while server.read_exact(&mut bytes).is_ok() && server.write_all(&answer).is_ok() {}
        });
        Self { exchanges, client, server }
    }

    fn has_ended(&self) -> bool {
        self.client.is_finished() && self.server.is_finished()
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[test]
fn a_process_killed_under_load_leaves_nothing_behind() -> Result<()> {
    let servers = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "relay_until_killed", "--nocapture"])
        .env(SERVER, servers.local_addr()?.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    let mut said = |beginning: &str| {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            ensure!(output.read_line(&mut line)? > 0, "the process ended by itself");
        }
        anyhow::Ok(line)
    };
    let listening = said("listening")?;
    let ports: Vec<u16> = listening.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    let mut loads = Vec::new();
    servers.set_nonblocking(true)?;
    for path in Path::ALL {
        let near = matches!(path, Path::ClientLocal | Path::Colocated);
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[usize::from(!near)]))?;
        let mut server = None;
        wait_for("the process dials no server", || {
            ensure!(child.try_wait()?.is_none(), "the process ended by itself");
            server = servers.accept().ok();
            Ok(server.is_some())
        })?;
        let (server, _) = server.context("no server")?;
        server.set_nonblocking(false)?;
        loads.push(Load::start(client, server));
    }
    said("spliced")?;
    wait_for("the sessions stand still", || {
        Ok(loads.iter().all(|load| load.exchanges.load(Ordering::Acquire) >= EXCHANGES))
    })?;
    let owned = Objects::of(child.id())?;
    ensure!(owned.programs.len() >= 4 && owned.maps.len() >= 10 && !owned.links.is_empty(), "{owned:?}");
    child.kill()?;
    child.wait()?;
    wait_for("a client or a server does not see the end", || Ok(loads.iter().all(Load::has_ended)))?;
    wait_for("programs, maps or links are left behind", || Ok(owned.left(Objects::in_kernel()?).is_empty()))?;
    // Another process can have all of it again.
    Splice::start(&settings(SpliceMode::Require, CREDIT_BYTES), &[])?.context("the kernel path is off")?;
    output.read_to_string(&mut String::new())?;
    Ok(())
}
