//! LISTEN in transaction mode with `listen_mode = "multiplex"`: one connection listens for all, and clients see what they
//! would see on a connection of their own.

mod delivery;
mod drivers;
mod faults;
mod same;

use halephant_harness::postgres::cluster::Builder;
use halephant_harness::{Cluster, ProxyConfig, psql, wait_for};
use halephant_suite::{Client, Message, Stage, stage};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// In transaction mode with so many server connections, with changes to the configuration.
fn stage_with(connections: u32, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Stage {
    stage_on(Cluster::builder(), connections, change)
}

fn stage_on(builder: Builder, connections: u32, change: impl FnOnce(ProxyConfig) -> ProxyConfig) -> Stage {
    let stage = Stage::with(builder, |config| {
        let config = config
            .set("cluster.main.pool.app.max_connections.primary", connections)
            .set("cluster.main.pool.app.listen_mode", "multiplex")
            .set("admin.users", vec![stage::ROLE]);
        change(config)
    });
    stage.expect("it starts")
}

fn stage_of(connections: u32) -> Stage {
    stage_with(connections, |config| config)
}

fn client(stage: &Stage) -> Client {
    stage.client().expect("it may log in")
}

/// Runs `sql`, which must not fail.
fn run(client: &mut Client, sql: &str) -> Vec<Message> {
    let messages = client.query(sql).expect("it is answered");
    let error = messages.iter().find(|message| message.tag == b'E');
    assert!(error.is_none(), "{sql}: {error:?}");
    messages
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// Channel and payload of a NotificationResponse.
fn notification(message: &Message) -> (String, String) {
    let mut texts = message.body.get(4..).expect("a process ID").split(|&byte| byte == 0);
    let mut text = || String::from_utf8_lossy(texts.next().expect("a text")).into_owned();
    (text(), text())
}

fn notifications(messages: &[Message]) -> Vec<(String, String)> {
    messages.iter().filter(|message| message.tag == b'A').map(notification).collect()
}

/// The next message of a client that does nothing: a notification's payload, or a warning's text with an exclamation
/// mark before it.
fn next(client: &mut Client) -> String {
    let message = client.receive().expect("it comes");
    match message.tag {
        b'A' => notification(&message).1,
        b'N' => {
            assert_eq!(message.field(b'V').as_deref(), Some("WARNING"));
            assert_eq!(message.sqlstate().as_deref(), Some("01000"));
            format!("!{}", message.field(b'M').unwrap_or_default())
        }
        _ => panic!("{message:?}"),
    }
}

/// The first payloads that come.
fn take(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| next(client)).collect()
}

/// The process that listens for the clients, once there is one that is not `before`.
fn listener(stage: &Stage, before: &str) -> String {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'halephant listener'";
    let found = || {
        let pid = stage.cluster.query("postgres", sql)?;
        Ok((!pid.is_empty() && pid != before && !pid.contains('\n')).then_some(pid))
    };
    wait_for("a listener", LIMIT, found).expect("there is one")
}

fn console(stage: &Stage, sql: &str) -> String {
    let login = stage.transaction().database("halephant");
    psql::query(stage.cluster.binaries(), &login, sql).expect("it answers")
}
