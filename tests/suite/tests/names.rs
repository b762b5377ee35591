//! Names of nodes: several addresses, addresses that change, IPv6.

use anyhow::Result;
use halephant_harness::port::{Port, has_ipv6};
use halephant_harness::proxy::binary;
use halephant_harness::{Cluster, Login, Proxy, wait_for};
use halephant_suite::{Client, Stage, message, stage};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const NAME: &str = "pg.halephant.test";

/// What a halephant takes for `/etc/hosts`: a file of the test, in a mount namespace of its own.
struct Hosts {
    directory: tempfile::TempDir,
}

impl Hosts {
    fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir()? })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// The addresses that the name has from now on. The file stays the same: it is mounted.
    fn set(&self, addresses: &[&str]) -> Result<()> {
        let lines = addresses.iter().map(|address| format!("{address} {NAME}\n"));
        Ok(std::fs::write(self.path(), lines.collect::<String>())?)
    }

    /// A program that is halephant with this file mounted.
    fn program(&self) -> Result<PathBuf> {
        let own = if nix::unistd::geteuid().is_root() { "" } else { "--map-root-user" };
        let script = format!(
            "#!/bin/sh\nexec unshare --mount {own} sh -c 'mount --bind \"$0\" /etc/hosts && exec \"$@\"' \
             '{}' '{}' \"$@\"\n",
            self.path().display(),
            binary::find()?.display(),
        );
        let path = self.directory.path().join("halephant");
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        Ok(path)
    }
}

/// Passes on what comes to `address`, to `port` of this host, until the test ends.
fn forward(address: SocketAddr, port: u16) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(io::Result::ok) {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                std::thread::spawn(move || {
                    // Either side may be cut at any time.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    Ok(())
}

fn of(proxy: &Proxy, cluster: &Cluster) -> Login {
    proxy.login(cluster.login(stage::ROLE, stage::DATABASE))
}

#[test]
fn every_address_of_a_name_is_tried() {
    if !has_ipv6() {
        eprintln!("this host has no IPv6: left out");
        return;
    }
    let hosts = Hosts::new().expect("there is room");
    // The resolver puts the IPv6 address first, and nobody listens there.
    hosts.set(&["::1", "127.0.0.1"]).expect("there is room");
    let cluster = Cluster::builder()
        .setting("listen_addresses", "127.0.0.1")
        .role(stage::ROLE, stage::PASSWORD)
        .database(stage::DATABASE, stage::ROLE)
        .start()
        .expect("it starts");
    let node = format!("{NAME}:{}", cluster.nodes()[0].port());
    let config = Stage::config(&cluster).set("cluster.main.nodes", vec![node.clone()]);
    let program = hosts.program().expect("there is room");
    let proxy = Proxy::start_binary(&program, &config).expect("it starts");
    let mut client = Client::connect(&of(&proxy, &cluster)).expect("it may log in");
    assert_eq!(client.value("SELECT host(inet_server_addr())").expect("it answers"), "127.0.0.1");
    proxy.wait_for_log(&node, 1, LIMIT).expect("it is called by its name");
}

#[test]
fn a_name_that_leads_elsewhere_is_followed() {
    let port = Port::pick().expect("there is a free one");
    let (one, two) = (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3));
    let hosts = Hosts::new().expect("there is room");
    hosts.set(&[&one.to_string()]).expect("there is room");
    let cluster = Cluster::builder()
        .replicas(1)
        .role(stage::ROLE, stage::PASSWORD)
        .database(stage::DATABASE, stage::ROLE)
        .start()
        .expect("it starts");
    let ports: Vec<u16> = cluster.nodes().iter().map(halephant_harness::Node::port).collect();
    for (address, node) in [one, two].into_iter().zip(&ports) {
        forward((address, port.number()).into(), *node).expect("nobody listens there");
    }
    let config = Stage::config(&cluster)
        .set("cluster.main.nodes", vec![format!("{NAME}:{}", port.number())])
        .set("cluster.main.topology.interval", "200ms");
    let program = hosts.program().expect("there is room");
    let proxy = Proxy::start_binary(&program, &config).expect("it starts");
    let login = of(&proxy, &cluster);
    let mut client = Client::connect(&login).expect("it may log in");
    let mut session = Client::connect(&login.clone().database(stage::SESSION_POOL)).expect("it may log in");
    let place = "SELECT inet_server_port()";
    for client in [&mut client, &mut session] {
        assert_eq!(client.value(place).expect("it answers"), ports[0].to_string());
    }

    cluster.nodes()[1].promote().expect("it is a replica");
    hosts.set(&[&two.to_string()]).expect("there is room");
    let followed = || Ok((client.value(place)? == ports[1].to_string()).then_some(()));
    wait_for("the other node", LIMIT, followed).expect("the name leads there");
    assert_eq!(client.value("SELECT pg_is_in_recovery()").expect("it answers"), "f");
    // A session that keeps its connection is told, and what was opened to the first node is closed.
    let told = session.receive_rest().expect("it is told and closed");
    assert_eq!(message::error(&told).and_then(message::Message::sqlstate).as_deref(), Some("57P01"));
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", stage::ROLE);
    let gone = || Ok((cluster.nodes()[0].query("postgres", &left)? == "0").then_some(()));
    wait_for("the old connections to end", LIMIT, gone).expect("they do");
}

#[test]
fn a_node_may_have_an_ipv6_address() {
    if !has_ipv6() {
        eprintln!("this host has no IPv6: left out");
        return;
    }
    let admin = Port::pick().expect("there is a free one");
    let number = admin.number();
    let cluster = Cluster::builder()
        .role(stage::ROLE, stage::PASSWORD)
        .database(stage::DATABASE, stage::ROLE)
        .start()
        .expect("it starts");
    let node = format!("[::1]:{}", cluster.nodes()[0].port());
    let config = Stage::config(&cluster)
        .set("cluster.main.nodes", vec![node.clone()])
        .set("admin.listen", format!("127.0.0.1:{number}"));
    let proxy = Proxy::start(&config).expect("it starts");
    let mut client = Client::connect(&of(&proxy, &cluster)).expect("it may log in");
    assert_eq!(client.value("SELECT host(inet_server_addr())").expect("it answers"), "::1");
    let nodes = halephant_suite::http::get(number, "/admin/nodes").expect("it answers");
    assert_eq!(nodes.json().expect("JSON")[0]["node"], node);
    // Cancel requests go the same way.
    client.send(&halephant_suite::encode::query("SELECT pg_sleep(60)")).expect("it is open");
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'";
    let asleep = || Ok((cluster.query("postgres", sleeps)? == "1").then_some(()));
    wait_for("the statement to run", LIMIT, asleep).expect("it does");
    client.cancel().expect("the request is read");
    let told = client.receive_until(b'Z').expect("an answer");
    assert_eq!(message::error(&told).and_then(message::Message::sqlstate).as_deref(), Some("57014"));
}
