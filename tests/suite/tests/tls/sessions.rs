//! Sessions over TLS do what they do in the clear.

use super::pki::{self, LIMIT, Pki, reload, with_clients, with_servers};
use halephant_harness::certificates::write;
use halephant_harness::{Cluster, Login, psql};
use halephant_suite::message::{error, values};
use halephant_suite::script::{Cut, Transcript};
use halephant_suite::tunnel::{Ask, Tunnel};
use halephant_suite::{Client, Stage, encode, scripts};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;

/// The same login, through the tunnel.
fn through(tunnel: &Tunnel, login: Login) -> Login {
    Login { host: "127.0.0.1".into(), ..login }.at(tunnel.port())
}

/// Whether the server connection of a session is encrypted.
const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn every_script_gives_what_it_gives_in_the_clear() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let direct = stage.direct();
    psql::query(stage.cluster.binaries(), &direct, scripts::SCHEMA).expect("the schema is right");
    let mut owner = Client::connect(&direct).expect("the owner may log in");
    owner.query("SET lock_timeout = '5s'").expect("it may be set");
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let mut failures = Vec::new();
    let major = stage.cluster.binaries().version.major;
    for script in scripts::all().into_iter().filter(|script| script.is_for(major)) {
        let mut play = |login: &Login, cut| {
            let played = script.play(login, cut, &mut owner);
            owner.values(scripts::RESET).expect("nothing is left in the way");
            played.unwrap_or_else(|error| panic!("{}: {error:#}", script.name))
        };
        let expected: Transcript = play(&direct, Cut::Whole);
        let session = through(&tunnel, stage.session());
        let mut logins = vec![session];
        if !script.session_only {
            logins.push(through(&tunnel, stage.transaction()));
        }
        for (login, cut) in logins.iter().flat_map(|login| [(login, Cut::Whole), (login, Cut::Bytes)]) {
            let difference = expected.difference(&play(login, cut));
            failures
                .extend(difference.map(|text| format!("{} {} {cut:?}: {text}", script.name, login.database)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let mut client = Client::connect(&through(&tunnel, stage.session())).expect("it may log in");
    assert_eq!(client.value(IS_ENCRYPTED).expect("it answers"), "t");
}

#[test]
fn large_results_and_large_statements_go_through() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let mut client = Client::connect(&through(&tunnel, stage.transaction())).expect("it may log in");
    let rows = client.values("SELECT repeat(n::text, 1000) FROM generate_series(1, 20000) n");
    let bytes: usize = rows.expect("it answers").iter().map(String::len).sum();
    let digits: usize = (1..=20_000_usize).map(|n| n.to_string().len()).sum();
    assert_eq!(bytes, digits * 1000);
    let length = 30_000_000;
    let sql = format!("SELECT length('{}')", "x".repeat(length));
    assert_eq!(client.value(&sql).expect("it answers"), length.to_string());
}

/// A client that reads nothing for a while holds back its sender, and gets everything afterwards.
#[test]
fn a_slow_reader_gets_everything() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let mut slow = Client::connect(&through(&tunnel, stage.session())).expect("it may log in");
    slow.send(&encode::query("SELECT repeat('x', 1000) FROM generate_series(1, 50000)")).expect("it is read");
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    stage.wait_until(stuck, "1", LIMIT).expect("its buffers fill up");
    let answer = slow.receive_until(b'Z').expect("it goes on");
    assert_eq!(values(&answer).len(), 50_000);
    assert_eq!(slow.value("SELECT 1").expect("it goes on"), "1");
}

/// close_notify of a client is the end of what it sends, and not of what it gets.
#[test]
fn a_half_closed_client_gets_its_answer() {
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let mut client = Client::connect(&through(&tunnel, stage.session())).expect("it may log in");
    client.send(&encode::query("SELECT 'answer' FROM pg_sleep(0.2)")).expect("it is read");
    client.socket().expect("it is open").shutdown(Shutdown::Write).expect("it is connected");
    let answer = client.receive_rest().expect("an end");
    assert!(values(&answer).iter().any(|value| value.contains("answer")), "{answer:?}");
}

/// What passes between the proxy and a server: the first bytes of each connection.
fn recorder(to: u16) -> (u16, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (sender, first) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut client = client;
                let mut server = TcpStream::connect(("127.0.0.1", to))?;
                let mut bytes = vec![0; 8];
                client.read_exact(&mut bytes)?;
                server.write_all(&bytes)?;
                // Nobody may be interested any more.
                let _ = sender.send(bytes);
                let (mut from, mut into) = (client.try_clone()?, server.try_clone()?);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Write);
                });
                std::io::copy(&mut server, &mut client)?;
                client.shutdown(Shutdown::Write)
            });
        }
    });
    (port, first)
}

#[test]
fn cancels_go_over_tls_on_both_legs() {
    let pki = Pki::new();
    let identity = pki.server();
    let files = pki.put("server", &identity);
    let cluster = pki::cluster(Cluster::builder().tls(&identity));
    let (port, first) = recorder(cluster.primary().port());
    let config = with_clients(Stage::config(&cluster), "require", &files)
        .set("cluster.main.nodes", vec![format!("127.0.0.1:{port}")]);
    let config = with_servers(config, "verify-full", Some(pki.path().join("root.crt")));
    let proxy = halephant_harness::Proxy::start(&config).expect("it starts");
    let stage = Stage { proxy, cluster };
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let mut client = Client::connect(&through(&tunnel, stage.transaction())).expect("it may log in");
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is read");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND state = 'active' AND pid <> pg_backend_pid()";
    stage.wait_until(running, "1", LIMIT).expect("it runs");
    client.cancel().expect("the request is read");
    let answer = client.receive_until(b'Z').expect("the query ends");
    assert_eq!(error(&answer).and_then(|error| error.sqlstate()).as_deref(), Some("57014"));
    let seen: Vec<_> = first.try_iter().collect();
    assert!(seen.len() >= 3, "a login, a probe and a cancel: {seen:?}");
    assert!(seen.iter().all(|bytes| *bytes == encode::ssl_request()), "{seen:?}");
}

/// Handshakes go on while certificates are replaced, and open sessions do not notice.
#[test]
fn certificates_are_replaced_under_load() {
    let pki = Pki::new();
    let stage = pki::stage(&pki, Cluster::builder());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let login = through(&tunnel, stage.transaction());
    let mut early = Client::connect(&login).expect("it may log in");
    let files = pki.put("server", &pki.server());
    let config = |mode| {
        let config = with_clients(Stage::config(&stage.cluster), mode, &files);
        with_servers(config, "verify-full", Some(pki.path().join("root.crt")))
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let logins = std::thread::scope(|scope| {
        let load = || {
            let mut logins = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut client = Client::connect(&login).expect("it may log in at any time");
                assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
                logins += 1;
            }
            logins
        };
        let load: Vec<_> = (0..2).map(|_| scope.spawn(load)).collect();
        for round in 0..10 {
            pki.put("server", &pki.server());
            assert!(reload(&stage, &config("prefer")));
            assert_eq!(early.value(&format!("SELECT {round}")).expect("it goes on"), round.to_string());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.into_iter().map(|load| load.join().expect("no login failed")).sum::<usize>()
    });
    assert!(logins > 0);
    // A key that does not belong to the certificate changes nothing.
    let before = peer_certificate(stage.proxy.port(), "localhost");
    write(&files.key, &pki.server().key).expect("it is ours");
    assert!(!reload(&stage, &config("prefer")));
    assert_eq!(peer_certificate(stage.proxy.port(), "localhost"), before);
    assert!(stage.proxy.log().contains("is not the key of the certificate"));
    pki.put("server", &pki.server());
    assert!(reload(&stage, &config("require")));
    assert_ne!(peer_certificate(stage.proxy.port(), "localhost"), before);
    assert_eq!(early.value("SELECT 'still here'").expect("it goes on"), "still here");
    assert!(Client::connect(&stage.transaction()).is_err(), "in the clear, which is over now");
}

/// What a client that asks for `host` is shown.
pub fn peer_certificate(port: u16, host: &str) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let stream = halephant_suite::tunnel::connect(port, host, Ask::Request).await.expect("a handshake");
        let (_, state) = stream.get_ref();
        state.peer_certificates().expect("a server has one")[0].to_vec()
    })
}

/// An idle client owns no buffers: what it costs is the state of its connection. Shown rather than promised to the byte.
#[test]
fn an_idle_client_is_small() {
    const CLIENTS: usize = 800;
    // 22 to 30 KB were seen, as the allocator has it; one buffer of TLS records kept would be 64 KiB more.
    const BYTES_MAX: usize = 48 * 1024;
    let stage = pki::stage(&Pki::new(), Cluster::builder());
    let resident = || {
        let path = format!("/proc/{}/statm", stage.proxy.pid().expect("it runs"));
        let text = std::fs::read_to_string(path).expect("it is there");
        let pages = |field| -> usize {
            text.split(' ').nth(field).and_then(|pages| pages.parse().ok()).expect("a number")
        };
        // Without those of its file, which come and go as the system likes.
        (pages(1) - pages(2)) * 4096
    };
    let measure = |login: &Login| {
        let mut warm: Vec<_> = (0..20).map(|_| Client::connect(login).expect("it may log in")).collect();
        let work = |client: &mut Client| {
            assert_eq!(client.value("SELECT repeat('x', 100000)").expect("it answers").len(), 100_000);
        };
        // What the workers have for all clients is used by then.
        warm.iter_mut().for_each(work);
        let before = resident();
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| Client::connect(login).expect("it may log in")).collect();
        clients.iter_mut().for_each(work);
        // They stay: memory that is given back would be taken for that of the next.
        (resident().saturating_sub(before) / CLIENTS, clients, warm)
    };
    let (clear, ..) = &measure(&stage.transaction());
    let tunnel = Tunnel::to(stage.proxy.port(), Ask::Request).expect("it listens");
    let (encrypted, ..) = &measure(&through(&tunnel, stage.transaction()));
    println!("resident memory per idle client: {clear} bytes in the clear, {encrypted} bytes over TLS");
    assert!(*encrypted < BYTES_MAX, "{encrypted} bytes");
}
