//! The PROXY protocol: a load balancer at 127.0.0.2, whose headers count, and everybody else, whose do not.

use anyhow::Result;
use halephant_harness::certificates::{Authority, Subject};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, Login, psql, wait_for};
use halephant_suite::http::get;
use halephant_suite::{Client, Refused, Stage, encode};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(30);
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 6432\r\n";
/// The same in version 2, with a value behind the addresses.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xC0\0\x02\x07\xC6\x33\x64\x01\xDC\x04\x19\x20\x04\0\x01\0";

/// Passes connections on, a header before each one.
struct Balancer {
    port: u16,
    _runtime: Runtime,
}

impl Balancer {
    /// `bytewise`: the header comes in as many segments as it has bytes.
    fn to(proxy: u16, header: &'static [u8], bytewise: bool) -> Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, proxy, header, bytewise));
            }
        });
        Ok(Self { port, _runtime: runtime })
    }

    fn login(&self, stage: &Stage) -> Login {
        Login { host: "127.0.0.1".into(), ..stage.transaction() }.at(self.port)
    }
}

async fn pass_on(mut client: TcpStream, proxy: u16, header: &[u8], bytewise: bool) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((LISTED, 0)))?;
    let mut server = socket.connect(SocketAddr::from(([127, 0, 0, 1], proxy))).await?;
    server.set_nodelay(true)?;
    for part in header.chunks(if bytewise { 1 } else { header.len().max(1) }) {
        server.write_all(part).await?;
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn stage(admin: u16) -> Stage {
    Stage::with(Cluster::builder(), |config| {
        config
            .set("server.proxy_protocol", vec![LISTED.to_string()])
            .set("admin.listen", format!("127.0.0.1:{admin}"))
    })
    .expect("it starts")
}

/// The addresses of all clients.
fn addresses(admin: u16) -> Result<Vec<String>> {
    let clients = get(admin, "/admin/clients")?.json()?;
    let address = |client: &serde_json::Value| client["address"].as_str().map(str::to_owned);
    Ok(clients.as_array().into_iter().flatten().filter_map(address).collect())
}

#[test]
fn the_address_in_the_header_is_the_clients() {
    let admin = Port::pick().expect("there is a free one");
    let stage = stage(admin.number());
    for (header, bytewise) in [(LINE, false), (LINE, true), (BINARY, false), (BINARY, true)] {
        let balancer = Balancer::to(stage.proxy.port(), header, bytewise).expect("it listens");
        let mut client = Client::connect(&balancer.login(&stage)).expect("it logs in");
        assert_eq!(client.value("SELECT 'balanced'").expect("it answers"), "balanced");
        assert_eq!(addresses(admin.number()).expect("it answers"), ["192.0.2.7:56324"]);
        // A CancelRequest comes over a connection of its own, with a header of its own.
        client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is sent");
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sleep(600)%'
            AND pid <> pg_backend_pid()";
        stage.wait_until(asleep, "1", LIMIT).expect("it runs");
        client.cancel().expect("it is read");
        client.receive_until(b'Z').expect("the query ends");
        client.terminate().expect("it ends");
        let gone = || Ok(addresses(admin.number())?.is_empty().then_some(()));
        wait_for("the client to leave the list", LIMIT, gone).expect("it does");
    }
    stage.proxy.wait_for_log("client connected peer=192.0.2.7:56324", 4, LIMIT).expect("the log has it");
}

#[test]
fn a_health_check_is_the_balancers_own() {
    let admin = Port::pick().expect("there is a free one");
    let stage = stage(admin.number());
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let balancer = Balancer::to(stage.proxy.port(), header, false).expect("it listens");
        let _client = Client::connect(&balancer.login(&stage)).expect("it logs in");
        let addresses = addresses(admin.number()).expect("it answers");
        assert!(addresses.iter().all(|address| address.starts_with("127.0.0.2:")), "{addresses:?}");
    }
}

#[test]
fn headers_are_needed_from_listed_peers_and_refused_from_others() {
    let admin = Port::pick().expect("there is a free one");
    let stage = stage(admin.number());
    let bare = Balancer::to(stage.proxy.port(), b"", false).expect("it listens");
    let refused = Client::connect(&bare.login(&stage)).expect_err("there is no header");
    let refused = refused.downcast_ref::<Refused>().expect("it is told why");
    assert_eq!(refused.sqlstate(), "08P01", "{refused}");
    assert!(refused.text().contains("PROXY protocol header"), "{refused}");

    for header in [LINE, BINARY] {
        let mut client = Client::open(&stage.transaction()).expect("it connects");
        client.send(header).expect("it is read");
        let messages = client.receive_rest().expect("it is told, and that is all");
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(messages[0].sqlstate().as_deref(), Some("08P01"));
    }
    for header in [
        &b"PROXY TCP4 192.0.2.7\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF",
        b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0",
    ] {
        let balancer = Balancer::to(stage.proxy.port(), header, false).expect("it listens");
        Client::connect(&balancer.login(&stage)).expect_err("nothing is known of the client");
    }
    stage.proxy.wait_for_log("does not tell the client's address", 1, LIMIT).expect("it says why");
    let mut client = stage.client().expect("others are not asked for a header");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
}

#[test]
fn tls_comes_behind_the_header() {
    let directory = tempfile::tempdir().expect("there is room");
    let authority = Authority::new("root").expect("it is made");
    let identity = authority.issue(&Subject::new("localhost", &["localhost"])).expect("it is made");
    identity.write(directory.path(), "server").expect("there is room");
    let file = |name: &str| directory.path().join(name).to_str().expect("it is text").to_owned();
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("server.proxy_protocol", vec![format!("{LISTED}/32")])
            .set("server.tls.mode", "require")
            .set("server.tls.certificate", file("server.crt"))
            .set("server.tls.key", file("server.key"))
    })
    .expect("it starts");
    let balancer = Balancer::to(stage.proxy.port(), BINARY, true).expect("it listens");
    let mut psql = psql::command(stage.cluster.binaries(), &balancer.login(&stage)).expect("it is there");
    psql.env("PGSSLMODE", "require").args(["--tuples-only", "--no-align", "--command", "SELECT 'encrypted'"]);
    let output = halephant_harness::command::succeed(&mut psql, LIMIT).expect("it succeeds");
    assert_eq!(output.trim(), "encrypted");
}
