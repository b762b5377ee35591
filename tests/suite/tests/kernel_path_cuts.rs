//! Messages that are cut while the kernel moves them: the kernel has forwarded the first part of one, and userspace has to go
//! on behind it.

use anyhow::{Context, Result, ensure};
use halephant_harness::port::Port;
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, Proxy, ProxyConfig, wait_for};
use halephant_suite::http::get;
use halephant_suite::{Client, Stage, encode, stage};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const BACK: &str = "a direction is back in userspace";
const LOOK: Duration = Duration::from_millis(1);

/// Between halephant and PostgreSQL: passes everything on, and an answer in two parts where it is told to.
#[derive(Clone, Default)]
struct Knife(Arc<Mutex<Cut>>);

#[derive(Default)]
enum Cut {
    #[default]
    None,
    /// The next answer is cut behind so many bytes.
    At(usize),
    /// The first part was passed on.
    Held,
}

impl Knife {
    fn cut(&self) -> MutexGuard<'_, Cut> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: usize) {
        *self.cut() = Cut::At(at);
    }

    fn release(&self) {
        *self.cut() = Cut::None;
    }

    fn wait_until_held(&self) {
        wait_for("an answer to be cut", LIMIT, || Ok(matches!(*self.cut(), Cut::Held).then_some(())))
            .expect("it is");
    }

    /// Passes on what comes to the address it gives, for as long as the test runs.
    fn to(&self, port: u16) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let knife = self.clone();
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let knife = knife.clone();
                // What it fails with, both ends learn.
                std::thread::spawn(move || knife.carry(near, port));
            }
        });
        Ok(address)
    }

    fn carry(&self, mut near: TcpStream, port: u16) -> Result<()> {
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        let read = near.read(&mut buffer)?;
        far.write_all(&buffer[..read])?;
        let user = format!("user\0{}\0", stage::ROLE);
        let is_session = buffer[..read].windows(user.len()).any(|part| part == user.as_bytes());
        let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
        std::thread::spawn(move || {
            let copied = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
            copied
        });
        loop {
            let read = far.read(&mut buffer)?;
            if read == 0 {
                return near.shutdown(std::net::Shutdown::Write).context("already closed");
            }
            let mut rest = &buffer[..read];
            if is_session && let Some((first, second)) = self.parts(rest) {
                near.write_all(first)?;
                *self.cut() = Cut::Held;
                while matches!(*self.cut(), Cut::Held) {
                    std::thread::sleep(LOOK);
                }
                rest = second;
            }
            near.write_all(rest)?;
        }
    }

    fn parts<'b>(&self, answer: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let Cut::At(at) = *self.cut() else { return None };
        answer.split_at_checked(at)
    }
}

/// One session with both directions in the kernel, and what is needed to take them away from it and give them back.
struct Spliced {
    knife: Knife,
    stage: Stage,
    client: Client,
    console: Client,
    /// The port of the admin API.
    admin: Port,
}

impl Spliced {
    fn start(change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Result<Self> {
        let builder = Cluster::builder().role(stage::ROLE, stage::PASSWORD);
        let cluster = builder.database(stage::DATABASE, stage::ROLE).start()?;
        let knife = Knife::default();
        let node = knife.to(cluster.login(stage::ROLE, stage::DATABASE).port)?;
        let config = Stage::config(&cluster)
            .kernel_path(KernelPath::Colocated)
            .set("cluster.main.nodes", vec![node.to_string()])
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
            .set("admin.users", vec![stage::ROLE]);
        let admin = Port::pick()?;
        let config = change(config).set("admin.listen", format!("127.0.0.1:{}", admin.number()));
        let stage = Stage { proxy: Proxy::start(&config)?, cluster };
        let console = Client::connect(&stage.transaction().database("halephant"))?;
        let client = Client::connect(&stage.session())?;
        Ok(Self { knife, stage, client, console, admin })
    }

    fn logged(&self, part: &str) -> usize {
        self.stage.proxy.log().matches(part).count()
    }

    /// Messages that the kernel has moved, to the server and to the client.
    fn moved(&self) -> Result<[u64; 2]> {
        let shown = get(self.admin.number(), "/admin/splice")?.json()?;
        let of = |name: &str| shown["nodes"][0][name].as_u64().context("a number");
        Ok([of("messages_to_server")?, of("messages_to_client")?])
    }

    /// Both directions: a request and its four messages of answer.
    fn wait_until_spliced(&mut self) -> Result<()> {
        wait_for("the session to be spliced", LIMIT, || {
            let before = self.moved()?;
            self.client.value("SELECT 1")?;
            Ok((self.moved()? == [before[0] + 1, before[1] + 4]).then_some(()))
        })
    }

    /// `before` with both directions in the kernel, `behind` with both in userspace.
    fn divide(
        &mut self,
        before: impl FnOnce(&mut Self) -> Result<()>,
        behind: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.wait_until_spliced()?;
        let back = self.logged(BACK);
        before(self)?;
        self.console.query("SPLICE OFF")?;
        self.stage.proxy.wait_for_log(BACK, back + 2, LIMIT)?;
        behind(self)?;
        self.console.query("SPLICE ON")?;
        Ok(())
    }

    fn backend(&mut self) -> Result<String> {
        self.client.value("SELECT pg_backend_pid()")
    }

    /// Bytes that the client was sent, as far as the relay knows.
    fn sent(&self) -> Result<u64> {
        let clients = get(self.admin.number(), "/admin/clients")?.json()?;
        let rows = clients.as_array().context("a list")?;
        let row = rows.iter().find(|row| row["database"] == stage::SESSION_POOL).context("the client")?;
        row["sent_bytes"].as_u64().context("a number")
    }

    /// Takes leave; the next session's server connection has to be the same, and soon.
    fn assert_reusable(self, backend: &str) -> Result<()> {
        self.client.terminate()?;
        let mut next = Client::connect(&self.stage.session())?;
        let found = next.value("SELECT pg_backend_pid()")?;
        ensure!(found == backend, "{found} instead of {backend}\n{}", self.stage.proxy.log_tail());
        Ok(())
    }
}

/// What the client reads does not change with the place where the kernel path was taken away, and nothing is owed for it
/// afterwards.
#[test]
fn an_answer_may_be_taken_back_at_every_byte() -> Result<()> {
    let mut session = Spliced::start(|config| config)?;
    let backend = session.backend()?;
    for sql in ["SELECT 'one'", "COMMIT"] {
        session.client.query("BEGIN")?;
        let expected = session.client.query(sql)?;
        let bytes: usize = expected.iter().map(|message| message.body.len() + 5).sum();
        session.client.query("COMMIT")?;
        for at in 1..bytes {
            session.client.query("BEGIN")?;
            let before = |session: &mut Spliced| {
                session.knife.set(at);
                session.client.send(&encode::query(sql))?;
                session.knife.wait_until_held();
                Ok(())
            };
            let behind = |session: &mut Spliced| {
                session.knife.release();
                let answer = session.client.receive_until(b'Z')?;
                ensure!(answer == expected, "{answer:?}");
                Ok(())
            };
            session.divide(before, behind).with_context(|| format!("{sql} cut behind {at} bytes"))?;
            session.client.query("COMMIT")?;
        }
    }
    session.assert_reusable(&backend)
}

#[test]
fn a_request_may_be_taken_back_at_every_byte() -> Result<()> {
    let mut session = Spliced::start(|config| config)?;
    let backend = session.backend()?;
    let extended = [
        encode::parse("", "SELECT 'two'"),
        encode::bind("", "", &[]),
        encode::describe_portal(""),
        encode::execute("", 0),
        encode::sync(),
    ];
    for request in [encode::query("SELECT 'one'"), extended.concat()] {
        session.client.send(&request)?;
        let expected = session.client.receive_until(b'Z')?;
        for at in 1..request.len() {
            let before = |session: &mut Spliced| session.client.send(&request[..at]);
            let behind = |session: &mut Spliced| {
                session.client.send(&request[at..])?;
                let answer = session.client.receive_until(b'Z')?;
                ensure!(answer == expected, "{answer:?}");
                Ok(())
            };
            session.divide(before, behind).with_context(|| format!("cut behind {at} bytes"))?;
        }
    }
    session.assert_reusable(&backend)
}

/// The relay looks at what the kernel has counted between a ReadyForQuery's header and its status, and behind it.
#[test]
fn an_answer_counts_once_however_it_is_cut() -> Result<()> {
    // Looked at four times as often.
    let mut session =
        Spliced::start(|config| config.set("cluster.main.pool.app_session.query_timeout", "2s"))?;
    let answer = session.client.query("SELECT 'one'")?;
    let bytes: usize = answer.iter().map(|message| message.body.len() + 5).sum();
    let backend = session.backend()?;
    session.wait_until_spliced()?;
    let before = session.sent()?;
    session.knife.set(bytes - 1);
    session.client.send(&encode::query("SELECT 'one'"))?;
    session.knife.wait_until_held();
    wait_for("the relay to look", LIMIT, || Ok((session.sent()? > before).then_some(())))?;
    session.knife.release();
    ensure!(session.client.receive_until(b'Z')? == answer);
    session.assert_reusable(&backend)
}
