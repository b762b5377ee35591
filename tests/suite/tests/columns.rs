//! Tables that change while clients go by the columns that they were told: what a server connection that prepares the
//! statement only then gives them is what PostgreSQL gives to who prepared it before.

use halephant_harness::Cluster;
use halephant_suite::encode::{
    bind, bind_with, close_statement, describe_portal, describe_statement, execute, flush, parse, query, sync,
};
use halephant_suite::{Client, Message, Stage, message};

/// In transaction mode with two server connections, one of which is out of reach at a time.
struct Two {
    stage: Stage,
    holders: [Client; 2],
    client: Client,
    direct: Client,
}

impl Two {
    fn new(schema: &str) -> Self {
        let stage = Stage::with(Cluster::builder(), |config| {
            config.set("cluster.main.pool.app.max_connections.primary", 2)
        });
        let stage = stage.expect("it starts");
        stage.prepare(schema).expect("it is made");
        let client = || stage.client().expect("it may log in");
        let mut two = Self {
            holders: [client(), client()],
            client: client(),
            direct: Client::connect(&stage.direct()).expect("it may log in"),
            stage,
        };
        two.holders[0].query("BEGIN").expect("it is answered");
        two
    }

    /// The client's next transaction is on the other connection.
    fn switch(&mut self) {
        self.holders[1].query("BEGIN").expect("it is answered");
        self.holders[0].query("COMMIT").expect("it is answered");
        self.holders.swap(0, 1);
    }

    fn exchange(&mut self, parts: &[Vec<u8>]) -> Vec<Message> {
        exchange(&mut self.client, parts)
    }

    /// What both answer, and it is the same.
    fn both(&mut self, parts: &[Vec<u8>]) -> Vec<Message> {
        let (through, direct) = (exchange(&mut self.client, parts), exchange(&mut self.direct, parts));
        assert_eq!(shown(&through), shown(&direct));
        through
    }

    /// Told on one connection, and then on the other when the table has changed.
    fn change(&mut self, text: &str, sql: &str) {
        let messages = self.both(&[parse("s", text), describe_statement("s"), sync()]);
        assert_eq!(tags(&messages), "1tTZ");
        self.stage.prepare(sql).expect("it may be changed");
        self.switch();
    }
}

fn exchange(client: &mut Client, parts: &[Vec<u8>]) -> Vec<Message> {
    client.send(&parts.concat()).expect("it is read");
    let cycles = parts.iter().filter(|part| matches!(part[0], b'S' | b'Q')).count();
    (0..cycles).flat_map(|_| client.receive_until(b'Z').expect("it is answered")).collect()
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// Everything but where in PostgreSQL's source an error is reported.
fn shown(messages: &[Message]) -> Vec<String> {
    let show = |message: &Message| match message.tag {
        b'E' => {
            let fields = [b'S', b'V', b'C', b'M', b'D', b'H', b'R'].map(|code| message.field(code));
            format!("E {fields:?}")
        }
        _ => format!("{message:?}"),
    };
    messages.iter().map(show).collect()
}

fn error(messages: &[Message]) -> (String, String, String) {
    let error = message::error(messages).expect("an error");
    let field = |code| error.field(code).unwrap_or_default();
    (field(b'C'), field(b'M'), field(b'R'))
}

fn outdated() -> (String, String, String) {
    ("0A000".into(), "cached plan must not change result type".into(), "RevalidateCachedQuery".into())
}

const SCHEMA: &str = "CREATE TABLE grows (a int); INSERT INTO grows VALUES (1)";

fn run() -> [Vec<u8>; 3] {
    [bind("", "s", &[]), execute("", 0), sync()]
}

#[test]
fn a_change_is_told_until_the_statement_is_prepared_anew() {
    for change in [
        "ALTER TABLE grows ADD COLUMN b text DEFAULT 'b'",
        "ALTER TABLE grows ALTER COLUMN a TYPE text",
        "ALTER TABLE grows RENAME COLUMN a TO renamed",
        "DROP TABLE grows; CREATE TABLE grows (a varchar(3)); INSERT INTO grows VALUES ('x')",
    ] {
        let mut two = Two::new(SCHEMA);
        two.change("SELECT * FROM grows", change);
        for _ in 0..2 {
            let messages = two.both(&run());
            assert_eq!((tags(&messages).as_str(), error(&messages)), ("EZ", outdated()), "{change}");
            // On the connection that has the old one, too.
            two.switch();
        }
        let anew = [close_statement("s"), parse("s", "SELECT * FROM grows"), describe_statement("s"), sync()];
        assert_eq!(tags(&two.both(&anew)), "31tTZ", "{change}");
        for _ in 0..2 {
            assert_eq!(tags(&two.both(&run())), "2DCZ", "{change}");
            two.switch();
        }
    }
}

#[test]
fn another_table_with_the_same_columns_is_no_change() {
    let mut two = Two::new(SCHEMA);
    two.change(
        "SELECT * FROM grows",
        "DROP TABLE grows; CREATE TABLE grows (a int); INSERT INTO grows VALUES (2)",
    );
    let messages = two.both(&run());
    assert_eq!((tags(&messages).as_str(), message::values(&messages)), ("2DCZ", vec!["2".into()]));
}

#[test]
fn the_error_has_its_place_in_a_pipeline() {
    let mut two = Two::new(SCHEMA);
    two.both(&[parse("t", "INSERT INTO grows VALUES (7) RETURNING 'told'"), describe_statement("t"), sync()]);
    two.change("SELECT a, grows.* FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    let t = [bind("", "t", &[]), execute("", 0)].concat();
    let messages = two.both(&[t.clone(), run()[..2].concat(), t.clone(), sync(), t.clone(), sync()]);
    assert_eq!((tags(&messages).as_str(), error(&messages)), ("2DCEZ2DCZ", outdated()));
    // In one that goes on behind its Sync, and with a Query that is not skipped.
    two.switch();
    let messages = two.both(&[run()[..2].concat(), sync(), sync(), query("SELECT 'after'"), t, sync()]);
    assert_eq!((tags(&messages).as_str(), error(&messages)), ("EZZTDCZ2DCZ", outdated()));
    let found = message::values(&two.exchange(&[query("SELECT count(*) FROM grows WHERE a = 7")]));
    assert_eq!(found, ["4"], "what was skipped, or failed with it, is not there");
}

#[test]
fn a_transaction_block_fails_with_it() {
    let mut two = Two::new(SCHEMA);
    two.change("SELECT * FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    two.both(&[query("BEGIN")]);
    two.both(&[query("INSERT INTO grows VALUES (2)")]);
    assert_eq!(error(&two.both(&run())), outdated());
    // Which of PostgreSQL's functions says it depends on whether there is a copy.
    assert_eq!(error(&two.exchange(&run())).0, "25P02");
    exchange(&mut two.direct, &run());
    assert_eq!(error(&two.both(&[query("SELECT 1")])).0, "25P02");
    assert_eq!(tags(&two.both(&[query("COMMIT")])), "CZ");
    let again =
        [parse("again", "SELECT * FROM grows"), bind("", "again", &[]), describe_portal(""), execute("", 0)];
    assert_eq!(tags(&two.both(&[again.concat(), sync()])), "12TDCZ");
}

/// Rows that a client cannot read must not have been written.
#[test]
fn what_would_return_other_columns_does_not_run() {
    let mut two = Two::new(SCHEMA);
    two.change("INSERT INTO grows VALUES (5) RETURNING *", "ALTER TABLE grows ADD COLUMN b int");
    assert_eq!(error(&two.both(&run())), outdated());
    assert_eq!(message::values(&two.both(&[query("SELECT a FROM grows")])), ["1"]);
}

#[test]
fn a_bind_of_two_mebibytes_is_refused_as_well() {
    let mut two = Two::new(SCHEMA);
    two.change("SELECT *, length($1) FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    let long = vec![b'x'; 2 << 20];
    let parts = [bind_with("", "s", &[], &[Some(&long)], &[]), execute("", 0), sync()];
    assert_eq!(error(&two.both(&parts)), outdated());
    assert_eq!(tags(&two.both(&[query("SELECT 1")])), "TDCZ");
}

/// One that is told the new columns by the same batch does not notice.
#[test]
fn who_is_told_anew_goes_on() {
    let mut two = Two::new(SCHEMA);
    two.change("SELECT * FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    let described = [bind("", "s", &[]), describe_portal(""), execute("", 0), sync()];
    assert_eq!(tags(&two.exchange(&described)), "2TDCZ");
    for _ in 0..2 {
        assert_eq!(tags(&two.exchange(&run())), "2DCZ");
        two.switch();
    }
    two.stage.prepare("ALTER TABLE grows ADD COLUMN c int").expect("it grows");
    assert_eq!(tags(&two.exchange(&[describe_statement("s"), sync()])), "tTZ");
    for _ in 0..2 {
        assert_eq!(tags(&two.exchange(&run())), "2DCZ");
        two.switch();
    }
}

/// As asyncpg does: it reads what a Flush brings before it sends a Sync. What was prepared after the change is not outdated.
#[test]
fn a_parse_behind_the_change_is_not_outdated_with_flush_either() {
    let mut two = Two::new(SCHEMA);
    two.change("SELECT * FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    let mut newer = two.stage.client().expect("it may log in");
    two.switch();
    for name in ["n", "m"] {
        // Where a copy from before the change is.
        let parts = [parse(name, "SELECT * FROM grows"), describe_statement(name), flush()].concat();
        newer.send(&parts).expect("it is read");
        let messages = newer.receive_until(b'T').expect("it is answered");
        assert_eq!((tags(&messages).as_str(), messages[2].body[1]), ("1tT", 2));
        assert_eq!(tags(&exchange(&mut newer, &[bind("", name, &[]), execute("", 0), sync()])), "2DCZ");
    }
    assert_eq!(error(&two.both(&run())), outdated());
}

/// Clients with different columns in mind share the connections: each gets what fits, or the error.
#[test]
fn each_client_has_its_own_columns_in_mind() {
    let mut two = Two::new(SCHEMA);
    let mut newer = two.stage.client().expect("it may log in");
    two.change("SELECT * FROM grows", "ALTER TABLE grows ADD COLUMN b int");
    exchange(&mut newer, &[parse("n", "SELECT * FROM grows"), describe_statement("n"), sync()]);
    let new = [bind("", "n", &[]), execute("", 0), sync()];
    for _ in 0..3 {
        assert_eq!(tags(&exchange(&mut newer, &new)), "2DCZ");
        assert_eq!(error(&two.exchange(&run())), outdated());
        two.switch();
    }
    // The way back is one, too.
    two.stage.prepare("ALTER TABLE grows DROP COLUMN b").expect("it shrinks");
    for _ in 0..3 {
        assert_eq!(tags(&two.exchange(&run())), "2DCZ");
        assert_eq!(error(&exchange(&mut newer, &new)), outdated());
        two.switch();
    }
}
