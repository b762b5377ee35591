//! A batch that halephant sends again, because the copy of its prepared statement was outdated or gone, and what its client does
//! in the meantime.

use halephant_harness::Cluster;
use halephant_suite::message::values;
use halephant_suite::{Client, Message, Midway, Stage, encode};
use std::net::Shutdown;

/// What makes the server refuse the copy.
const CAUSES: [(&str, &str); 2] = [
    ("cached plan must not change result type", "ALTER TABLE t ADD COLUMN IF NOT EXISTS b int DEFAULT 2"),
    ("the copy is gone", "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"),
];

/// With one server connection, that has a copy of statement `s` under a name of halephant's.
fn prepared() -> (Midway, Stage, Client) {
    let (midway, stage) = Midway::stage(Cluster::builder(), |config| {
        config.set("cluster.main.pool.app.max_connections.primary", 1).set("server.workers", 1)
    })
    .expect("it starts");
    stage.prepare("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").expect("the owner may");
    let mut client = stage.client().expect("it may log in");
    let parse = [encode::parse("s", "SELECT * FROM t ORDER BY a"), encode::sync()].concat();
    client.send(&parse).expect("it reads");
    client.receive_until(b'Z').expect("it is prepared");
    client.send(&batch()).expect("it reads");
    assert_eq!(values(&client.receive_until(b'Z').expect("it answers")), ["1"]);
    (midway, stage, client)
}

fn batch() -> Vec<u8> {
    [encode::bind("", "s", &[]), encode::describe_portal(""), encode::execute("", 0), encode::sync()].concat()
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// Sends the batch, and `next` while the server's error is known and its ReadyForQuery is not.
fn send_between((midway, stage): (&Midway, &Stage), client: &mut Client, cause: &str, next: &[u8]) {
    client.query(cause).expect("the owner may");
    midway.hold_behind(b'E');
    client.send(&batch()).expect("it reads");
    midway.wait_until_held().expect("it fails");
    // The only worker has read the error before it lets somebody in who came later.
    stage.client().expect("others may log in");
    client.send(next).expect("it reads");
}

#[test]
fn what_a_client_sends_meanwhile_comes_next() {
    let insert = |value: u32| format!("INSERT INTO t VALUES ({value})");
    let extended = |value: u32| {
        [encode::parse("", &insert(value)), encode::bind("", "", &[]), encode::execute("", 0), encode::sync()]
            .concat()
    };
    for (cause, ddl) in CAUSES {
        for (next, answers) in [
            (encode::query(&insert(2)), &["CZ"][..]),
            (extended(2), &["12CZ"]),
            (batch(), &["2TDCZ"]),
            (encode::sync(), &["Z"]),
            (encode::query("SELEKT").repeat(2), &["EZ", "EZ"]),
            ([encode::query(&insert(2)), extended(3), batch()].concat(), &["CZ", "12CZ", "2TDDDCZ"]),
        ] {
            // In one piece, or cut within a header.
            for cut in [next.len(), 3] {
                let (midway, stage, mut client) = prepared();
                send_between((&midway, &stage), &mut client, ddl, &next[..cut.min(next.len())]);
                midway.release();
                assert_eq!(tags(&client.receive_until(b'Z').expect("it is answered")), "2TDCZ", "{cause}");
                client.send(&next[cut.min(next.len())..]).expect("it reads");
                for expected in answers {
                    let answer = client.receive_until(b'Z').expect("it is answered");
                    assert_eq!(tags(&answer), *expected, "{cause}, {next:?}");
                }
                assert_eq!(client.value("SELECT 'last'").expect("nothing is left over"), "last");
                let added = answers.iter().filter(|answer| **answer != "EZ").filter(|it| it.ends_with("CZ"));
                let added = added.filter(|answer| !answer.contains('T')).count();
                let rows = stage.prepare("SELECT count(*) FROM t").expect("it is there");
                assert_eq!(rows, (1 + added).to_string(), "once each");
            }
        }
    }
}

/// One that sends nothing more still gets its answer.
#[test]
fn a_client_that_closes_its_side_is_answered() {
    for (cause, ddl) in CAUSES {
        for early in [true, false] {
            let (midway, _stage, mut client) = prepared();
            client.query(ddl).expect("the owner may");
            if early {
                // Before the error arrives.
                midway.hold_behind(b'Z');
                client.query("SELECT 1").expect("it answers");
            } else {
                midway.hold_behind(b'E');
            }
            client.send(&batch()).expect("it reads");
            midway.wait_until_held().expect("it fails");
            client.socket().and_then(|socket| Ok(socket.shutdown(Shutdown::Write)?)).expect("it is open");
            midway.release();
            let rest = client.receive_rest().expect("it ends in good order");
            assert_eq!(tags(&rest), "2TDCZ", "{cause}");
        }
    }
}

/// One that leaves takes nothing with it, and leaves nothing.
#[test]
fn a_client_that_leaves_meanwhile_leaves_a_clean_connection() {
    for (_, ddl) in CAUSES {
        for next in [encode::terminate(), Vec::new()] {
            let (midway, stage, mut client) = prepared();
            send_between((&midway, &stage), &mut client, ddl, &next);
            client.cut();
            midway.release();
            let mut other = stage.client().expect("it may log in");
            assert_eq!(other.value("SELECT 'other'").expect("it answers"), "other");
        }
    }
}
