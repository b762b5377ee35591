//! halephant killed with sessions in the kernel: clients and PostgreSQL see the end of their connections, and no BPF object
//! of the process is left.

use anyhow::{Context, Result, bail, ensure};
use halephant_harness::port::Port;
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, Proxy, ProxyConfig, wait_for};
use halephant_kernel_tests::objects::Objects;
use halephant_suite::client::Silence;
use halephant_suite::http::get;
use halephant_suite::{Client, Stage, encode, message};
use std::io::{ErrorKind, Read};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Messages that the kernel has moved each way, with all clients at work, before the process is killed.
const MESSAGES: u64 = 5000;
/// More than all buffers between PostgreSQL and a client that reads nothing.
const MUCH: &str = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)";

/// What a client does until its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// One short request after the other.
    Exchanges,
    /// One large result after the other.
    Rows,
    /// One COPY to the server after the other.
    CopyIn,
    /// A transaction is open, and nothing is asked.
    Transaction,
    /// A large result is on its way, and is not read. Not on our own sockets: what lies there under a verdict does not count as
    /// unread, so the kernel closes them without a reset, and PostgreSQL learns of it by a probe more than a minute later.
    Unread,
}

const LOADS: [Load; 8] = [
    Load::Exchanges,
    Load::Exchanges,
    Load::Exchanges,
    Load::Rows,
    Load::Rows,
    Load::CopyIn,
    Load::Transaction,
    Load::Unread,
];

impl Load {
    /// Before the others are at work.
    fn prepare(self, client: &mut Client) -> Result<()> {
        match self {
            Self::Exchanges | Self::Rows => {}
            Self::CopyIn => _ = client.query("CREATE TEMP TABLE copied (n int, text text)")?,
            Self::Transaction => _ = client.query("BEGIN; SELECT 1")?,
            Self::Unread => client.send(&encode::query(MUCH))?,
        }
        Ok(())
    }

    /// Whether the answer was right.
    fn step(self, client: &mut Client, number: usize) -> Result<bool> {
        match self {
            Self::Exchanges => Ok(client.value(&format!("SELECT {number}"))? == number.to_string()),
            Self::Rows => {
                let rows = client.values("SELECT repeat('x', 1000) FROM generate_series(1, 300)")?;
                Ok(rows.len() == 300 && rows.iter().all(|row| row.len() == 1000))
            }
            Self::CopyIn => {
                client.send(&encode::query("COPY copied FROM STDIN"))?;
                client.receive_until(b'G')?;
                client.send(&encode::copy_data(format!("{number}\ttext\n").repeat(1000).as_bytes()))?;
                client.send(&encode::copy_done())?;
                Ok(message::error(&client.receive_until(b'Z')?).is_none())
            }
            Self::Transaction | Self::Unread => bail!("there is nothing to ask"),
        }
    }

    /// To the end of the connection, which is to come soon after `killed`.
    fn run(self, mut client: Client, killed: &AtomicBool) -> Result<()> {
        client.set_limit(LIMIT);
        for number in 0.. {
            let error = match self {
                Self::Transaction => client.receive().err().context("it says something unasked")?,
                Self::Unread => {
                    wait_for("the kill", 2 * LIMIT, || Ok(killed.load(Ordering::SeqCst).then_some(())))?;
                    return rest(&client);
                }
                _ => match self.step(&mut client, number) {
                    Ok(true) => continue,
                    Ok(false) => bail!("a wrong answer"),
                    Err(error) => error,
                },
            };
            ensure!(killed.load(Ordering::SeqCst), "it ended too early: {error:#}");
            ensure!(!error.is::<Silence>(), "it hangs: {error:#}");
            return rest(&client);
        }
        Ok(())
    }
}

/// Reads to the end of the stream, or a reset.
fn rest(client: &Client) -> Result<()> {
    let mut socket = client.socket()?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("no end"),
            Ok(_) => {}
        }
    }
}

/// A session with both directions in the kernel.
fn spliced(stage: &Stage) -> Result<Client> {
    let directions = || stage.proxy.log().matches("events: spliced flow=").count();
    let before = directions();
    let mut client = Client::connect(&stage.session())?;
    client.set_limit(LIMIT);
    wait_for("the session to be spliced", LIMIT, || {
        client.value("SELECT 1")?;
        Ok((directions() >= before + 2).then_some(()))
    })?;
    Ok(client)
}

/// Waits until all sessions are on the kernel path and the kernel moves messages of them.
fn wait_until_at_work(admin: u16, sessions: usize) -> Result<()> {
    let of_node = |name: &str| {
        let shown = get(admin, "/admin/splice")?.json()?;
        shown["nodes"][0][name].as_u64().with_context(|| format!("no {name}: {shown:#}"))
    };
    let moved = || anyhow::Ok([of_node("messages_to_server")?, of_node("messages_to_client")?]);
    let before = moved()?;
    wait_for("the kernel to move messages", LIMIT, || {
        let now = moved()?;
        let enough = now.iter().zip(before).all(|(now, before)| *now > before + MESSAGES);
        Ok((enough && of_node("sessions")? == sessions as u64).then_some(()))
    })
}

/// PostgreSQL's processes that somebody is connected to.
fn backends(stage: &Stage) -> Result<String> {
    let sql = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    stage.cluster.query("postgres", sql)
}

/// `program`: the one that the path cannot be without.
fn a_kill_leaves_nothing(path: KernelPath, loads: &[Load], program: &str) -> Result<()> {
    let admin = Port::pick()?;
    let change = |config: ProxyConfig| {
        config.kernel_path(path).set("admin.listen", format!("127.0.0.1:{}", admin.number()))
    };
    let mut stage = Stage::with(Cluster::builder(), change)?;
    let mut clients = Vec::new();
    for load in loads.iter().copied() {
        let mut client = spliced(&stage).with_context(|| format!("{load:?}"))?;
        load.prepare(&mut client).with_context(|| format!("{load:?}"))?;
        clients.push((load, client));
    }
    let killed = AtomicBool::new(false);
    let (objects, backends) = std::thread::scope(|scope| {
        let work = clients.into_iter().map(|(load, client)| {
            let killed = &killed;
            (load, scope.spawn(move || load.run(client, killed)))
        });
        let work: Vec<_> = work.collect();
        let held = wait_until_at_work(admin.number(), loads.len())
            .and_then(|()| Ok((Objects::of(stage.proxy.pid()?)?, backends(&stage)?)));
        killed.store(true, Ordering::SeqCst);
        // In any case, or the clients would go on for ever.
        let status = stage.proxy.kill()?;
        for (load, client) in work {
            client.join().expect("it does not panic").with_context(|| format!("{load:?}"))?;
        }
        ensure!(status.signal() == Some(9), "{status}");
        held
    })?;
    ensure!(backends.split(',').count() >= loads.len(), "backends {backends}");
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({backends})");
    stage.wait_until(&left, "0", LIMIT)?;

    ensure!(objects.programs.values().any(|name| name == program), "{objects:?}");
    ensure!(objects.maps.len() >= 10, "{objects:?}");
    ensure!(objects.links.is_empty() == (path == KernelPath::OwnSocket), "{objects:?}");
    let gone = || Ok(objects.left(Objects::in_kernel()?).is_empty().then_some(()));
    wait_for("programs, maps and links to go", LIMIT, gone)
        .with_context(|| format!("{objects:?}"))
        .with_context(|| format!("left: {:?}", Objects::in_kernel().map(|now| objects.left(now))))?;

    stage.proxy = Proxy::start(&change(Stage::config(&stage.cluster)))?;
    ensure!(spliced(&stage)?.value("SELECT 2")? == "2");
    Ok(())
}

#[test]
fn colocated_sessions_end_and_nothing_is_left() -> Result<()> {
    a_kill_leaves_nothing(KernelPath::Colocated, &LOADS, "enrolled_msg")
}

#[test]
fn sessions_on_our_own_sockets_end_and_nothing_is_left() -> Result<()> {
    a_kill_leaves_nothing(KernelPath::OwnSocket, &LOADS[..LOADS.len() - 1], "own_verdict")
}
