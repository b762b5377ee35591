//! Tests of whole sessions: a client's socket on one side, a server's on the other, both held by the test.

mod begin;

use super::*;
use crate::cancel::{ClientDetails, Sessions};
use crate::net::{NodeAddress, Origin};
use crate::pool::settings::{ListenMode, PinMode, PoolSettings, RoleLimits, UserSettings};
use crate::prepared::{ClientStatements, Store};
use crate::relay::Clock;
use crate::server::fake::Handed;
use crate::server::parameters::{ReportedParameters, SessionParameters};
use crate::splice::NodeSet;
use crate::topology::settings::TopologySettings;
use crate::topology::{Cluster, NodeIndex};
use crate::wire::Stream;
use crate::wire::fake::socket_pair;
use crate::worker::Workers;
use bytes::BytesMut;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

/// Far longer than anything takes.
const LIMIT: Duration = Duration::from_secs(30);

const IDLE: &[u8] = b"Z\0\0\0\x05I";
const IN_TRANSACTION: &[u8] = b"Z\0\0\0\x05T";
const COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";

struct Stage {
    pool: Arc<Pool>,
    sessions: Arc<Sessions>,
    servers: UnboundedReceiver<TcpStream>,
}

/// A client's end of its session.
struct Peer {
    socket: TcpStream,
    session: JoinHandle<SessionEnd>,
    process_id: u32,
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// Nothing has come but what was read.
async fn expect_nothing(socket: &mut TcpStream) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let more = socket.try_read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(more, Err(std::io::ErrorKind::WouldBlock));
}

async fn expect(socket: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    let read = tokio::time::timeout(LIMIT, socket.read_exact(&mut found)).await.expect("in time");
    read.expect("the stream goes on");
    assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, socket.read_to_end(&mut rest)).await.expect("in time").expect("an end");
    rest
}

async fn send(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).await.expect("the other side reads");
}

impl Stage {
    fn new(mode: PoolMode) -> Self {
        Self::changed(mode, |_| {})
    }

    fn changed(mode: PoolMode, change: impl FnOnce(&mut PoolSettings)) -> Self {
        let user = UserSettings {
            name: "u".into(),
            alias: None,
            max_connections: None,
            min_connections: RoleLimits::default(),
            max_client_connections: 0,
            parameters: Default::default(),
        };
        let mut settings = PoolSettings {
            name: "p".into(),
            database: "d".into(),
            mode,
            listen_mode: ListenMode::Pin,
            pin: PinMode::Allow,
            max_connections: RoleLimits { primary: 1, replica: 0 },
            idle_timeout: LIMIT,
            max_lifetime: LIMIT,
            checkout_timeout: LIMIT,
            client_login_timeout: LIMIT,
            client_timeouts: Default::default(),
            defer_begin: false,
            max_client_connections: 0,
            users: vec![user],
        };
        change(&mut settings);
        let node = NodeAddress { host: "node".into(), port: 1 };
        let topology = TopologySettings { interval: LIMIT, timeout: LIMIT };
        let cluster = Arc::new(Cluster::new("c".into(), [node], topology));
        cluster.observe(NodeIndex(0), Some(Role::Primary));
        let (sender, servers) = unbounded_channel();
        let workers = Workers::new(vec![tokio::runtime::Handle::current()]);
        let pool = Pool::new(settings, cluster, Arc::new(Handed(sender)), workers);
        Self { pool, sessions: Arc::default(), servers }
    }

    async fn client(&self, wanted: &[(&str, &str)]) -> Peer {
        let (ours, socket) = socket_pair().await;
        let details = ClientDetails {
            origin: Arc::new(Origin::tcp(SocketAddr::from(([127, 0, 0, 1], 1)))),
            user: "u".into(),
            database: "p".into(),
            cluster: "c".into(),
            application_name: String::new(),
            role: Some(Role::Primary),
        };
        let registration = self.sessions.register(false, details).expect("random bytes");
        let process_id = registration.process_id();
        let mut known = ReportedParameters::default();
        assert!(known.set("client_encoding", "UTF8") && known.set("TimeZone", "UTC"));
        let wanted: SessionParameters = wanted.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        let client = Client {
            trace: None,
            spliced_nodes: NodeSet::default(),
            clock: Clock::new(self.pool.settings().client_timeouts),
            listening: None,
            stream: Stream::Tcp(ours),
            held: BytesMut::new(),
            out: BytesMut::new(),
            body_left: 0,
            statements: ClientStatements::new(Store::new(0)),
            read_under: SessionParameters::default(),
            known,
            startup: wanted.clone(),
            wanted,
        };
        let user = self.pool.user("u").expect("it is configured");
        let session = Session::new(client, registration, Arc::clone(&self.pool), user, Role::Primary, None);
        Peer { socket, session: tokio::spawn(session.run(None)), process_id }
    }

    async fn server(&mut self) -> TcpStream {
        tokio::time::timeout(LIMIT, self.servers.recv()).await.expect("in time").expect("the pool opens one")
    }
}

impl Peer {
    async fn end(self) -> SessionEnd {
        tokio::time::timeout(LIMIT, self.session).await.expect("in time").expect("no panic")
    }
}

/// It was looked at again and again, and its rest never read.
#[tokio::test]
async fn a_statement_that_comes_byte_by_byte_goes_through() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    let sent = [query("SELECT 'one'"), message(b'P', b"\0SELECT 2\0\0\0"), message(b'S', b"")].concat();
    for &byte in &sent {
        send(&mut client.socket, &[byte]).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    let mut server = stage.server().await;
    expect(&mut server, &sent).await;
    for &byte in [COMPLETE, IDLE, b"1\0\0\0\x04", IDLE].concat().iter() {
        send(&mut server, &[byte]).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    expect(&mut client.socket, &[COMPLETE, IDLE, b"1\0\0\0\x04", IDLE].concat()).await;
    send(&mut client.socket, b"X\0\0\0\x04").await;
    assert_eq!(client.end().await, SessionEnd::Terminated);
}

/// In one read with the end of the transaction, it was taken for the answer to the client's next statement.
#[tokio::test]
async fn what_a_server_says_behind_a_transaction_is_for_nobody() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    send(&mut client.socket, &query("SELECT 1")).await;
    let mut first = stage.server().await;
    expect(&mut first, &query("SELECT 1")).await;
    let last_words = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    send(&mut first, &[COMPLETE, IDLE, &last_words].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
    drop(first);
    send(&mut client.socket, &query("SELECT 2")).await;
    let mut second = stage.server().await;
    expect(&mut second, &query("SELECT 2")).await;
    send(&mut second, &[COMPLETE, IDLE].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
    send(&mut client.socket, b"X\0\0\0\x04").await;
    assert_eq!(client.end().await, SessionEnd::Terminated);
}

#[tokio::test]
async fn a_statement_of_many_reads_goes_through() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    let sent = query(&format!("SELECT '{}'", "x".repeat(900_000)));
    let (mut reads, mut writes) = client.socket.split();
    let mut server = None;
    let serve = async {
        let mut socket = stage.server().await;
        expect(&mut socket, &sent).await;
        send(&mut socket, &[COMPLETE, IDLE].concat()).await;
        server = Some(socket);
    };
    let (sending, ()) = tokio::join!(writes.write_all(&sent), serve);
    sending.expect("it is read");
    let mut answer = vec![0; COMPLETE.len() + IDLE.len()];
    reads.read_exact(&mut answer).await.expect("the answer");
    assert_eq!(answer, [COMPLETE, IDLE].concat());
}

#[tokio::test]
async fn nothing_is_said_in_the_middle_of_an_answer() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    send(&mut client.socket, &query("SELECT 1")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("SELECT 1")).await;
    let half = &message(b'D', &[7; 100])[..50];
    send(&mut server, half).await;
    expect(&mut client.socket, half).await;
    drop(server);
    assert_eq!(rest(&mut client.socket).await, b"");
    assert_eq!(client.end().await, SessionEnd::ServerClosed);
}

#[tokio::test]
async fn a_server_that_goes_is_reported_between_answers() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    send(&mut client.socket, &query("SELECT 1")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("SELECT 1")).await;
    send(&mut server, COMPLETE).await;
    expect(&mut client.socket, COMPLETE).await;
    drop(server);
    let told = rest(&mut client.socket).await.escape_ascii().to_string();
    assert!(told.starts_with('E') && told.contains("C08006"), "{told}");
}

#[tokio::test]
async fn a_statement_waits_until_its_parameters_are_set() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[("work_mem", "1MB")]).await;
    // What it sets could not be told from what was set for it.
    send(&mut client.socket, &query("SET DateStyle = German")).await;
    let mut server = stage.server().await;
    // Up to its Sync, and nothing behind it.
    let mut found = Vec::new();
    while !found.ends_with(b"S\0\0\0\x04") {
        found.push(server.read_u8().await.expect("our own statement"));
    }
    assert!(found.starts_with(b"P"));
    expect_nothing(&mut server).await;
    send(&mut server, &message(b'E', b"SERROR\0VERROR\0C22023\0Mno\0\0")).await;
    let told = rest(&mut client.socket).await.escape_ascii().to_string();
    assert!(told.contains("C22023"), "{told}");
    // It leaves without having been sent the statement.
    send(&mut server, IDLE).await;
    assert_eq!(rest(&mut server).await, b"X\0\0\0\x04");
}

/// What is set for a client whose startup packet asks for it, as it goes with the first statement.
fn joined() -> Vec<u8> {
    let mut out = BytesMut::new();
    let commands = crate::server::apply::encode_joined(&[("work_mem", "1MB")], &[], false, &mut out)
        .expect("it is short");
    assert_eq!(commands, 4);
    out.to_vec()
}

/// Its answers.
fn joined_answers() -> Vec<u8> {
    let tags: [&[u8]; 3] = [b"BEGIN\0", b"SELECT 1\0", b"COMMIT\0"];
    let answer = |tag: &[u8]| [message(b'1', b""), message(b'2', b""), message(b'C', tag)].concat();
    [tags.map(answer).concat(), message(b'3', b"")].concat()
}

/// One round trip: the server gets the statement before it has answered anything.
#[tokio::test]
async fn parameters_and_the_first_statement_take_one_round_trip() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[("work_mem", "1MB")]).await;
    // The second statement would not be skipped if the parameters were refused.
    send(&mut client.socket, &[query("SELECT 1"), query("SELECT 2")].concat()).await;
    let mut server = stage.server().await;
    expect(&mut server, &joined()).await;
    expect(&mut server, &query("SELECT 1")).await;
    expect_nothing(&mut server).await;
    send(&mut server, &joined_answers()).await;
    expect(&mut server, &query("SELECT 2")).await;
    send(&mut server, &[COMPLETE, IDLE, COMPLETE, IDLE].concat()).await;
    // Nothing of ours is for the client.
    expect(&mut client.socket, &[COMPLETE, IDLE, COMPLETE, IDLE].concat()).await;
    // The connection has them now.
    send(&mut client.socket, &query("SELECT 3")).await;
    expect(&mut server, &query("SELECT 3")).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IDLE].concat()).await;
    send(&mut client.socket, b"X\0\0\0\x04").await;
    assert_eq!(client.end().await, SessionEnd::Terminated);
}

/// PostgreSQL skips the statement then: the client is told why, and the connection is closed.
#[tokio::test]
async fn parameters_that_are_refused_take_the_first_statement_with_them() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[("work_mem", "1MB")]).await;
    send(&mut client.socket, &query("SELECT 1")).await;
    let mut server = stage.server().await;
    expect(&mut server, &joined()).await;
    expect(&mut server, &query("SELECT 1")).await;
    send(&mut server, &message(b'E', b"SERROR\0VERROR\0C22023\0Mno\0\0")).await;
    let told = rest(&mut client.socket).await.escape_ascii().to_string();
    assert!(told.contains("SFATAL") && told.contains("C22023"), "{told}");
    assert_eq!(client.end().await, SessionEnd::Rejected);
}

#[tokio::test]
async fn a_connection_is_reset_when_its_client_left_statements_unanswered() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    send(&mut client.socket, &query("SET TimeZone = 'X'")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("SET TimeZone = 'X'")).await;
    // Reset, not closed: no half-closed client that may still read.
    socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(client.socket);
    let end = tokio::time::timeout(LIMIT, client.session).await.expect("in time").expect("no panic");
    assert_eq!(end, SessionEnd::ClientClosed);
    let status = message(b'S', b"TimeZone\0X\0");
    send(&mut server, &[&status, COMPLETE, IDLE].concat()).await;
    for reset in ["SET statement_timeout TO 0", "DISCARD ALL"] {
        expect(&mut server, &query(reset)).await;
        send(&mut server, &[COMPLETE, IDLE].concat()).await;
    }
    // The next client is told what the server said last.
    let mut next = stage.client(&[]).await;
    send(&mut next.socket, &query("SELECT 1")).await;
    expect(&mut server, &query("SELECT 1")).await;
    expect(&mut next.socket, &status).await;
}

/// Its transaction is not committed by a Sync of ours.
#[tokio::test]
async fn a_connection_is_closed_when_its_client_left_without_sync() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    let batch = message(b'P', b"\0SELECT 1\0\0\0");
    send(&mut client.socket, &[&batch, &b"X\0\0\0\x04"[..]].concat()).await;
    let mut server = stage.server().await;
    expect(&mut server, &batch).await;
    assert_eq!(rest(&mut server).await, b"X\0\0\0\x04");
    assert_eq!(client.end().await, SessionEnd::Terminated);
}

#[tokio::test]
async fn a_session_between_transactions_ends_when_it_is_drained_and_one_within_when_it_is_through() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let (mut idle, mut busy) = (stage.client(&[]).await, stage.client(&[]).await);
    send(&mut busy.socket, &query("BEGIN")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("BEGIN")).await;
    send(&mut server, &[COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut busy.socket, &[COMPLETE, IN_TRANSACTION].concat()).await;
    stage.sessions.signal_all(Signal::Drain);
    let told = rest(&mut idle.socket).await.escape_ascii().to_string();
    assert!(told.contains("C57P01"), "{told}");
    send(&mut busy.socket, &query("COMMIT")).await;
    expect(&mut server, &query("COMMIT")).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    let told = rest(&mut busy.socket).await;
    assert!(told.starts_with(&[COMPLETE, IDLE].concat()));
    assert!(told.escape_ascii().to_string().contains("C57P01"));
    // One that logs in now is told, too.
    let mut late = stage.client(&[]).await;
    assert!(rest(&mut late.socket).await.escape_ascii().to_string().contains("C57P01"));
}

#[tokio::test]
async fn a_session_within_a_transaction_ends_when_it_is_stopped() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    send(&mut client.socket, &query("BEGIN")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("BEGIN")).await;
    send(&mut server, &[COMPLETE, IN_TRANSACTION].concat()).await;
    expect(&mut client.socket, &[COMPLETE, IN_TRANSACTION].concat()).await;
    stage.sessions.signal_all(Signal::Stop);
    assert!(rest(&mut client.socket).await.escape_ascii().to_string().contains("C57P01"));
    expect(&mut server, &query("ROLLBACK")).await;
}

#[tokio::test]
async fn a_wait_is_cancelled_and_the_session_goes_on() {
    let mut stage = Stage::new(PoolMode::Transaction);
    let (mut first, mut second) = (stage.client(&[]).await, stage.client(&[]).await);
    send(&mut first.socket, &query("SELECT 1")).await;
    let mut server = stage.server().await;
    expect(&mut server, &query("SELECT 1")).await;
    send(&mut second.socket, &query("SELECT 2")).await;
    let deadline = std::time::Instant::now() + LIMIT;
    let user = stage.pool.user("u").expect("it is configured");
    while stage.pool.queue(user, Role::Primary).0 == 0 {
        assert!(std::time::Instant::now() < deadline, "it does not wait");
        tokio::task::yield_now().await;
    }
    stage.sessions.find(second.process_id).expect("it is registered").signal(Signal::Cancel);
    let report = ErrorReport::error(SqlState::QUERY_CANCELED, "canceling statement due to user request");
    let mut expected = BytesMut::new();
    report.encode_error(&mut expected);
    expected.extend_from_slice(IDLE);
    expect(&mut second.socket, &expected).await;
    send(&mut server, &[COMPLETE, IDLE].concat()).await;
    send(&mut second.socket, &query("SELECT 3")).await;
    expect(&mut server, &query("SELECT 3")).await;
}

#[tokio::test]
async fn without_a_server_a_sync_is_answered_and_a_wrong_message_refused() {
    let stage = Stage::new(PoolMode::Transaction);
    let mut client = stage.client(&[]).await;
    let stray = [message(b'd', &[1; 100]), message(b'c', b""), message(b'H', b"")].concat();
    send(&mut client.socket, &[&stray, &b"S\0\0\0\x04"[..], b"S\0\0\0\x04"].concat()).await;
    expect(&mut client.socket, &[IDLE, IDLE].concat()).await;
    send(&mut client.socket, b"?\0\0\0\x04").await;
    assert!(rest(&mut client.socket).await.escape_ascii().to_string().contains("C08P01"));
    assert_eq!(client.end().await, SessionEnd::ClientViolation);
    assert_eq!(stage.pool.connections(), 0);
}

/// Thousands of clients are idle: what each costs is its task.
#[test]
fn a_session_is_small() {
    fn bytes<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let bytes = bytes(Session::run);
    assert!(bytes <= 3072, "{bytes} bytes");
}
