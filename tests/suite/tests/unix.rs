//! Unix sockets: clients over them, nodes over them, and the files that they leave or do not leave.

use halephant_harness::certificates::{Authority, Subject};
use halephant_harness::port::Port;
use halephant_harness::{Cluster, Login, Proxy, psql, wait_for};
use halephant_suite::http::get;
use halephant_suite::message::error;
use halephant_suite::{Client, Stage, encode, stage};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn text(path: &Path) -> String {
    path.to_str().expect("it is text").to_owned()
}

/// The same login over the socket in `directory`.
fn over(directory: &Path, login: Login) -> Login {
    Login { host: text(directory), ..login }
}

fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<_> =
        names.map(|entry| entry.expect("it is there").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn clients_come_over_a_socket_of_libpqs_name() {
    let directory = tempfile::tempdir().expect("there is room");
    let port = Port::pick().expect("there is a free one");
    let number = port.number();
    let mut stage = Stage::with(Cluster::builder(), |config| {
        let config = config.listen(&text(directory.path())).set("server.socket_mode", "0770");
        config.set("admin.listen", format!("127.0.0.1:{number}"))
    })
    .expect("it starts");
    let name = format!(".s.PGSQL.{}", stage.proxy.port());
    assert_eq!(entries(directory.path()), [name.clone(), format!("{name}.lock")]);
    let mode = fs::metadata(directory.path().join(&name)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o770);

    let login = over(directory.path(), stage.transaction());
    let mut waiting = psql::command(stage.cluster.binaries(), &login).expect("it is installed");
    waiting.args(["--command", "SELECT 'waiting' FROM pg_sleep(600)"]);
    let mut waiting = waiting.spawn().expect("it starts");
    let client = || {
        let clients = get(number, "/admin/clients")?.json()?;
        let clients = clients.as_array().into_iter().flatten();
        Ok(clients.into_iter().find(|client| client["state"] == "active").cloned())
    };
    let client = wait_for("the client in the list", LIMIT, client).expect("it is there");
    assert_eq!(client["address"], "unix", "{client}");
    stage.proxy.wait_for_log("client connected peer=unix", 1, LIMIT).expect("the log has it");
    for _ in 0..5 {
        let answer = psql::query(stage.cluster.binaries(), &login, "SELECT 'over a socket'");
        assert_eq!(answer.expect("it answers"), "over a socket");
    }
    let wrong = psql::query(stage.cluster.binaries(), &login.clone().password("wrong"), "SELECT 1");
    let said = wrong.expect_err("the password counts here, too").to_string();
    assert!(said.contains("password authentication failed"), "{said}");

    // libpq asks for a cancel on the way that its connection came.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(waiting.id().try_into().expect("it fits")),
        nix::sys::signal::Signal::SIGINT,
    )
    .expect("it runs");
    assert!(!waiting.wait().expect("it ends").success());
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%waiting%'
        AND pid <> pg_backend_pid()";
    stage.wait_until(asleep, "0", LIMIT).expect("the query was cancelled");

    assert!(stage.proxy.stop(LIMIT).expect("it ends").success());
    assert!(entries(directory.path()).is_empty(), "{:?}", entries(directory.path()));
}

/// Whoever runs the tests is the role by a map; without one the names have to agree, and they do not.
#[test]
fn peers_are_let_in_by_the_kernels_word() {
    let directory = tempfile::tempdir().expect("there is room");
    let file = |name: &str, lines: &str| {
        let path = directory.path().join(name);
        fs::write(&path, lines).expect("there is room");
        text(&path)
    };
    let own = nix::unistd::User::from_uid(nix::unistd::getuid()).expect("it is known").expect("it is there");
    let ident = file("ident", &format!("us {} {}\n", own.name, stage::ROLE));
    for (rule, outcome) in [("local all all peer map=us", true), ("local all all peer", false)] {
        let hba = file("hba", &format!("{rule}\nhost all all all scram-sha-256\n"));
        let sockets = tempfile::tempdir().expect("there is room");
        let stage = Stage::with(Cluster::builder(), |config| {
            let config = config.listen(&text(sockets.path()));
            // Nothing is learned from a client without a password.
            let config = config.pgpass(&format!("*:*:*:{}:{}", stage::ROLE, stage::PASSWORD));
            config.set("server.hba", hba.as_str()).set("server.ident", ident.as_str())
        })
        .expect("it starts");
        let login = over(sockets.path(), stage.transaction()).password("not needed");
        let answer = psql::query(stage.cluster.binaries(), &login, "SELECT current_user");
        match outcome {
            true => assert_eq!(answer.expect("it is let in"), stage::ROLE),
            false => {
                let said = answer.expect_err("it is somebody else").to_string();
                assert!(said.contains("Peer authentication failed"), "{said}");
            }
        }
        stage.client().expect("over TCP the password counts");
    }
}

/// SIGKILL leaves everything behind; the next process starts all the same, and one beside it does not.
#[test]
fn a_killed_process_is_in_nobodys_way_and_a_live_one_is() {
    let directory = tempfile::tempdir().expect("there is room");
    let stage = Stage::new().expect("it starts");
    let config = Stage::config(&stage.cluster).listen(&format!("{}:6432", text(directory.path())));
    let login = over(directory.path(), stage.transaction()).at(6432);
    for _ in 0..2 {
        let mut proxy = Proxy::start(&config).expect("what was left behind is no obstacle");
        let answer = psql::query(stage.cluster.binaries(), &login, "SELECT 1");
        assert_eq!(answer.expect("it answers"), "1");
        let second = Proxy::start(&config).expect_err("the place is taken").to_string();
        assert!(second.contains("another halephant listens there"), "{second}");
        let answer = psql::query(stage.cluster.binaries(), &login, "SELECT 2");
        assert_eq!(answer.expect("the first is not harmed"), "2");
        proxy.kill().expect("it ends");
        assert_eq!(entries(directory.path()).len(), 2, "a killed process removes nothing");
    }
}

#[test]
fn tls_is_neither_asked_for_nor_there() {
    let directory = tempfile::tempdir().expect("there is room");
    let authority = Authority::new("root").expect("it is made");
    let identity = authority.issue(&Subject::new("localhost", &["localhost"])).expect("it is made");
    identity.write(directory.path(), "server").expect("there is room");
    let sockets = directory.path().join("sockets");
    fs::create_dir(&sockets).expect("there is room");
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .listen(&text(&sockets))
            .set("server.tls.mode", "require")
            .set("server.tls.certificate", text(&directory.path().join("server.crt")))
            .set("server.tls.key", text(&directory.path().join("server.key")))
    })
    .expect("it starts");
    let answer =
        psql::query(stage.cluster.binaries(), &over(&sockets, stage.transaction()), "SELECT 'in the clear'");
    assert_eq!(answer.expect("it answers"), "in the clear");
    let refused = Client::connect(&stage.transaction()).expect_err("TCP has to be encrypted").to_string();
    assert!(refused.contains("requires TLS"), "{refused}");
}

#[test]
fn nodes_are_reached_over_their_sockets_cancels_and_probes_too() {
    let directory = tempfile::tempdir().expect("there is room");
    // PostgreSQL runs as another user.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let builder = Cluster::builder().setting("unix_socket_directories", &text(directory.path()));
    let builder = builder.hba("local all all scram-sha-256");
    let cluster = builder.role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE);
    let cluster = cluster.start().expect("it starts");
    let node = format!("{}:{}", text(directory.path()), cluster.primary().port());
    let config = Stage::config(&cluster).set("cluster.main.nodes", vec![node.clone()]);
    let stage = Stage { proxy: Proxy::start(&config).expect("it starts"), cluster };
    let mut client = Client::connect(&stage.session()).expect("it logs in");
    let from = "SELECT client_addr IS NULL, client_port FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let row = client.query(from).expect("it answers");
    let columns: Vec<_> = row.iter().filter(|message| message.tag == b'D').collect();
    // Two columns: `t`, and -1, which is PostgreSQL's port of a Unix socket.
    assert_eq!(columns[0].body, b"\0\x02\0\0\0\x01t\0\0\0\x02-1");
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is sent");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%'
        AND pid <> pg_backend_pid()";
    stage.wait_until(asleep, "1", LIMIT).expect("it runs");
    client.cancel().expect("the request is read");
    let answer = client.receive_until(b'Z').expect("the query ends");
    assert_eq!(error(&answer).and_then(|error| error.sqlstate()).as_deref(), Some("57014"));
    stage.proxy.wait_for_log(&node, 1, LIMIT).expect("the log names the node");
}
