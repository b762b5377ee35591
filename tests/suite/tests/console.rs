//! The console: by psql, byte by byte and through the extended protocol, with and without the right.

use anyhow::Result;
use halephant_harness::{Cluster, Login, psql, wait_for};
use halephant_suite::{Client, Message, Stage, encode, stage};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const WATCHER: &str = "watcher";
const WATCHER_PASSWORD: &str = "watcher-password";

fn stage() -> Result<Stage> {
    Stage::with(Cluster::builder().role(WATCHER, WATCHER_PASSWORD), |config| {
        config
            .set("admin.users", vec![stage::ROLE])
            .set("admin.stats_users", vec![WATCHER])
            .set("cluster.main.topology.interval", "100ms")
    })
}

fn dba(stage: &Stage) -> Login {
    stage.transaction().database("halephant")
}

fn watcher(stage: &Stage) -> Login {
    Login { user: WATCHER.into(), password: WATCHER_PASSWORD.into(), ..dba(stage) }
}

/// The error of a message list, if there is one: SQLSTATE and message.
fn error(messages: &[Message]) -> Option<String> {
    let error = messages.iter().find(|message| message.tag == b'E')?;
    Some(String::from_utf8_lossy(&error.body).replace('\0', " "))
}

fn rows(stage: &Stage, command: &str) -> Vec<Vec<String>> {
    let text = psql::query(stage.cluster.binaries(), &dba(stage), command).expect("it answers");
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

#[test]
fn psql_sees_what_happens() {
    let stage = stage().expect("it starts");
    let mut client = stage.client().expect("it logs in");
    let pid = client.values("BEGIN; SELECT pg_backend_pid()").expect("it works").remove(0);
    for command in rows(&stage, "SHOW HELP").iter().filter(|row| row[0].starts_with("SHOW ")) {
        psql::query(stage.cluster.binaries(), &dba(&stage), &command[0])
            .expect("every command of HELP works");
    }
    let pools = rows(&stage, "SHOW POOLS");
    let pool = pools.iter().find(|row| row[0] == stage::DATABASE).expect("the pool");
    assert_eq!((pool[1].as_str(), pool[2].as_str(), pool[4].as_str()), (stage::ROLE, "1", "1"), "{pool:?}");
    let clients = rows(&stage, "SHOW CLIENTS");
    let row = clients.iter().find(|row| row[9] == pid).expect("the client and its server");
    assert_eq!((row[2].as_str(), row[3].as_str()), (stage::DATABASE, "idle_in_transaction"));
    assert!(clients.iter().any(|row| row[2] == "halephant"), "psql itself: {clients:?}");
    let servers = rows(&stage, "SHOW SERVERS");
    assert!(servers.iter().any(|server| server[7] == pid && server[3] == "active" && server[6] == row[8]));
    let config = rows(&stage, "SHOW CONFIG");
    assert!(
        config.contains(&vec!["cluster.main.topology.interval".to_owned(), "100ms".to_owned()]),
        "{config:?}"
    );

    let id = row[8].clone();
    psql::query(stage.cluster.binaries(), &dba(&stage), &format!("KILL CLIENT {id}")).expect("it is there");
    let last = client.receive_rest().expect("the end of the session");
    assert!(error(&last).is_some_and(|error| error.contains("57P01")), "{last:?}");
    let gone =
        psql::query(stage.cluster.binaries(), &dba(&stage), "KILL CLIENT 1").expect_err("there is none");
    assert!(gone.to_string().contains("client \"1\" does not exist"), "{gone}");
}

#[test]
fn rights_are_checked_for_each_command() {
    let stage = stage().expect("it starts");
    let mut watcher_client = Client::connect(&watcher(&stage)).expect("it may look");
    assert_eq!(watcher_client.values("SHOW VERSION").expect("it may look").len(), 1);
    for order in ["SHUTDOWN", "RELOAD", "KILL CLIENT 1", "DRAIN 127.0.0.1:1", "UNDRAIN 127.0.0.1:1"] {
        let answer = watcher_client.query(order).expect("an answer");
        assert!(error(&answer).is_some_and(|error| error.contains("42501")), "{order}: {answer:?}");
    }
    // The rest of the session goes on.
    assert_eq!(watcher_client.values("SHOW VERSION").expect("it may look").len(), 1);

    let wrong = Client::connect(&dba(&stage).password("wrong")).expect_err("the password is wrong");
    assert!(wrong.to_string().contains("28P01"), "{wrong}");
    let nobody = Login { user: halephant_harness::postgres::cluster::ADMIN.into(), ..dba(&stage) };
    let nobody = nobody.password(halephant_harness::postgres::cluster::ADMIN_PASSWORD);
    let nobody = Client::connect(&nobody).expect_err("a role that is not listed");
    assert!(nobody.to_string().contains("28P01"), "{nobody}");

    // A reload takes the right away, from who is connected, too.
    let config = Stage::config(&stage.cluster).set("admin.users", vec![stage::ROLE]);
    stage.proxy.write_config(&config).expect("there is room");
    psql::query(stage.cluster.binaries(), &dba(&stage), "RELOAD").expect("the file is right");
    let answer = watcher_client.query("SHOW VERSION").expect("an answer");
    assert!(error(&answer).is_some_and(|error| error.contains("42501")), "{answer:?}");
}

#[test]
fn a_reload_says_what_came_of_it() {
    let stage = stage().expect("it starts");
    let mut client = Client::connect(&dba(&stage)).expect("it logs in");
    let answer = client.query("RELOAD").expect("an answer");
    assert_eq!(error(&answer), None, "{answer:?}");
    let config = Stage::config(&stage.cluster).set("server.workers", 7).set("admin.users", vec![stage::ROLE]);
    stage.proxy.write_config(&config).expect("there is room");
    let answer = client.query("RELOAD").expect("an answer");
    assert!(error(&answer).is_some_and(|error| error.contains("restart_required")), "{answer:?}");
    stage.proxy.write_config(&config.set("server.nonsense", 1)).expect("there is room");
    let answer = client.query("RELOAD").expect("an answer");
    assert!(error(&answer).is_some_and(|error| error.contains("parse_failed")), "{answer:?}");
}

#[test]
fn a_drained_node_gets_no_work() {
    let stage = stage().expect("it starts");
    let mut client = stage.client().expect("it logs in");
    client.values("SELECT 1").expect("it works");
    let node = rows(&stage, "SHOW NODES").remove(0).remove(1);
    psql::query(stage.cluster.binaries(), &dba(&stage), &format!("DRAIN {node}")).expect("it is there");
    wait_for("its connections to be closed", LIMIT, || Ok((stage.server_connections()? == 0).then_some(())))
        .expect("they are closed");
    client.send(&encode::query("SELECT 2")).expect("it is open");
    let queued = || Ok((!rows(&stage, "SHOW QUEUES").is_empty()).then_some(()));
    wait_for("the client to wait", LIMIT, queued).expect("it waits");
    psql::query(stage.cluster.binaries(), &dba(&stage), &format!("UNDRAIN \"{node}\"")).expect("it is there");
    assert_eq!(error(&client.receive_until(b'Z').expect("an answer")), None);
    let unknown =
        psql::query(stage.cluster.binaries(), &dba(&stage), "DRAIN nowhere:1").expect_err("unknown");
    assert!(unknown.to_string().contains("node \"nowhere:1\" does not exist"), "{unknown}");
}

#[test]
fn the_extended_protocol_works_and_survives_errors() {
    let stage = stage().expect("it starts");
    let mut client = Client::connect(&dba(&stage)).expect("it logs in");
    let tags = |client: &mut Client, messages: &[Vec<u8>]| {
        client.send(&messages.concat()).expect("it is open");
        let answer = client.receive_until(b'Z').expect("an answer");
        answer.iter().map(|message| char::from(message.tag)).collect::<String>()
    };
    let show = [
        encode::parse("s", "SHOW HELP"),
        encode::describe_statement("s"),
        encode::bind("p", "s", &[]),
        encode::describe_portal("p"),
        encode::execute("p", 2),
        encode::execute("p", 1),
        encode::close_statement("s"),
        encode::sync(),
    ];
    assert_eq!(tags(&mut client, &show), "1tT2TDDsDs3Z");
    let order =
        [encode::parse("", "SET a = 1"), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    assert_eq!(tags(&mut client, &order), "12CZ");
    let empty = [
        encode::parse("", ""),
        encode::bind("", "", &[]),
        encode::describe_portal(""),
        encode::execute("", 0),
        encode::sync(),
    ];
    assert_eq!(tags(&mut client, &empty), "12nIZ");
    let wrong =
        [encode::parse("", "SELECT 1"), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()];
    assert_eq!(tags(&mut client, &wrong), "EZ");
    let two = [encode::parse("", "RELOAD; RELOAD"), encode::sync()];
    assert_eq!(tags(&mut client, &two), "EZ");
    let missing = [encode::bind("", "nothing", &[]), encode::execute("", 0), encode::sync()];
    assert_eq!(tags(&mut client, &missing), "EZ");
    let copy = [encode::copy_data(b"x"), encode::copy_done(), encode::flush(), encode::sync()];
    assert_eq!(tags(&mut client, &copy), "Z");
    assert_eq!(client.values("SHOW VERSION; BEGIN; SHOW VERSION").expect("it works").len(), 2);
    assert!(client.query("").expect("an answer").iter().any(|message| message.tag == b'I'));
    client.terminate().expect("it leaves");
}

#[test]
fn shutdown_lets_transactions_finish() {
    let mut stage = stage().expect("it starts");
    let mut client = stage.client().expect("it logs in");
    client.values("BEGIN").expect("it works");
    let mut console = Client::connect(&dba(&stage)).expect("it logs in");
    assert_eq!(error(&console.query("SHUTDOWN").expect("an answer")), None);
    let last = console.receive_rest().expect("the end");
    assert!(error(&last).is_some_and(|error| error.contains("57P01")), "{last:?}");
    assert_eq!(client.values("SELECT 7").expect("its transaction goes on"), ["7"]);
    client.query("COMMIT").expect("it ends in good order");
    assert!(stage.proxy.wait(LIMIT).expect("it ends").success());
}
