//! SQL's PREPARE, EXECUTE, DEALLOCATE and DISCARD in transaction mode: form by form what one direct connection answers.

use halephant_harness::{Cluster, psql};
use halephant_suite::encode::{bind, describe_statement, execute, parse, query, sync};
use halephant_suite::{Client, Message, Stage, message, stage};

struct Pair {
    stage: Stage,
    through: Client,
    direct: Client,
}

impl Pair {
    fn new() -> Self {
        let stage = Stage::with(Cluster::builder(), |config| {
            config
                .set("cluster.main.pool.app.max_connections.primary", 1)
                .set("admin.users", vec![stage::ROLE])
        });
        let stage = stage.expect("it starts");
        Self {
            through: stage.client().expect("it may log in"),
            direct: Client::connect(&stage.direct()).expect("it may log in"),
            stage,
        }
    }

    /// Sends it to both, who answer the same. Returns the tags of the messages and the SQLSTATE of the error among them.
    fn send(&mut self, parts: &[Vec<u8>]) -> String {
        let [through, direct] = [&mut self.through, &mut self.direct].map(|client| {
            client.send(&parts.concat()).expect("it is read");
            client.receive_until(b'Z').expect("it is answered")
        });
        assert_eq!(shown(&through), shown(&direct));
        let tags: String = through.iter().map(|message| char::from(message.tag)).collect();
        tags + &message::error(&through).and_then(Message::sqlstate).unwrap_or_default()
    }

    fn query(&mut self, sql: &str) -> String {
        self.send(&[query(sql)])
    }

    fn pins(&self) -> String {
        let console = self.stage.transaction().database("halephant");
        psql::query(self.stage.cluster.binaries(), &console, "SHOW PINS").expect("it answers")
    }
}

/// EXECUTE of a name that is not on the server, behind messages whose answers PostgreSQL keeps back: it is answered, if only by
/// 26000.
#[test]
fn an_execute_behind_what_is_not_answered_is_answered() {
    let mut pair = Pair::new();
    pair.send(&[parse("named", "SELECT 1"), sync()]);
    let run = |sql| [parse("", sql), bind("", "", &[]), execute("", 0)].concat();
    let behind = [
        [parse("", "SELECT 2"), query("EXECUTE named")].concat(),
        [parse("again", "SELECT 1"), run("EXECUTE again"), sync()].concat(),
        [run("SELECT 2"), run("EXECUTE named"), sync()].concat(),
        [run("SELECT 2"), run("DEALLOCATE named"), sync()].concat(),
    ];
    for messages in behind {
        pair.query("BEGIN");
        pair.through.send(&messages).expect("it is read");
        let answer = pair.through.receive_until(b'Z').expect("it is answered");
        let sqlstate = message::error(&answer).and_then(Message::sqlstate);
        assert!(sqlstate.as_deref().is_none_or(|sqlstate| sqlstate == "26000"), "{sqlstate:?}");
        pair.through.query("ROLLBACK").expect("it goes on");
        pair.direct.query("ROLLBACK").expect("it goes on");
        pair.query("SELECT 'in step'");
    }
}

/// What the client sent behind a text that could not be read went to the server under its own name.
#[test]
fn a_name_behind_a_syntax_error_stays_its_clients() {
    let mut pair = Pair::new();
    pair.send(&[parse("a", "SELECT 1"), sync()]);
    let both = [parse("", "SELEKT"), sync(), parse("a", "SELECT 1"), sync()].concat();
    for client in [&mut pair.through, &mut pair.direct] {
        client.send(&both).expect("it is read");
        let first = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(message::error(&first).and_then(Message::sqlstate).as_deref(), Some("42601"));
        let second = client.receive_until(b'Z').expect("it is answered");
        assert_eq!(message::error(&second).and_then(Message::sqlstate).as_deref(), Some("42P05"));
    }
    let mut other = pair.stage.client().expect("it may log in");
    other.send(&[bind("", "a", &[]), sync()].concat()).expect("it is read");
    let answer = other.receive_until(b'Z').expect("it is answered");
    assert_eq!(message::error(&answer).and_then(Message::sqlstate).as_deref(), Some("26000"));
}

/// Where in its source PostgreSQL reports an error, and where in a text, is left out.
fn shown(messages: &[Message]) -> Vec<String> {
    let show = |message: &Message| match message.tag {
        b'E' => format!("{:?}", [b'S', b'C', b'M', b'D', b'H'].map(|code| message.field(code))),
        _ => format!("{message:?}"),
    };
    messages.iter().map(show).collect()
}

fn run(name: &str) -> [Vec<u8>; 3] {
    [bind("", name, &[]), execute("", 0), sync()]
}

#[test]
fn prepared_by_a_query_is_executed_and_deallocated() {
    let mut pair = Pair::new();
    assert_eq!(pair.query("PREPARE a AS SELECT 'x'"), "CZ");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    assert_eq!(pair.query("DEALLOCATE a"), "CZ");
    assert_eq!(pair.query("EXECUTE a"), "EZ26000");
    assert_eq!(pair.query("DEALLOCATE a"), "EZ26000");
}

#[test]
fn prepared_by_the_extended_protocol() {
    let mut pair = Pair::new();
    assert_eq!(pair.send(&[parse("", "PREPARE a (int) AS SELECT $1 + 1"), run("").concat()]), "12CZ");
    assert_eq!(pair.send(&[parse("", "EXECUTE a(1)"), run("").concat()]), "12DCZ");
    assert_eq!(pair.send(&[parse("s", "EXECUTE a(2)"), describe_statement("s"), sync()]), "1tTZ");
    assert_eq!(pair.send(&run("s")), "2DCZ");
    assert_eq!(pair.send(&[parse("", "DEALLOCATE a"), run("").concat()]), "12CZ");
    assert_eq!(pair.query("EXECUTE a(1)"), "EZ26000");
}

#[test]
fn several_in_one_query() {
    let mut pair = Pair::new();
    assert_eq!(pair.query("PREPARE a AS SELECT 1; PREPARE b AS SELECT 2; EXECUTE b; EXECUTE a"), "CCTDCTDCZ");
    assert_eq!(pair.query("DEALLOCATE a; EXECUTE b; EXECUTE a; EXECUTE b"), "CTDCEZ26000");
    // An error takes back no DEALLOCATE.
    assert_eq!(pair.query("EXECUTE a"), "EZ26000");
    assert_eq!(pair.query("EXECUTE b"), "TDCZ");
}

#[test]
fn a_rollback_takes_nothing_back() {
    let mut pair = Pair::new();
    for sql in ["BEGIN", "PREPARE a AS SELECT 1", "ROLLBACK"] {
        assert_eq!(pair.query(sql), "CZ");
    }
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    for sql in ["BEGIN", "DEALLOCATE a", "ROLLBACK"] {
        assert_eq!(pair.query(sql), "CZ");
    }
    assert_eq!(pair.query("EXECUTE a"), "EZ26000");
}

#[test]
fn a_name_that_is_taken_or_unknown() {
    let mut pair = Pair::new();
    pair.query("PREPARE a AS SELECT 1");
    assert_eq!(pair.query("PREPARE a AS SELECT 2"), "EZ42P05");
    assert_eq!(pair.send(&[parse("a", "SELECT 2"), sync()]), "EZ42P05");
    assert_eq!(pair.query("EXECUTE nothing"), "EZ26000");
    assert_eq!(pair.query("DEALLOCATE nothing"), "EZ26000");
    assert_eq!(pair.send(&run("nothing")), "EZ26000");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
}

#[test]
fn names_of_sql_and_of_the_protocol_are_the_same() {
    let mut pair = Pair::new();
    pair.send(&[parse("p", "SELECT 'by protocol'"), sync()]);
    assert_eq!(pair.query("EXECUTE p"), "TDCZ");
    assert_eq!(pair.query("EXPLAIN EXECUTE p"), "TDCZ");
    pair.query("PREPARE a AS SELECT 'by SQL'");
    assert_eq!(pair.send(&[describe_statement("a"), sync()]), "tTZ");
    assert_eq!(pair.send(&run("a")), "2DCZ");
    assert_eq!(pair.query("PREPARE p AS SELECT 1"), "EZ42P05");
    assert_eq!(pair.query("DEALLOCATE p"), "CZ");
    assert_eq!(pair.send(&run("p")), "EZ26000");
}

#[test]
fn all_at_once_ends_the_pin() {
    for sql in ["DEALLOCATE ALL", "DEALLOCATE PREPARE ALL", "DISCARD ALL"] {
        let mut pair = Pair::new();
        pair.send(&[parse("p", "SELECT 1"), sync()]);
        pair.query("PREPARE a AS SELECT 1");
        assert!(pair.pins().contains("prepared_statement"));
        assert_eq!(pair.query(sql), "CZ");
        assert_eq!(pair.pins(), "", "{sql}");
        assert_eq!(pair.query("EXECUTE a"), "EZ26000");
        assert_eq!(pair.send(&run("p")), "EZ26000");
    }
}

/// The last DEALLOCATE does, one by one, whichever way it is sent, and a rollback does not take it back.
#[test]
fn the_last_name_ends_the_pin() {
    let by_query = |sql: &str| vec![query(sql)];
    let extended = |sql: &str| vec![parse("", sql), run("").concat()];
    for form in [by_query, extended] {
        let mut pair = Pair::new();
        pair.send(&form("PREPARE a AS SELECT 1"));
        pair.send(&form("PREPARE \"B\" AS SELECT 2"));
        pair.send(&form("DEALLOCATE a"));
        assert!(pair.pins().contains("prepared_statement"));
        assert_eq!(pair.query("EXECUTE \"B\""), "TDCZ");
        pair.send(&form("DEALLOCATE PREPARE \"B\""));
        assert_eq!(pair.pins(), "");
        assert_eq!(pair.query("EXECUTE \"B\""), "EZ26000");
        // Others get the connection, and the client may begin again.
        assert_eq!(pair.stage.client().expect("it may log in").values("SELECT 1").expect("it may"), ["1"]);
        pair.send(&form("PREPARE a AS SELECT 3"));
        assert_eq!(pair.query("EXECUTE a"), "TDCZ");
        pair.send(&form("DEALLOCATE a"));
        assert_eq!(pair.pins(), "");
    }
    for end in ["COMMIT", "ROLLBACK"] {
        let mut pair = Pair::new();
        pair.query("PREPARE a AS SELECT 1");
        pair.query("BEGIN");
        pair.query("PREPARE b AS SELECT 1");
        pair.query("DEALLOCATE a; DEALLOCATE b");
        pair.query(end);
        assert_eq!(pair.pins(), "", "{end}");
        assert_eq!(pair.query("EXECUTE a"), "EZ26000");
        for sql in ["PREPARE a AS SELECT 1", "BEGIN", "DEALLOCATE ALL", end] {
            pair.query(sql);
        }
        assert_eq!(pair.pins(), "", "{end}");
    }
    // One that was prepared by the protocol, and put on the server to be executed.
    let mut pair = Pair::new();
    pair.send(&[parse("p", "SELECT 'by protocol'"), sync()]);
    assert_eq!(pair.query("EXECUTE p"), "TDCZ");
    assert!(pair.pins().contains("prepared_statement"));
    assert_eq!(pair.query("DEALLOCATE p"), "CZ");
    assert_eq!(pair.pins(), "");
    assert_eq!(pair.send(&run("p")), "EZ26000");
}

/// Where it cannot be told what is left on the server, the client keeps it.
#[test]
fn a_name_that_may_be_left_keeps_the_pin() {
    let mut pair = Pair::new();
    pair.query("PREPARE a AS SELECT 1");
    pair.query("PREPARE b AS SELECT 2");
    // What failed took nothing away.
    assert_eq!(pair.query("BEGIN; SELECT 1 / 0; DEALLOCATE a"), "CEZ22012");
    assert_eq!(pair.query("DEALLOCATE a"), "EZ25P02");
    pair.query("ROLLBACK");
    assert_eq!(pair.query("DEALLOCATE a; PREPARE a AS SELECT 3"), "CCZ");
    assert_eq!(pair.query("DEALLOCATE b"), "CZ");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    // One that the protocol has prepared meanwhile is on the server, too.
    pair.send(&[parse("p", "SELECT 'by protocol'"), sync()]);
    assert_eq!(pair.query("DEALLOCATE a"), "CZ");
    assert!(pair.pins().contains("prepared_statement"));
    assert_eq!(pair.query("EXECUTE p"), "TDCZ");
    assert_eq!(pair.query("DEALLOCATE p"), "CZ");
    assert_eq!(pair.pins(), "");
}

/// Its text is not the one that was read last.
#[test]
fn a_deallocate_that_was_prepared_before_is_not_taken_for_another() {
    let mut pair = Pair::new();
    pair.query("PREPARE a AS SELECT 1");
    pair.query("PREPARE b AS SELECT 2");
    pair.query("PREPARE c AS SELECT 3");
    pair.send(&[parse("removes", "DEALLOCATE b"), sync()]);
    let others = [parse("", "DEALLOCATE a"), bind("", "removes", &[]), execute("", 0), sync()];
    assert_eq!(pair.send(&others), "12CZ");
    pair.query("DEALLOCATE c");
    pair.query("DEALLOCATE removes");
    assert!(pair.pins().contains("prepared_statement"));
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    // One that is bound only, beside another that is executed.
    let mut pair = Pair::new();
    pair.send(&[parse("shared", "DEALLOCATE a"), sync()]);
    pair.query("PREPARE a AS SELECT 1");
    pair.query("PREPARE b AS SELECT 2");
    pair.send(&[parse("", "DEALLOCATE b"), sync()]);
    let both = [bind("p", "shared", &[]), bind("", "", &[]), execute("", 0), sync()];
    assert_eq!(pair.send(&both), "22CZ");
    pair.query("PREPARE b AS SELECT 2");
    pair.query("DEALLOCATE b");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    // In a transaction, by a portal from before.
    let mut pair = Pair::new();
    pair.query("PREPARE a AS SELECT 1");
    pair.query("PREPARE b AS SELECT 2");
    pair.query("BEGIN");
    pair.send(&[parse("", "DEALLOCATE b"), bind("portal", "", &[]), sync()]);
    assert_eq!(pair.send(&[parse("", "DEALLOCATE a"), execute("portal", 0), sync()]), "1CZ");
    pair.query("COMMIT");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
}

#[test]
fn what_discards_something_else_keeps_the_names() {
    let mut pair = Pair::new();
    pair.send(&[parse("p", "SELECT 1"), sync()]);
    pair.query("PREPARE a AS SELECT 1");
    for sql in ["DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP"] {
        assert_eq!(pair.query(sql), "CZ", "{sql}");
        assert_eq!(pair.query("EXECUTE a"), "TDCZ", "{sql}");
        assert_eq!(pair.send(&run("p")), "2DCZ", "{sql}");
    }
}

#[test]
fn quoted_names_and_case() {
    let mut pair = Pair::new();
    pair.query("PREPARE \"Mixed Case\" AS SELECT 1");
    assert_eq!(pair.query("EXECUTE \"Mixed Case\""), "TDCZ");
    pair.query("PREPARE Folded AS SELECT 2");
    assert_eq!(pair.query("execute FOLDED"), "TDCZ");
    assert_eq!(pair.query("EXECUTE \"Folded\""), "EZ26000");
    assert_eq!(pair.query("DEALLOCATE PREPARE U&\"\\0066olded\""), "CZ");
    assert_eq!(pair.query("EXECUTE folded"), "EZ26000");
    pair.send(&[parse("Upper", "SELECT 3"), sync()]);
    assert_eq!(pair.query("EXECUTE Upper"), "EZ26000");
    assert_eq!(pair.query("EXECUTE \"Upper\""), "TDCZ");
}

#[test]
fn in_a_failed_transaction_nothing_goes() {
    let mut pair = Pair::new();
    pair.query("PREPARE a AS SELECT 1");
    pair.query("BEGIN");
    pair.query("SELECT 1 / 0");
    for sql in ["DEALLOCATE a", "DEALLOCATE ALL", "PREPARE b AS SELECT 1", "EXECUTE a"] {
        assert_eq!(pair.query(sql), "EZ25P02", "{sql}");
    }
    pair.query("ROLLBACK");
    assert_eq!(pair.query("EXECUTE a"), "TDCZ");
    assert_eq!(pair.query("EXECUTE b"), "EZ26000");
}

#[test]
fn nobody_else_sees_them() {
    let pair = Pair::new();
    let stage = pair.stage;
    drop((pair.through, pair.direct));
    let mut one = stage.client().expect("it may log in");
    one.values("PREPARE mine AS SELECT 1").expect("it may");
    let names = "SELECT name FROM pg_prepared_statements WHERE name NOT LIKE 'hp\\_%'";
    assert_eq!(one.values(names).expect("it answers"), ["mine"]);
    drop(one);
    let mut other = stage.client().expect("it may log in");
    assert_eq!(other.values(names).expect("it answers"), [""; 0]);
    let refused = other.query("EXECUTE mine").expect("it is answered");
    assert_eq!(message::error(&refused).and_then(Message::sqlstate).as_deref(), Some("26000"));
}

/// What PostgreSQL's grammar refuses has done nothing.
#[test]
fn a_typing_error_pins_nobody() {
    let mut pair = Pair::new();
    for sql in
        ["SELEKT 1", "SELECT 1; CREATE TEMP TABLE t (a int); SELEKT", "PREPARE a AS SELEKT", "LOAD 'x' y"]
    {
        assert_eq!(pair.query(sql), "EZ42601", "{sql}");
        assert_eq!(pair.pins(), "", "{sql}");
        assert_eq!(pair.send(&[parse("", sql), run("").concat()]), "EZ42601", "{sql}");
        assert_eq!(pair.pins(), "", "{sql}");
    }
    assert_eq!(pair.send(&[parse("s", "SELEKT"), run("s").concat()]), "EZ42601");
    assert_eq!(pair.pins(), "");
    // Within a transaction block, too.
    pair.query("BEGIN");
    assert_eq!(pair.query("SELEKT"), "EZ42601");
    pair.query("ROLLBACK");
    assert_eq!(pair.pins(), "");
}

/// An error of another kind may come when something was done already.
#[test]
fn what_failed_later_pins_as_ever() {
    for (sql, sqlstate, pin) in [
        ("CREATE TEMP TABLE t (a int); COMMIT; DO 'BEGIN SELEKT; END'", "42601", "temporary"),
        (
            "PREPARE a AS SELECT 1; COMMIT; INSERT INTO pg_class (oid) VALUES (1, 2)",
            "42601",
            "prepared_statement",
        ),
        (
            "PREPARE a AS SELECT 1; SELECT query_to_xml('SELEKT', true, true, '')",
            "42601",
            "prepared_statement",
        ),
    ] {
        let mut pair = Pair::new();
        assert!(pair.query(sql).ends_with(sqlstate), "{sql}");
        assert!(pair.pins().contains(pin), "{sql}");
    }
    // One whose name went to the server for it stays there.
    let mut pair = Pair::new();
    pair.send(&[parse("p", "SELECT 1"), sync()]);
    assert_eq!(pair.query("EXECUTE p; SELEKT"), "EZ42601");
    assert_eq!(pair.query("EXECUTE p"), "TDCZ");
}
