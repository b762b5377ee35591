//! Root for the start only: what is left of it afterwards, with and without the kernel path, and under the filter of system
//! calls. The tests run as root, as `.ci/run` does.

use halephant_harness::port::Port;
use halephant_harness::proxy::{KernelPath, binary};
use halephant_harness::{Cluster, Proxy, ProxyConfig, command, psql, wait_for};
use halephant_kernel_tests::misplaced::misplace;
use halephant_suite::http::get;
use halephant_suite::{Client, Stage, encode};
use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// Every Debian has it, and it owns nothing.
const USER: &str = "nobody";
const UID: u32 = 65_534;
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_BPF: u64 = 1 << 39;

/// A value of the status of each thread.
fn of_threads(pid: u32, key: &str) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let threads = threads.map(|entry| entry.expect("it runs").path());
    let of_thread = |thread: PathBuf| {
        let name = fs::read_to_string(thread.join("comm")).ok()?.trim().to_owned();
        let status = fs::read_to_string(thread.join("status")).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some((name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    threads.filter_map(of_thread).collect()
}

#[track_caller]
fn assert_all(pid: u32, key: &str, expected: &str) {
    for (thread, value) in of_threads(pid, key) {
        assert_eq!(value, expected, "{key} of {thread}");
    }
}

fn capabilities(pid: u32, key: &str) -> Vec<(String, u64)> {
    let parse = |bits: String| u64::from_str_radix(&bits, 16).expect("it is a number");
    of_threads(pid, key).into_iter().map(|(thread, bits)| (thread, parse(bits))).collect()
}

fn own_directory(proxy: &Proxy) -> PathBuf {
    fs::read_link(format!("/proc/{}/cwd", proxy.pid().expect("it runs"))).expect("it runs")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn reload(stage: &Stage, outcome: &str) {
    let before = stage.proxy.log().matches(outcome).count();
    stage.proxy.signal(Signal::SIGHUP).expect("it runs");
    stage.proxy.wait_for_log(outcome, before + 1, LIMIT).expect("it is carried out");
}

#[test]
fn a_process_that_gave_up_root_has_nothing_left_of_it() {
    let stage = Stage::with(Cluster::builder(), |config| config.set("server.user", USER)).expect("it starts");
    let mut client = stage.client().expect("the password file was read before");
    assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
    let pid = stage.proxy.pid().expect("it runs");
    assert_all(pid, "Uid", &[UID.to_string(), UID.to_string(), UID.to_string(), UID.to_string()].join(" "));
    assert_all(pid, "Gid", &[UID.to_string(), UID.to_string(), UID.to_string(), UID.to_string()].join(" "));
    assert_all(pid, "Groups", &UID.to_string());
    for key in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_all(pid, key, "0000000000000000");
    }
    let bounds = capabilities(pid, "CapBnd");
    let workers = bounds.iter().filter(|(thread, _)| thread.starts_with("worker-"));
    assert!(workers.clone().count() > 0 && workers.clone().all(|(_, bits)| *bits == 0), "{bounds:?}");
    let privileges = of_threads(pid, "NoNewPrivs");
    let workers = privileges.iter().filter(|(thread, _)| thread.starts_with("worker-"));
    assert!(workers.clone().all(|(_, value)| value == "1"), "{privileges:?}");

    // What it reads again, it reads as its user.
    let directory = own_directory(&stage.proxy);
    set_mode(&directory, 0o700);
    reload(&stage, "the reload was rejected");
    assert!(stage.proxy.log().contains("Permission denied"));
    assert_eq!(client.value("SELECT 2").expect("its session goes on"), "2");
    set_mode(&directory, 0o755);
    reload(&stage, "the configuration was reloaded");
    assert_eq!(stage.client().and_then(|mut client| client.value("SELECT 3")).expect("it answers"), "3");
}

#[test]
fn the_kernel_path_works_with_the_capabilities_that_are_kept() {
    for seccomp in [false, true] {
        let stage = Stage::with(Cluster::builder(), |config| {
            config.kernel_path(KernelPath::Colocated).set("server.user", USER).set("server.seccomp", seccomp)
        })
        .expect("it starts: root, kernel 5.10 and cgroup2 are there");
        // It listens before it gives anything up.
        stage.proxy.wait_for_log("ready listen", 1, LIMIT).expect("it serves");
        let kept = capabilities(stage.proxy.pid().expect("it runs"), "CapEff");
        for (thread, bits) in &kept {
            let needs = thread.starts_with("worker-") || thread == "splice-events";
            let expected = if needs { CAP_NET_ADMIN | CAP_BPF } else { *bits };
            assert_eq!(*bits, expected, "{thread}");
            assert_eq!(bits & !(CAP_NET_ADMIN | CAP_BPF), 0, "{thread}");
        }
        let mut client = Client::connect(&stage.session()).expect("it may log in");
        let spliced = || {
            client.value("SELECT 1")?;
            Ok((stage.proxy.log().matches("events: spliced flow=").count() >= 2).then_some(()))
        };
        wait_for("the session to be spliced", LIMIT, spliced).expect("it is");
        for number in 0..200 {
            assert_eq!(client.value(&format!("SELECT {number}")).expect("it answers"), number.to_string());
        }
        stage.proxy.signal(Signal::SIGUSR1).expect("it runs");
        assert_eq!(client.value("SELECT 'on'").expect("it goes on in userspace"), "on");
    }
}

/// As a supervisor starts it: another user from the first on, with capabilities that are handed on to every thread.
#[test]
fn without_root_threads_keep_what_they_need() {
    let stage = Stage::new().expect("it starts");
    let directory = tempfile::tempdir().expect("there is room");
    set_mode(directory.path(), 0o755);
    let path = directory.path().join("halephant.toml");
    let port = Port::pick().expect("there is a free one");
    let config = Stage::config(&stage.cluster)
        .kernel_path(KernelPath::Colocated)
        .set("server.listen", vec![format!("127.0.0.1:{}", port.number())]);
    fs::write(&path, config.text().expect("it is TOML")).expect("there is room");
    let log_path = directory.path().join("log");
    let log = fs::File::create(&log_path).expect("there is room");
    let capabilities_given = "+bpf,+net_admin,+perfmon";
    let mut supervisor = Command::new("setpriv");
    supervisor
        .args(["--reuid", USER, "--regid", &UID.to_string(), "--clear-groups"])
        .args(["--inh-caps", capabilities_given, "--ambient-caps", capabilities_given])
        .arg(binary::find().expect("it builds"))
        .arg("-c")
        .arg(&path)
        .env("HALEPHANT_SPLICE_POLICY", "every")
        .stdout(log.try_clone().expect("it is open"))
        .stderr(log);
    let mut child = supervisor.spawn().expect("setpriv is there");
    let pid = child.id();
    let said = || fs::read_to_string(&log_path).unwrap_or_default();
    let ready = wait_for("it to be ready", LIMIT, || Ok(said().contains("ready listen").then_some(())));
    let kept = ready.is_ok().then(|| capabilities(pid, "CapPrm"));
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
    let kept = kept.unwrap_or_else(|| panic!("{}", said()));
    assert!(said().contains("the kernel path is on"), "{}", said());
    // The log's writer comes first of all, and is not ours.
    for (thread, bits) in kept.iter().filter(|(thread, _)| thread != "log") {
        let needed = if thread == "splice-grace" { 0 } else { CAP_NET_ADMIN | CAP_BPF };
        assert_eq!(bits & !needed, 0, "{thread}: {bits:x}");
    }
    assert!(kept.iter().any(|(thread, bits)| thread == "splice-events" && *bits == CAP_NET_ADMIN | CAP_BPF));
}

/// A packet that does not fit into its connection: whoever reads the programs' events has to be able to close it.
#[test]
fn a_connection_that_is_broken_is_closed_without_root() {
    for seccomp in [false, true] {
        let stage = Stage::with(Cluster::builder(), |config| {
            config.kernel_path(KernelPath::Colocated).set("server.user", USER).set("server.seccomp", seccomp)
        })
        .expect("it starts: root, kernel 5.10 and cgroup2 are there");
        stage.proxy.wait_for_log("ready listen", 1, LIMIT).expect("it serves");
        let pid = stage.proxy.pid().expect("it runs");
        let kept = capabilities(pid, "CapEff");
        let reader = kept.iter().find(|(thread, _)| thread == "splice-events").expect("it reads");
        assert_eq!(reader.1, CAP_NET_ADMIN | CAP_BPF);
        let mut client = Client::connect(&stage.session()).expect("it may log in");
        assert_eq!(client.value("SELECT 1").expect("it answers"), "1");
        misplace(&client.socket().expect("it is open")).expect("its socket is under a verdict");
        client.send(&encode::query("SELECT 2")).expect("it is read");
        client.receive_until(b'Z').expect_err("the connection ends, and nothing is handed on");
        stage
            .proxy
            .wait_for_log("a packet does not fit into its connection, which is closed", 1, LIMIT)
            .expect("it is told");
        assert!(!stage.proxy.log().contains("Operation not permitted"), "{}", stage.proxy.log_tail());
    }
}

/// Logins, statements, cancels, a reload, TLS' files aside, the admin API, a Unix socket, a node that goes and comes back.
#[test]
fn a_pooler_does_its_work_under_the_filter() {
    let sockets = tempfile::tempdir().expect("there is room");
    chown(sockets.path(), Some(UID), Some(UID)).expect("we are root");
    let sockets_text = sockets.path().to_str().expect("it is text");
    let admin = Port::pick().expect("there is a free one");
    let number = admin.number();
    let mut stage = Stage::with(Cluster::builder(), |config| {
        config
            .listen(sockets_text)
            .set("server.user", USER)
            .set("server.seccomp", true)
            .set("admin.listen", format!("127.0.0.1:{number}"))
            .set("cluster.main.topology.interval", "100ms")
    })
    .expect("it starts");
    let pid = stage.proxy.pid().expect("it runs");
    stage.proxy.wait_for_log("ready listen", 1, LIMIT).expect("it serves");
    assert_all(pid, "Seccomp", "2");
    assert_all(pid, "NoNewPrivs", "1");
    set_mode(&own_directory(&stage.proxy), 0o755);
    reload(&stage, "the configuration was reloaded");

    let mut client = stage.client().expect("it logs in");
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is sent");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sleep(600)%'
        AND pid <> pg_backend_pid()";
    stage.wait_until(asleep, "1", LIMIT).expect("it runs");
    client.cancel().expect("it is read");
    client.receive_until(b'Z').expect("the query ends");
    let login = halephant_harness::Login { host: sockets_text.to_owned(), ..stage.transaction() };
    let answer = psql::query(stage.cluster.binaries(), &login, "SELECT 'over a socket'");
    assert_eq!(answer.expect("it answers"), "over a socket");
    for path in ["/metrics", "/admin/clients", "/admin/config"] {
        assert_eq!(get(number, path).expect("it answers").status, 200, "{path}");
    }
    stage.end_server_connections().expect("they end");
    let again = || Ok(stage.client().and_then(|mut client| client.value("SELECT 1")).ok());
    wait_for("a new server connection", LIMIT, again).expect("it is opened");
    drop(client);
    assert!(stage.proxy.stop(LIMIT).expect("it ends").success());
    assert_eq!(fs::read_dir(sockets.path()).expect("it is there").count(), 0);
}

/// What a start with `config` says before it fails.
fn complaint(config: &ProxyConfig) -> String {
    match Proxy::start(config) {
        Err(error) => error.to_string(),
        // It listens before it gives anything up, so somebody may have got through.
        Ok(mut proxy) => {
            assert!(!proxy.wait(LIMIT).expect("it ends").success());
            proxy.log()
        }
    }
}

#[test]
fn a_user_that_it_cannot_become_is_an_error() {
    let stage = Stage::new().expect("it starts");
    let with = |user: &str| Stage::config(&stage.cluster).set("server.user", user);
    let said = complaint(&with("no-such-user"));
    assert!(said.contains("no user \"no-such-user\""), "{said}");
    assert!(complaint(&with("root")).contains("\"root\" is root"));
    let said = complaint(&with(USER).set("server.group", "no-such-group"));
    assert!(said.contains("no group \"no-such-group\""), "{said}");

    let directory = tempfile::tempdir().expect("there is room");
    set_mode(directory.path(), 0o755);
    let path = directory.path().join("halephant.toml");
    let port = Port::pick().expect("there is a free one");
    let text = with("daemon").set("server.listen", vec![format!("127.0.0.1:{}", port.number())]);
    fs::write(&path, text.text().expect("it is TOML")).expect("there is room");
    let mut other = Command::new("setpriv");
    let program = binary::find().expect("it builds");
    other.args(["--reuid", USER, "--regid", &UID.to_string(), "--clear-groups"]).arg(program);
    let output = command::run(other.arg("-c").arg(&path), LIMIT).expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("only root can become \"daemon\""), "{said}");
}
