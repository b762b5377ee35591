//! The files under `deploy/`, read by the programs they are for.

use halephant_harness::certificates::{self, Authority, Subject};
use halephant_harness::port::Port;
use halephant_harness::proxy::{KernelPath, binary};
use halephant_harness::{Cluster, command, target, wait_for};
use halephant_suite::http::get;
use halephant_suite::{Stage, stage};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// The most that the unit may expose, in tenths, as `systemd-analyze security` counts; 100 is everything.
const EXPOSURE_MAX: u32 = 25;

fn deploy(path: &str) -> PathBuf {
    target::workspace().join("deploy").join(path)
}

/// Whether a program is there. `.ci/run` installs all of them, so a run of it that leaves one out is broken.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    if !found {
        eprintln!("{program} is not installed: left out");
    }
    found
}

#[test]
fn systemd_takes_the_unit() {
    if !has("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().expect("there is room");
    let unit = directory.path().join("halephant.service");
    let program = binary::find().expect("it builds");
    let text = std::fs::read_to_string(deploy("halephant.service")).expect("it is there");
    let text = text.replace("/usr/bin/halephant", program.to_str().expect("it is text"));
    std::fs::write(&unit, text).expect("there is room");
    let output =
        command::run(Command::new("systemd-analyze").arg("verify").arg(&unit), LIMIT).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("halephant.service"), "{said}");
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager"]).arg(format!("--threshold={EXPOSURE_MAX}"));
    command::succeed(security.arg(&unit), LIMIT).expect("it is as closed as it was");
}

/// What the example names under `/etc/halephant/tls`.
fn write_certificates(folder: &Path) -> anyhow::Result<()> {
    let authority = Authority::new("root")?;
    for name in ["server", "shop", "client"] {
        authority.issue(&Subject::new(name, &["pg.example.com"]))?.write(folder, name)?;
    }
    certificates::write(&folder.join("root.crt"), &authority.certificate)?;
    certificates::write(&folder.join("root.crl"), &authority.revoke(&[])?)
}

#[test]
fn the_example_configuration_is_one() {
    let example = std::fs::read_to_string(deploy("halephant.toml")).expect("it is there");
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("halephant.toml");
    write_certificates(directory.path()).expect("they are made");
    let folder = directory.path().display().to_string();
    for (name, line) in
        [("pg_hba.conf", "host all all all scram-sha-256\n"), ("pg_ident.conf", "map /^(.*)$ \\1\n")]
    {
        std::fs::write(directory.path().join(name), line).expect("there is room");
    }
    // Settings that are commented out are right, too; remarks have a space behind the sign.
    let all = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    for text in [example.clone(), example.lines().map(all).collect()] {
        let text = text.replace("/etc/halephant/tls", &folder).replace("/etc/halephant", &folder);
        std::fs::write(&path, &text).expect("there is room");
        let mut check = Command::new(binary::find().expect("it builds"));
        let said = command::succeed(check.args(["--check", "-c"]).arg(&path), LIMIT);
        said.unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    }
}

#[test]
fn prometheus_takes_the_rules_and_they_say_what_they_should() {
    if !has("promtool") {
        return;
    }
    let rules = deploy("prometheus/halephant.rules.yml");
    command::succeed(Command::new("promtool").args(["check", "rules"]).arg(&rules), LIMIT)
        .expect("they are right");
    let tests = target::workspace().join("tests/suite/tests/deploy/rules.test.yml");
    command::succeed(Command::new("promtool").args(["test", "rules"]).arg(&tests), LIMIT)
        .expect("alerts fire when they should");
}

/// The words of a text that look like series of ours.
fn series_of(text: &str) -> BTreeSet<String> {
    let word = |character: char| !(character.is_ascii_alphanumeric() || character == '_');
    let words = text.split(word).filter(|word| word.starts_with("db_") || word.starts_with("halephant_"));
    let kinds = [
        "_total",
        "_seconds",
        "_bucket",
        "_sum",
        "_count",
        "_max",
        "_depth",
        "_healthy",
        "_connections",
        "_sessions",
    ];
    words.filter(|word| kinds.iter().any(|kind| word.ends_with(kind))).map(str::to_owned).collect()
}

#[test]
fn a_live_scrape_has_what_dashboard_and_rules_ask_for() {
    let port = Port::pick().expect("there is a free one");
    let number = port.number();
    let stage = Stage::with(Cluster::builder().replicas(1), |config| {
        config
            .kernel_path(KernelPath::Colocated)
            .set("admin.listen", format!("127.0.0.1:{number}"))
            .set("cluster.main.topology.interval", "100ms")
            .pool("nowhere", "transaction", 1, &[stage::ROLE])
    })
    .expect("it starts");
    let mut client = stage.client().expect("it logs in");
    client.query("LISTEN news").expect("it works");
    halephant_suite::Client::connect(&stage.transaction().database("nowhere")).expect_err("it is not there");
    let complete = || {
        let text = get(number, "/metrics")?.body;
        Ok(text.contains("halephant_replication_lag_seconds{").then_some(text))
    };
    let text = wait_for("the lag of the replica", LIMIT, complete).expect("it is found");
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|word| !word.starts_with('#'))
        .collect();
    for file in ["grafana/halephant.json", "prometheus/halephant.rules.yml"] {
        let asked = series_of(&std::fs::read_to_string(deploy(file)).expect("it is there"));
        let is_there = |name: &String| exported.contains(name.as_str());
        let missing: Vec<_> = asked.iter().filter(|name| !is_there(name)).collect();
        assert!(asked.len() > 5 && missing.is_empty(), "{file}: {missing:?} of {asked:?}");
    }

    if !has("promtool") {
        return;
    }
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("metrics");
    std::fs::write(&path, &text).expect("there is room");
    let mut check = Command::new("sh");
    let output = command::run(check.args(["-c", "promtool check metrics < \"$0\""]).arg(&path), LIMIT);
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    // Names are those of OpenTelemetry, whatever Prometheus would rather have; status 3 is about names.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    assert!(!said.contains("error while linting"), "{said}");
}
