//! The systemd unit's restrictions, applied without systemd: halephant starts under them and does its work, on the kernel path
//! too. As root, as `.ci/run` runs it.

use halephant_harness::proxy::{KernelPath, binary};
use halephant_harness::{Cluster, Login, Proxy, psql, target, wait_for};
use halephant_suite::{Client, Stage, encode, stage};
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const PORT: u16 = 6432;

#[test]
fn a_pooler_works_under_the_units_restrictions() {
    let program = binary::find().expect("it builds");
    let unit = target::workspace().join("deploy/halephant.service");
    let environment = [
        ("AS_UNIT_FILE", unit.to_str().expect("it is text")),
        ("AS_UNIT_PROGRAM", program.to_str().expect("it is text")),
        ("AS_UNIT_USER", "nobody"),
    ];
    let cluster =
        Cluster::builder().role(stage::ROLE, stage::PASSWORD).database(stage::DATABASE, stage::ROLE);
    let cluster = cluster.start().expect("it starts");
    let config = Stage::config(&cluster)
        .kernel_path(KernelPath::Colocated)
        .listen(&format!("/run/halephant:{PORT}"))
        // What the unit's user cannot read is found out at once: it is another one here.
        .set("cluster.main.topology.interval", "100ms");
    let launcher = Path::new(env!("CARGO_BIN_EXE_as_unit"));
    let proxy = Proxy::start_binary_in(launcher, &config, &environment).expect("it starts");
    let mut stage = Stage { proxy, cluster };
    let pid = stage.proxy.pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.expect("Linux has it").split_whitespace().next().expect("it has a value").to_owned()
    };
    assert_eq!([value("Uid"), value("NoNewPrivs"), value("Seccomp")], ["65534", "1", "2"]);
    // CAP_NET_ADMIN and CAP_BPF; CAP_PERFMON was for the start.
    assert_eq!(value("CapEff"), format!("{:016x}", 1_u64 << 12 | 1 << 39));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("it runs");
    let root = mounts.lines().rfind(|line| line.split(' ').nth(1) == Some("/")).expect("there is a root");
    assert!(root.split(' ').nth(3).is_some_and(|options| options.starts_with("ro,")), "{root}");

    let mut client = Client::connect(&stage.session()).expect("it logs in");
    let spliced = || {
        client.value("SELECT 1")?;
        Ok((stage.proxy.log().matches("events: spliced flow=").count() >= 2).then_some(()))
    };
    wait_for("the session to be spliced", LIMIT, spliced).expect("it is");
    client.send(&encode::query("SELECT pg_sleep(600)")).expect("it is sent");
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sleep(600)%'
        AND pid <> pg_backend_pid()";
    stage.wait_until(asleep, "1", LIMIT).expect("it runs");
    client.cancel().expect("it is read");
    client.receive_until(b'Z').expect("the query ends");
    // Its sockets are in its own view of /run.
    let host = format!("/proc/{pid}/root/run/halephant");
    let login = Login { host: host.clone(), ..stage.transaction() }.at(PORT);
    let answer = psql::query(stage.cluster.binaries(), &login, "SELECT 'over a socket'");
    assert_eq!(answer.expect("it answers"), "over a socket");
    drop(client);
    assert!(stage.proxy.stop(LIMIT).expect("it ends").success());
}
