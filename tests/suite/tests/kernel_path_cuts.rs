//! Messages that are cut while the kernel moves them: the kernel has forwarded the first part of one, and userspace has to go
//! on behind it.

use anyhow::{Context, Result, ensure};
use halephant_harness::port::Port;
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, ProxyConfig, wait_for};
use halephant_suite::http::get;
use halephant_suite::midway::Midway;
use halephant_suite::{Client, Stage, encode, stage};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const BACK: &str = "a direction is back in userspace";

/// One session with both directions in the kernel, and what is needed to take them away from it and give them back.
struct Spliced {
    midway: Midway,
    stage: Stage,
    client: Client,
    console: Client,
    /// The port of the admin API.
    admin: Port,
}

impl Spliced {
    fn start(change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Result<Self> {
        let admin = Port::pick()?;
        let (midway, stage) = Midway::stage(Cluster::builder(), |config| {
            let config = config
                .kernel_path(KernelPath::Colocated)
                .set("cluster.main.pool.app_session.max_connections.primary", 1)
                .set("admin.users", vec![stage::ROLE]);
            change(config).set("admin.listen", format!("127.0.0.1:{}", admin.number()))
        })?;
        let console = Client::connect(&stage.transaction().database("halephant"))?;
        let client = Client::connect(&stage.session())?;
        Ok(Self { midway, stage, client, console, admin })
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
                session.midway.cut(at);
                session.client.send(&encode::query(sql))?;
                session.midway.wait_until_held()
            };
            let behind = |session: &mut Spliced| {
                session.midway.release();
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

/// Nor does it with the place in the request.
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
    session.midway.cut(bytes - 1);
    session.client.send(&encode::query("SELECT 'one'"))?;
    session.midway.wait_until_held()?;
    wait_for("the relay to look", LIMIT, || Ok((session.sent()? > before).then_some(())))?;
    session.midway.release();
    ensure!(session.client.receive_until(b'Z')? == answer);
    session.assert_reusable(&backend)
}
