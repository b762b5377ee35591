//! The admin API of a running halephant: what it says while clients come, work, wait and go.

use anyhow::Result;
use halephant_harness::port::Port;
use halephant_harness::proxy::KernelPath;
use halephant_harness::{Cluster, command, psql, target, wait_for};
use halephant_suite::http::{get, request};
use halephant_suite::{Client, Stage, encode, message, stage};
use prometheus_parse::{Scrape, Value as Sample};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// Asks an API for whatever its document allows, and holds the answers against it.
const SCHEMATHESIS: &str = "4.15.2";
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const LISTS: [&str; 8] = ["clusters", "nodes", "pools", "servers", "clients", "queues", "splice", "config"];

/// A stage with an admin API, and its port. One server connection for each pool.
fn stage() -> Result<(Stage, u16, Port)> {
    let port = Port::pick()?;
    let number = port.number();
    let options = BTreeMap::from([("app.secret".to_owned(), "hush".to_owned())]);
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .set("admin.listen", format!("127.0.0.1:{number}"))
            .set(&format!("cluster.main.pool.{}.max_connections.primary", stage::DATABASE), 1)
            .set("cluster.main.topology.interval", "100ms")
            .set(
                &format!("cluster.main.pool.{}.user.{}.parameters.options", stage::DATABASE, stage::ROLE),
                options,
            )
    })?;
    Ok((stage, number, port))
}

fn list(port: u16, name: &str) -> Result<Vec<Value>> {
    let answer = get(port, &format!("/admin/{name}"))?;
    anyhow::ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.json()?.as_array().cloned().unwrap_or_default())
}

/// Waits until a list has one row for which `holds`.
fn wait_for_row(port: u16, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let found = wait_for(name, LIMIT, || Ok(list(port, name)?.into_iter().find(&holds)));
    found.unwrap_or_else(|error| panic!("{error:#}: {:#?}", list(port, name)))
}

#[test]
fn lists_follow_what_clients_do() {
    let (stage, port, _guard) = stage().expect("it starts");
    assert!(list(port, "clients").expect("it answers").is_empty());
    let mut first = stage.client().expect("it logs in");
    let row = wait_for_row(port, "clients", |row| row["state"] == "idle");
    assert_eq!(row["user"], stage::ROLE);
    assert_eq!(row["database"], stage::DATABASE);
    assert_eq!(row["role"], "primary");
    assert_eq!(row["server_process_id"], Value::Null);

    let pid = first.values("BEGIN; SELECT pg_backend_pid()").expect("it works").remove(0);
    let pid: Value = pid.parse::<u32>().expect("a number").into();
    let row = wait_for_row(port, "clients", |row| row["state"] == "idle_in_transaction");
    assert_eq!(row["server_process_id"], pid);
    let server = wait_for_row(port, "servers", |row| row["process_id"] == pid);
    assert_eq!((&server["state"], &server["client_process_id"]), (&"used".into(), &row["process_id"]));

    let login = stage.transaction();
    let second = std::thread::spawn(move || Client::connect(&login)?.values("SELECT 1"));
    let queue = wait_for_row(port, "queues", |row| row["depth"] == 1);
    assert_eq!((&queue["pool"], &queue["role"]), (&stage::DATABASE.into(), &"primary".into()));
    assert!(queue["oldest_wait_seconds"].as_f64().is_some_and(|wait| wait < 30.0), "{queue}");
    let waiting = wait_for_row(port, "clients", |row| row["state"] == "waiting");
    assert_eq!(waiting["waiting_for"], "a connection to a primary for pool app");
    let pool = wait_for_row(port, "pools", |row| row["clients_waiting"] == 1);
    assert_eq!((&pool["clients_active"], &pool["servers_used"]), (&1.into(), &1.into()));

    first.values("COMMIT").expect("it works");
    assert_eq!(second.join().expect("no panic").expect("it got its turn"), ["1"]);
    wait_for_row(port, "clients", |row| row["state"] == "idle" && row["transactions"] == 1);
    wait_for_row(port, "servers", |row| row["state"] == "idle" && row["client_process_id"].is_null());
    drop(first);
    wait_for("the client to be gone", LIMIT, || Ok(list(port, "clients")?.is_empty().then_some(())))
        .expect("it left");
}

#[test]
fn readiness_follows_the_primary() {
    let (mut stage, port, _guard) = stage().expect("it starts");
    // It listens before it has asked every node for its role.
    let ready = || Ok(Some(get(port, "/readyz")?).filter(|answer| answer.status == 200));
    let answer = wait_for("to be ready", LIMIT, ready).expect("there is a primary").json().expect("JSON");
    assert_eq!(answer["ready"], true);
    assert_eq!(get(port, "/healthz").expect("it answers").status, 200);
    stage.cluster.node_mut(0).kill().expect("it runs");
    let not_ready = || Ok(Some(get(port, "/readyz")?).filter(|answer| answer.status == 503));
    let answer =
        wait_for("not to be ready", LIMIT, not_ready).expect("the primary is gone").json().expect("JSON");
    assert_eq!(answer["clusters"][0]["reason"], "no primary (0 replicas, 1 unreachable)");
    assert_eq!(get(port, "/healthz").expect("it answers").status, 200);
    stage.cluster.node_mut(0).start().expect("it recovers");
    wait_for("to be ready again", LIMIT, ready).expect("the primary is back");
}

#[test]
fn every_answer_is_documented_and_nothing_can_be_changed() {
    let (_stage, port, _guard) = stage().expect("it starts");
    let document = get(port, "/openapi.json").expect("it answers").json().expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    for name in LISTS {
        assert!(paths.contains_key(&format!("/admin/{name}")), "{name}");
    }
    for path in paths.keys() {
        let answer = get(port, path).expect("it answers");
        let responses = &document["paths"][path]["get"]["responses"];
        let documented = &responses[answer.status.to_string()]["content"];
        let kind = answer.header("content-type").expect("a content type");
        let kind = kind.split(';').next().expect("one part");
        assert!(documented.get(kind).is_some(), "{path}: {} {kind} in {responses}", answer.status);
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(request(port, method, path).expect("it answers").status, 405, "{method} {path}");
        }
    }
    for page in ["/", "/docs"] {
        let answer = get(port, page).expect("it answers");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && answer.body.starts_with("<!doctype html>"));
        // Nothing from elsewhere.
        assert!(!answer.body.contains("http://") && !answer.body.contains("https://"), "{page}");
    }
    assert_eq!(get(port, "/nothing").expect("it answers").status, 404);
    let config = get(port, "/admin/config").expect("it answers");
    assert!(!config.body.contains("hush") && config.body.contains("\"***\""), "{}", config.body);
    let config = config.json().expect("JSON");
    assert_eq!(config["cluster"]["main"]["pool"][stage::DATABASE]["max_connections"]["primary"], 1);
}

#[test]
fn metrics_count_what_happened() {
    let (stage, port, _guard) = stage().expect("it starts");
    let mut client = stage.client().expect("it logs in");
    for _ in 0..5 {
        client.values("SELECT repeat('x', 1000)").expect("it works");
    }
    client.values("LISTEN news").expect("it works");
    let scrape = || -> Result<Scrape> {
        let text = get(port, "/metrics")?.body;
        Ok(Scrape::parse(text.lines().map(|line| Ok(line.to_owned())))?)
    };
    let value = |scrape: &Scrape, name: &str, labels: &[(&str, &str)]| {
        scrape
            .samples
            .iter()
            .filter(|sample| {
                sample.metric == name
                    && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value))
            })
            .map(|sample| match &sample.value {
                Sample::Counter(value) | Sample::Gauge(value) => *value,
                Sample::Histogram(buckets) => buckets.last().map_or(0.0, |bucket| bucket.count),
                other => panic!("{other:?}"),
            })
            .sum::<f64>()
    };
    let pool = [("db_client_connection_pool_name", stage::DATABASE)];
    let scrape = wait_for("6 transactions", LIMIT, || {
        let scrape: Scrape = scrape()?;
        Ok((value(&scrape, "halephant_transaction_duration_seconds", &pool) == 6.0).then_some(scrape))
    })
    .expect("they ended");
    assert_eq!(value(&scrape, "halephant_statement_duration_seconds", &pool), 6.0);
    assert_eq!(value(&scrape, "db_client_connection_create_time_seconds", &pool), 1.0);
    assert!(value(&scrape, "db_client_connection_wait_time_seconds", &pool) >= 6.0);
    assert!(value(&scrape, "halephant_relay_bytes_total", &[("direction", "to_client")]) > 5000.0);
    assert_eq!(value(&scrape, "halephant_pins_total", &[("reason", "listen")]), 1.0);
    assert_eq!(value(&scrape, "db_server_healthy", &[("halephant_role", "primary")]), 1.0);
    assert_eq!(value(&scrape, "db_client_connection_max", &pool), 1.0);
    let used = [pool[0], ("db_client_connection_state", "used")];
    assert_eq!(value(&scrape, "db_client_connection_count", &used), 1.0);
    assert_eq!(value(&scrape, "halephant_client_connections", &[("state", "idle")]), 1.0);
    assert_eq!(value(&scrape, "halephant_client_accepted_total", &[]), 1.0);
    for outcome in ["success", "restart_required", "parse_failed"] {
        assert!(scrape.samples.iter().any(|sample| sample.metric == "halephant_config_reloads_total"
            && sample.labels.get("outcome") == Some(outcome)));
    }
}

/// The program, installed where it is missing: once for this checkout, from PyPI. `None`: it cannot be, and nobody counts
/// on it.
fn schemathesis() -> Option<PathBuf> {
    let home = target::cache(&format!("schemathesis-{SCHEMATHESIS}")).expect("there is room");
    let program = home.join("bin").join("schemathesis");
    let done = home.join("installed");
    let install = || -> Result<()> {
        let mut venv = Command::new("python3");
        command::succeed(venv.args(["-m", "venv", "--clear"]).arg(&home), INSTALL_LIMIT)?;
        let mut pip = Command::new(home.join("bin").join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command::succeed(pip.arg(format!("schemathesis=={SCHEMATHESIS}")), INSTALL_LIMIT)?;
        // It is complete, whatever ended an earlier attempt.
        Ok(std::fs::write(&done, "")?)
    };
    match if done.is_file() { Ok(()) } else { install() } {
        Ok(()) => Some(program),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "schemathesis cannot be installed: {error:#}");
            eprintln!("schemathesis cannot be installed, left out: {error:#}");
            None
        }
    }
}

#[test]
fn schemathesis_finds_nothing() {
    let Some(program) = schemathesis() else { return };
    let (stage, port, _guard) = stage().expect("it starts");
    let _client = stage.client().expect("it logs in");
    let ready = || Ok((get(port, "/readyz")?.status == 200).then_some(()));
    wait_for("to be ready", LIMIT, ready).expect("there is a primary");
    let mut command = Command::new(program);
    command
        .args(["run", "--checks=all", "--max-examples=30"])
        .arg(format!("http://127.0.0.1:{port}/openapi.json"));
    let scratch = tempfile::tempdir().expect("there is room");
    let output =
        command::run(command.current_dir(scratch.path()), Duration::from_secs(120)).expect("it runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_kernel_path_shows_what_it_moves_and_is_switched_by_the_console() {
    let port = Port::pick().expect("there is a free one");
    let number = port.number();
    let stage = Stage::with(Cluster::builder(), |config| {
        config
            .kernel_path(KernelPath::Colocated)
            .set("admin.listen", format!("127.0.0.1:{number}"))
            .set("admin.users", vec![stage::ROLE])
    })
    .expect("it starts");
    let show = || get(number, "/admin/splice")?.json();
    let mut console = Client::connect(&stage.transaction().database("halephant")).expect("it may log in");
    let mut client = Client::connect(&stage.session()).expect("it may log in");
    assert_eq!(show().expect("it answers")["active"], true);
    let query = "SELECT repeat('x', 10000)";
    let of_node = |part: &str| show().map(|shown| shown["nodes"][0][part].clone());
    let moved = || {
        client.value(query)?;
        Ok((of_node("bytes_to_client")?.as_u64() > Some(100_000)).then_some(()))
    };
    let moved = wait_for("the kernel to move the answers", LIMIT, moved);
    moved.unwrap_or_else(|error| panic!("{error:#}: {:#}", show().expect("it answers")));
    assert_eq!(of_node("sessions").expect("it answers"), 1);
    assert_eq!(of_node("sessions_total").expect("it answers"), 1);
    assert!(of_node("arms").expect("it answers").as_u64() >= Some(1));
    let row = wait_for_row(number, "clients", |row| row["database"] == stage::SESSION_POOL);
    assert_eq!(row["spliced"], true, "{row}");
    assert_ne!(row["kernel_path"], "off", "{row}");
    let row = wait_for_row(number, "clients", |row| row["database"] == "halephant");
    assert_eq!((&row["spliced"], &row["kernel_path"]), (&false.into(), &"off".into()));
    let metrics = get(number, "/metrics").expect("it answers").body;
    for name in
        ["bytes", "messages", "transactions", "reclaims", "stalls", "arms", "events_lost", "sessions_joined"]
    {
        assert!(
            metrics.contains(&format!(
                "\nhalephant_splice_{name}_total{{halephant_cluster=\"main\",server_address=\"127.0.0.1\""
            )),
            "{metrics}"
        );
    }
    assert!(
        metrics
            .contains("\nhalephant_splice_sessions{halephant_cluster=\"main\",server_address=\"127.0.0.1\""),
        "{metrics}"
    );

    let shown = console.query("SHOW SPLICE").expect("it may look");
    let row = shown.iter().find(|message| message.tag == b'D').expect("a row").columns();
    let text = |column: usize| row[column].as_deref().map(String::from_utf8_lossy);
    // State, sessions now and in total.
    assert_eq!(
        (text(0).as_deref(), text(3).as_deref(), text(4).as_deref()),
        (Some("on"), Some("1"), Some("1"))
    );
    assert!(console.query("SPLICE OFF").expect("an answer").iter().all(|message| message.tag != b'E'));
    assert_eq!(show().expect("it answers")["active"], false);
    assert_eq!(console.values("SHOW SPLICE").expect("it may look")[0], "off");
    let userspace = || {
        client.value(query)?;
        Ok((of_node("sessions")? == 0).then_some(()))
    };
    wait_for("the session to leave the kernel", LIMIT, userspace).expect("it does");
    let before = of_node("bytes_to_client").expect("it answers");
    client.value(query).expect("it goes on");
    assert_eq!(of_node("bytes_to_client").expect("it answers"), before);
    assert!(console.query("SPLICE ON").expect("an answer").iter().all(|message| message.tag != b'E'));
    assert_eq!(show().expect("it answers")["active"], true);
    let mut next = Client::connect(&stage.session()).expect("it may log in");
    let moved = || {
        next.value(query)?;
        Ok((of_node("bytes_to_client")?.as_u64() > before.as_u64()).then_some(()))
    };
    wait_for("the kernel to move answers again", LIMIT, moved).expect("it does");
    let both = || {
        client.value(query)?;
        Ok((of_node("sessions")? == 2).then_some(()))
    };
    wait_for("the first session to be back", LIMIT, both).expect("it is");
    assert_eq!(of_node("sessions_total").expect("it answers"), 2);
}

#[test]
fn prepared_statements_are_shown_once_and_without_literals() {
    let port = Port::pick().expect("there is a free one");
    let number = port.number();
    let stage = Stage::with(Cluster::builder(), |config| {
        config.set("admin.listen", format!("127.0.0.1:{number}")).set("admin.users", vec![stage::ROLE])
    })
    .expect("it starts");
    let prepare = |name: &str| {
        let mut client = stage.client().expect("it may log in");
        let mut messages = encode::parse(name, "SELECT 'hush' || $1 LIMIT 1");
        messages
            .extend([encode::bind("", name, &[Some("x")]), encode::execute("", 0), encode::sync()].concat());
        client.send(&messages).expect("it is open");
        assert_eq!(message::values(&client.receive_until(b'Z').expect("an answer")), ["hushx"]);
        client
    };
    let (one, two) = (prepare("one"), prepare("two"));
    let shown = || get(number, "/admin/prepared")?.json();
    let prepared = shown().expect("it answers");
    assert_eq!(prepared["statements"].as_array().map(Vec::len), Some(1), "{prepared}");
    let statement = &prepared["statements"][0];
    assert_eq!((&statement["names"], &statement["query"]), (&2.into(), &"SELECT ? || $1 LIMIT ?".into()));
    assert_eq!((&prepared["copied"], &prepared["refused"]), (&1.into(), &0.into()), "{prepared}");
    let console = stage.transaction().database("halephant");
    let row = psql::query(stage.cluster.binaries(), &console, "SHOW PREPARED").expect("it may look");
    assert_eq!(row, format!("{}|2|27|SELECT ? || $1 LIMIT ?", statement["name"].as_str().expect("a name")));
    drop((one, two));
    let unnamed = || Ok((shown()?["statements"][0]["names"] == 0).then_some(()));
    wait_for("the clients to be gone", LIMIT, unnamed).expect("they left");
    assert!(!stage.proxy.log().contains("hush"));
}
