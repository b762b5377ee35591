//! Answers are those that PostgreSQL gives itself: in blocks that no server knew of, and in those that failed before one did.

use halephant_harness::Login;
use halephant_suite::encode::{
    bind, close_statement, copy_data, copy_done, describe_portal, describe_statement, execute, flush,
    function_call, parse, query as q, sync,
};
use halephant_suite::{Client, Stage};

use super::{shape, stage};

/// Messages that are answered up to one ReadyForQuery.
type Step = Vec<u8>;

fn extended(sql: &str) -> Step {
    [parse("", sql), bind("", "", &[]), execute("", 0), sync()].concat()
}

fn described(sql: &str) -> Step {
    [parse("", sql), bind("", "", &[]), describe_portal(""), execute("", 0), sync()].concat()
}

fn copy(statement: Step) -> Step {
    [statement, copy_data(b"1\n"), copy_data(b"2\n"), copy_done()].concat()
}

fn connect(login: &Login) -> Client {
    let mut client = Client::connect(login).expect("it may log in");
    let prepared = [parse("r", "ROLLBACK"), parse("s", "SELECT 's'"), sync()].concat();
    client.send(&prepared).expect("it reads");
    client.receive_until(b'Z').expect("it answers");
    client
}

fn play(client: &mut Client, script: &[Step], at_once: bool) -> Vec<String> {
    if at_once {
        client.send(&script.concat()).expect("it reads");
    }
    let answer = |step: &Step| {
        if !at_once {
            client.send(step).expect("it reads");
        }
        shape(
            &client.receive_until(b'Z').unwrap_or_else(|error| panic!("{}: {error:#}", step.escape_ascii())),
        )
    };
    script.iter().map(answer).collect()
}

fn shown(script: &[Step]) -> String {
    script.concat().escape_ascii().to_string()
}

fn compare(stage: &Stage, scripts: &[Vec<Step>]) {
    let end = [q("ROLLBACK"), q("SELECT count(*) FROM t"), q("SHOW transaction_isolation")];
    for script in scripts {
        let script = [&script[..], &end].concat();
        for at_once in [false, true] {
            let direct = play(&mut connect(&stage.direct()), &script, at_once);
            let through = play(&mut connect(&stage.transaction()), &script, at_once);
            assert_eq!(through, direct, "{at_once}: {}", shown(&script));
        }
    }
}

#[test]
fn simple_transactions_are_what_they_are_without_it() {
    let stage = stage(|config| config);
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let modes = "ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    let scripts = [
        vec![q("BEGIN"), q("INSERT INTO t VALUES (1)"), q("ROLLBACK")],
        vec![q("BEGIN"), q("INSERT INTO t VALUES (1)"), q("COMMIT"), q("DELETE FROM t")],
        vec![q("BEGIN"), q("BEGIN"), q("COMMIT"), q("COMMIT")],
        vec![q("BEGIN"), q("nonsense"), q("SELECT 1"), q("COMMIT"), q("SELECT 2")],
        vec![q("BEGIN READ ONLY"), q("INSERT INTO t VALUES (1)"), q("ROLLBACK")],
        vec![q("BEGIN"), q("COMMIT AND CHAIN"), q("SELECT 1"), q("COMMIT")],
        vec![q(&format!("BEGIN {modes}")), q("COMMIT AND CHAIN"), q("SHOW transaction_isolation")],
        vec![q(&format!("BEGIN {modes}")), q("ROLLBACK AND CHAIN"), q("SHOW transaction_isolation")],
        vec![q("BEGIN"), q("PREPARE TRANSACTION 'x'"), q("SELECT 1")],
        vec![q("BEGIN"), q("SAVEPOINT a"), q("SELECT 1/0"), q("ROLLBACK TO a"), q("SELECT 3"), q("COMMIT")],
        vec![q("BEGIN"), q("ROLLBACK TO a"), q("SELECT 1"), q("ROLLBACK")],
        vec![q("BEGIN"), q("RELEASE a"), q("COMMIT")],
        vec![q("BEGIN"), q(""), q(" ;"), q("VACUUM t"), q("ROLLBACK")],
        vec![q("BEGIN"), q("COMMIT; SELECT 1"), q("SELECT 2")],
        vec![q("BEGIN"), q("SELECT 1; COMMIT; SELECT 2"), q("SELECT 3")],
        vec![
            q("BEGIN"),
            q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
            q("SHOW transaction_isolation"),
            q("SHOW transaction_deferrable"),
            q("COMMIT"),
        ],
        vec![
            q("START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE"),
            q("SHOW transaction_read_only"),
            q("SHOW transaction_deferrable"),
            q("COMMIT"),
        ],
        vec![
            q("BEGIN"),
            q("SET LOCAL TimeZone = 'Asia/Tokyo'"),
            q("SHOW TimeZone"),
            q("COMMIT"),
            q("SHOW TimeZone"),
        ],
        vec![q("SET TimeZone = 'Asia/Tokyo'"), q("BEGIN"), q("SHOW TimeZone"), q("COMMIT")],
        vec![q("BEGIN"), q("SET TimeZone = 'Asia/Tokyo'"), q("ROLLBACK"), q("SHOW TimeZone")],
        vec![
            q("SET TimeZone = 'Asia/Tokyo'"),
            q("BEGIN"),
            q("RESET TimeZone"),
            q("COMMIT"),
            q("SHOW TimeZone"),
        ],
        vec![q("BEGIN"), copy(q("COPY t FROM STDIN")), q("SELECT count(*) FROM t")],
        vec![q("BEGIN"), copy(q("COPY missing FROM STDIN")), q("SELECT 1"), q("COMMIT")],
        vec![q("BEGIN"), q("COPY (SELECT 1) TO STDOUT"), q("COMMIT")],
        vec![q("BEGIN"), function_call(1397, &["-5"]), q("COMMIT")],
        vec![q("BEGIN"), function_call(1, &["-5"]), q("SELECT 1"), q("COMMIT")],
        vec![q("BEGIN"), q("DECLARE c CURSOR FOR SELECT 1"), q("FETCH c"), q("COMMIT"), q("FETCH c")],
        vec![q("BEGIN"), q("CREATE TEMP TABLE u (a int)"), q("COMMIT"), q("DROP TABLE u")],
        vec![q("BEGIN"), q(&format!("SELECT length('{}')", "x".repeat(200_000))), q("COMMIT")],
    ];
    compare(&stage, &scripts);
}

#[test]
fn extended_transactions_are_what_they_are_without_it() {
    let stage = stage(|config| config);
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let portal = [execute("", 0), sync()].concat();
    let again = [bind("", "", &[]), execute("", 0), sync()].concat();
    let long = format!("SELECT length('{}')", "x".repeat(100_000));
    let scripts = [
        vec![q("BEGIN"), extended("INSERT INTO t VALUES (1)"), extended("ROLLBACK")],
        vec![q("BEGIN"), extended("SELECT 1/0"), extended("SELECT 1"), extended("COMMIT"), q("SELECT 1")],
        vec![q("BEGIN"), described("SELECT 1"), described("SELEKT"), q("COMMIT")],
        vec![q("BEGIN"), portal.clone(), q("ROLLBACK")],
        vec![q("BEGIN"), [describe_portal(""), sync()].concat(), q("ROLLBACK")],
        vec![q("BEGIN"), again.clone(), q("ROLLBACK")],
        vec![extended("SELECT 1"), q("BEGIN"), again.clone(), q("ROLLBACK")],
        vec![q("BEGIN"), [bind("", "s", &[]), execute("", 0), sync()].concat(), q("COMMIT")],
        vec![q("BEGIN"), [describe_statement("s"), sync()].concat(), q("COMMIT")],
        vec![q("BEGIN"), [close_statement("s"), sync()].concat(), q("EXECUTE s"), q("COMMIT")],
        vec![q("BEGIN"), q("EXECUTE s"), q("COMMIT")],
        vec![q("BEGIN"), extended("EXECUTE s"), q("COMMIT")],
        vec![q("BEGIN"), q("DEALLOCATE s"), q("COMMIT")],
        vec![q("BEGIN"), [flush(), extended("SELECT 1")].concat(), q("COMMIT")],
        vec![q("BEGIN"), sync(), [parse("x", "SELECT 1"), flush(), sync()].concat(), q("COMMIT")],
        vec![
            q("BEGIN"),
            [copy([parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0)].concat()), sync()]
                .concat(),
        ],
        vec![q("BEGIN"), extended(&long), q("COMMIT")],
        vec![q("SET TimeZone = 'Asia/Tokyo'"), q("BEGIN"), extended("SHOW TimeZone"), q("COMMIT")],
        // BEGIN by the extended protocol.
        vec![extended("BEGIN"), q("INSERT INTO t VALUES (1)"), extended("ROLLBACK")],
        vec![described("begin read only"), extended("INSERT INTO t VALUES (1)"), extended("ROLLBACK")],
        vec![extended("START TRANSACTION"), extended("COMMIT"), extended("COMMIT")],
        vec![extended("BEGIN"), again.clone(), q("COMMIT")],
        vec![extended("BEGIN"), q("COMMIT"), again],
        vec![[parse("b", "BEGIN"), bind("", "b", &[]), execute("", 0), sync()].concat(), q("SELECT 1")],
        vec![
            [parse("", "BEGIN"), bind("", "", &[Some("1")]), execute("", 0), sync()].concat(),
            q("SELECT 1"),
        ],
        vec![
            [parse("", "BEGIN"), bind("", "", &[]), execute("", 0), extended("SELECT 1")].concat(),
            q("COMMIT"),
        ],
    ];
    compare(&stage, &scripts);
}

/// The block fails because there is no connection for its first statement; PostgreSQL's, because that divides by zero.
#[test]
fn failed_transactions_are_what_they_are_on_a_server() {
    let stage = stage(|config| config);
    stage.prepare("CREATE TABLE t (a int)").expect("the owner may");
    let chained = || [q("SHOW transaction_isolation"), q("COMMIT")];
    let named = |name: &str| [bind("", name, &[]), execute("", 0), sync()].concat();
    let scripts: Vec<Vec<Step>> = vec![
        vec![q("")],
        vec![q(" ; "), q("-- nothing")],
        vec![q("SELECT 1"), q("COMMIT")],
        vec![q("COMMIT; SELECT 1")],
        vec![q("ROLLBACK; SELECT 2")],
        vec![q("SELECT 1; COMMIT")],
        [&[q("COMMIT AND CHAIN")][..], &chained(), &chained()].concat(),
        [&[q("ROLLBACK AND CHAIN")][..], &chained(), &chained()].concat(),
        vec![q("PREPARE TRANSACTION 'x'"), q("SELECT 1")],
        vec![q("SAVEPOINT s")],
        vec![q("ROLLBACK TO s"), q("SELECT 1")],
        vec![q("BEGIN"), q("COMMIT")],
        vec![q("SET TRANSACTION READ ONLY")],
        vec![q("SELEKT"), q("SELECT 1")],
        vec![extended("ROLLBACK"), q("SELECT 1")],
        vec![extended("COMMIT"), q("SELECT 1")],
        vec![described("ROLLBACK"), q("SELECT 1")],
        vec![extended("SELECT 1"), extended("BEGIN"), extended("COMMIT")],
        vec![extended("")],
        vec![[parse("", "ROLLBACK"), sync()].concat(), extended("SELECT 1")],
        vec![named("r"), q("SELECT 1")],
        vec![named("s"), named("r")],
        vec![named(""), named("missing")],
        vec![[execute("", 0), sync()].concat()],
        vec![[describe_statement("r"), sync()].concat()],
        vec![[close_statement("s"), sync()].concat(), named("s")],
        vec![function_call(1397, &["-5"]), q("COMMIT")],
        vec![copy(q("COPY t FROM STDIN")), q("COMMIT")],
        vec![sync(), q("ABORT")],
    ];
    let fail = |client: &mut Client, modes: &str| {
        client.query(&format!("BEGIN {modes}")).expect("it answers");
        client.send(&q("SELECT 1/0")).expect("it reads");
    };
    let modes = "ISOLATION LEVEL REPEATABLE READ";
    let end = [q("ROLLBACK"), q("SELECT count(*) FROM t")];
    let mut clients: Vec<Client> = scripts.iter().map(|_| connect(&stage.transaction())).collect();
    let mut holder = stage.client().expect("it may log in");
    holder.query("BEGIN; SELECT 1").expect("it answers");
    clients.iter_mut().for_each(|client| fail(client, modes));
    for client in &mut clients {
        assert_eq!(shape(&client.receive_until(b'Z').expect("it answers")), "53300 E");
    }
    holder.query("COMMIT").expect("it answers");
    for (script, mut client) in scripts.iter().zip(clients) {
        let script = [&script[..], &end].concat();
        let mut direct = connect(&stage.direct());
        fail(&mut direct, modes);
        assert_eq!(shape(&direct.receive_until(b'Z').expect("it answers")), "22012 E");
        let expected = play(&mut direct, &script, false);
        assert_eq!(play(&mut client, &script, false), expected, "{}", shown(&script));
        // What cannot be read has pinned it.
        client.terminate().expect("it leaves");
    }
}
