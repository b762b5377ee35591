//! What public poolers were caught at, beside what is about prepared statements (`prepared.rs`: several Syncs in one
//! packet, a name closed and parsed anew, DEALLOCATE ALL, Flush, an unknown name).

use halephant_harness::Cluster;
use halephant_suite::encode::{bind, describe_portal, execute, flush, parse, query, sync};
use halephant_suite::{Client, Message, Stage, message};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// One server connection in either mode, so that each client has what the one before it had.
fn narrow() -> Stage {
    let narrow = Stage::with(Cluster::builder(), |config| {
        config
            .set("cluster.main.pool.app.max_connections.primary", 1)
            .set("cluster.main.pool.app_session.max_connections.primary", 1)
    });
    narrow.expect("it starts")
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// A statement of the protocol without a name, with all that there is to be told of it.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), describe_portal(""), execute("", 0)].concat()
}

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
enum Way {
    Cut,
    /// The unread bytes it leaves make the kernel answer with a reset.
    Terminate,
}

/// A pooler gave the next client the leftovers.
#[test]
fn a_result_that_nobody_reads_to_its_end_reaches_nobody_else() {
    let stage = narrow();
    let rows = "SELECT 'the first client''s', n, repeat('x', 500) FROM generate_series(1, 20000) n";
    let starts: [(&str, Vec<u8>); 4] = [
        ("Query", query(rows)),
        ("Sync", [run(rows), sync()].concat()),
        ("Flush", [run(rows), flush()].concat()),
        ("COPY", query(&format!("COPY ({rows}) TO STDOUT"))),
    ];
    for login in [stage.transaction(), stage.session()] {
        for (name, start) in &starts {
            // Before anything of it is read, in its first rows, and far in it.
            for (read, way) in [(0, Way::Cut), (5, Way::Cut), (5, Way::Terminate), (15_000, Way::Cut)] {
                let mut gone = Client::connect(&login).expect("it may log in");
                gone.send(start).expect("it is read");
                for _ in 0..read {
                    gone.receive().expect("it is answered");
                }
                match way {
                    Way::Cut => gone.cut(),
                    Way::Terminate => {
                        gone.send(&halephant_suite::encode::terminate()).expect("it is read");
                        drop(gone);
                    }
                }
                let mut next = Client::connect(&login).expect("it may log in");
                let messages = next.query("SELECT 'mine'");
                let messages = messages.unwrap_or_else(|error| panic!("{name} {read} {way:?}: {error:#}"));
                let found = (tags(&messages), message::values(&messages));
                assert_eq!(found, ("TDCZ".into(), vec!["mine".into()]), "{name} {read} {way:?}");
                next.send(&[run("SELECT 'mine too'"), sync()].concat()).expect("it is read");
                let messages = next.receive_until(b'Z').expect("it is answered");
                let found = (tags(&messages), message::values(&messages));
                assert_eq!(found, ("12TDCZ".into(), vec!["mine too".into()]), "{name} {read} {way:?}");
                assert_eq!(tags(&next.terminate().expect("it leaves")), "", "{name} {read} {way:?}");
            }
        }
    }
    stage.wait_until_idle(LIMIT).expect("nothing goes on");
}

/// A pooler ran the first statement of a Query and no other.
#[test]
fn every_statement_of_one_query_runs() {
    let stage = narrow();
    stage.prepare("CREATE TABLE ran (who text, n int)").expect("it is made");
    let mut others: Vec<Client> = (0..3).map(|_| stage.client().expect("it may log in")).collect();
    let insert = |who: &str, n: usize| format!("INSERT INTO ran VALUES ('{who}', {n})");
    let texts: [(&str, String, &str, usize); 6] = [
        ("block", format!("begin; {}; {}; commit", insert("block", 1), insert("block", 2)), "CCCCZ", 2),
        (
            "two blocks",
            format!("BEGIN;{};COMMIT; BEGIN; {} ;COMMIT;", insert("two blocks", 1), insert("two blocks", 2)),
            "CCCCCCZ",
            2,
        ),
        ("no block", format!("{}; {}", insert("no block", 1), insert("no block", 2)), "CCZ", 2),
        ("undone", format!("BEGIN; {}; ROLLBACK; SELECT", insert("undone", 1)), "CCCTDCZ", 0),
        ("fails", format!("BEGIN; {}; SELECT 1/0; COMMIT", insert("fails", 1)), "CCEZ", 0),
        ("goes on", format!("BEGIN /* ; */; {}; COMMIT; BEGIN", insert("goes on", 1)), "CCCCZ", 1),
    ];
    for login in [stage.transaction(), stage.session()] {
        stage.prepare("TRUNCATE ran").expect("it may");
        let mut client = Client::connect(&login).expect("it may log in");
        for (name, text, expected, rows) in &texts {
            for other in &mut others {
                other.send(&query("SELECT pg_sleep(0.01)")).expect("it is read");
            }
            let messages = client.query(text).expect("it is answered");
            assert_eq!(tags(&messages), *expected, "{name}: {messages:?}");
            client.query("ROLLBACK").expect("it is answered");
            for other in &mut others {
                assert_eq!(tags(&other.receive_until(b'Z').expect("it is answered")), "TDCZ", "{name}");
            }
            let count = format!("SELECT count(*) FROM ran WHERE who = '{name}'");
            assert_eq!(stage.prepare(&count).expect("it answers"), rows.to_string(), "{name}");
        }
        client.terminate().expect("it leaves");
    }
}

/// A pooler counted one ReadyForQuery and handed the server on, whatever else was in the packet.
#[test]
fn all_answers_of_one_packet_are_one_clients() {
    let stage = narrow();
    let mut clients: Vec<Client> = (0..4).map(|_| stage.client().expect("it may log in")).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            let mine = |part: usize| format!("SELECT '{number} {round} {part}' FROM pg_sleep(0.002)");
            let parts = [
                sync(),
                query(&mine(0)),
                run(&mine(1)),
                sync(),
                sync(),
                query("SELECT 1/0"),
                run(&mine(2)),
                run("SELECT 1/0"),
                run("SELECT 'never'"),
                sync(),
                query(&mine(3)),
            ];
            client.send(&parts.concat()).expect("it is read");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let messages: Vec<Message> =
                (0..7).flat_map(|_| client.receive_until(b'Z').expect("it is answered")).collect();
            let expected: Vec<String> = (0..4).map(|part| format!("{number} {round} {part}")).collect();
            assert_eq!(message::values(&messages), expected, "{messages:?}");
            assert_eq!(messages.iter().filter(|message| message.tag == b'E').count(), 2, "{messages:?}");
        }
    }
}
