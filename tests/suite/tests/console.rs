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
    let orders = rows(&stage, "SHOW HELP").into_iter().map(|row| row[0].clone());
    let orders: Vec<_> = orders.filter(|order| !order.starts_with("SHOW ")).collect();
    assert!(orders.len() >= 8, "{orders:?}");
    let without_option = |order: &String| order.replace(" [database]", "").replace(" id", " 1");
    for order in orders.iter().map(without_option).chain(["PAUSE app".into(), "DRAIN 127.0.0.1:1".into()]) {
        let answer = watcher_client.query(&order).expect("an answer");
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

/// Columns of the first row whose first value is `name`.
fn row(stage: &Stage, command: &str, name: &str) -> Vec<String> {
    let found = rows(stage, command).into_iter().find(|row| row[0] == name);
    found.unwrap_or_else(|| panic!("no {name} in {command}"))
}

/// An order over a connection of its own, while the test goes on.
fn order(stage: &Stage, command: &'static str) -> std::thread::JoinHandle<Result<Vec<Message>>> {
    let login = dba(stage);
    std::thread::spawn(move || Client::connect(&login)?.query(command))
}

#[test]
fn a_paused_pool_lets_transactions_finish_and_clients_wait() {
    let stage = stage().expect("it starts");
    let mut busy = stage.client().expect("it logs in");
    busy.values("BEGIN; SELECT 1").expect("it works");
    let mut idle = stage.client().expect("it logs in");
    idle.values("SELECT 1").expect("it works");

    let pause = order(&stage, "PAUSE app");
    let paused =
        || Ok((row(&stage, "SHOW POOLS", "app").last().map(String::as_str) == Some("1")).then_some(()));
    wait_for("the pool to be paused", LIMIT, paused).expect("it is");
    assert_eq!(row(&stage, "SHOW POOLS", "app_session").last().map(String::as_str), Some("0"));
    // The transaction goes on; who begins one waits, and so does who logs in.
    assert_eq!(busy.values("SELECT 2").expect("its transaction goes on"), ["2"]);
    idle.send(&encode::query("SELECT 3")).expect("it is open");
    let waiting = || Ok((rows(&stage, "SHOW QUEUES").len() == 1).then_some(()));
    wait_for("the other client to wait", LIMIT, waiting).expect("it waits");
    assert!(!pause.is_finished(), "a transaction is still open");
    busy.values("COMMIT").expect("it works");
    assert_eq!(error(&pause.join().expect("no panic").expect("an answer")), None);
    assert_eq!(stage.server_connections().expect("it answers"), 0);
    busy.send(&encode::query("SELECT 4")).expect("it is open");
    let both = || Ok((row(&stage, "SHOW POOLS", "app")[3] == "2").then_some(()));
    wait_for("both clients to wait", LIMIT, both).expect("they do");

    psql::query(stage.cluster.binaries(), &dba(&stage), "RESUME app").expect("it is there");
    for (client, value) in [(&mut idle, "3"), (&mut busy, "4")] {
        let answer = client.receive_until(b'Z').expect("an answer");
        assert_eq!(halephant_suite::message::values(&answer), [value]);
    }
    let unknown = psql::query(stage.cluster.binaries(), &dba(&stage), "PAUSE nothing").expect_err("unknown");
    assert!(unknown.to_string().contains("database \"nothing\" does not exist"), "{unknown}");
}

#[test]
fn everything_is_paused_together_and_a_cancel_takes_it_back() {
    let stage = stage().expect("it starts");
    let mut busy = stage.client().expect("it logs in");
    busy.values("BEGIN; SELECT 1").expect("it works");
    let mut console = Client::connect(&dba(&stage)).expect("it logs in");
    console.send(&encode::query("PAUSE")).expect("it is open");
    let paused = |count| {
        let paused =
            rows(&stage, "SHOW POOLS").iter().filter(|row| row.last().is_some_and(|p| p == "1")).count();
        Ok((paused == count).then_some(()))
    };
    wait_for("both pools to be paused", LIMIT, || paused(2)).expect("they are");
    console.cancel().expect("it is there");
    let answer = console.receive_until(b'Z').expect("an answer");
    assert!(error(&answer).is_some_and(|error| error.contains("57014")), "{answer:?}");
    wait_for("both pools to go on", LIMIT, || paused(0)).expect("they do");
    busy.values("COMMIT").expect("it works");

    // By the extended protocol, and pools that a reload brings are paused, too.
    let mut pause = encode::parse("", "PAUSE");
    pause.extend([encode::bind("", "", &[]), encode::execute("", 0), encode::sync()].concat());
    console.send(&pause).expect("it is open");
    assert_eq!(error(&console.receive_until(b'Z').expect("an answer")), None);
    let config = Stage::config(&stage.cluster).set("admin.users", vec![stage::ROLE]);
    let config = config.pool("more", "transaction", 2, &[stage::ROLE]);
    stage
        .proxy
        .write_config(&config.set("cluster.main.pool.more.database", stage::DATABASE))
        .expect("there is room");
    assert_eq!(error(&console.query("RELOAD").expect("an answer")), None);
    wait_for("the new pool to be paused", LIMIT, || paused(3)).expect("it is");
    assert_eq!(error(&console.query("RESUME").expect("an answer")), None);
    wait_for("all pools to go on", LIMIT, || paused(0)).expect("they do");
    let mut more = Client::connect(&stage.transaction().database("more")).expect("it may log in");
    assert_eq!(more.values("SELECT 5").expect("it works"), ["5"]);
}

#[test]
fn reconnect_replaces_server_connections_when_they_are_free() {
    let stage = stage().expect("it starts");
    let pid = |client: &mut Client| client.values("SELECT pg_backend_pid()").expect("it works").remove(0);
    let mut busy = stage.client().expect("it logs in");
    busy.values("BEGIN").expect("it works");
    let kept = pid(&mut busy);
    let mut session = Client::connect(&stage.session()).expect("it logs in");
    let of_session = pid(&mut session);
    psql::query(stage.cluster.binaries(), &dba(&stage), "RECONNECT app").expect("it is there");
    assert_eq!(pid(&mut busy), kept, "its transaction goes on");
    busy.values("COMMIT").expect("it works");
    assert_ne!(pid(&mut busy), kept);
    psql::query(stage.cluster.binaries(), &dba(&stage), "RECONNECT").expect("it is there");
    assert_eq!(pid(&mut session), of_session, "a session keeps its own");
    session.terminate().expect("it leaves");
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid IN ({kept}, {of_session})");
    stage.wait_until(&gone, "0", LIMIT).expect("they are closed");
}

#[test]
fn a_driver_asks_by_prepared_statements_and_gives_orders() {
    let stage = stage().expect("it starts");
    let login = dba(&stage);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host(&login.host).port(login.port).user(&login.user).password(&login.password);
        let (client, connection) =
            config.dbname(&login.database).connect(tokio_postgres::NoTls).await.expect("it logs in");
        tokio::spawn(connection);
        for show in rows(&stage, "SHOW HELP").iter().filter(|row| row[0].starts_with("SHOW ")) {
            let rows = client.query(show[0].as_str(), &[]).await.expect("it answers");
            for row in rows {
                (0..row.len()).for_each(|at| drop(row.get::<_, Option<String>>(at)));
            }
        }
        let rows = client.query("SHOW POOLS", &[]).await.expect("it answers");
        assert!(rows.iter().any(|row| row.get::<_, String>("database") == stage::DATABASE));
        for order in ["PAUSE app", "RESUME app", "RECONNECT", "RELOAD"] {
            client.execute(order, &[]).await.expect(order);
            client.batch_execute(order).await.expect(order);
        }
        client.batch_execute("RESUME").await.expect("it answers");
        let error = client.query("SHOW nonsense", &[]).await.expect_err("it is unknown");
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42601"));
    });
}
