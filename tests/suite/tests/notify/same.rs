//! The same messages to PostgreSQL and through halephant are answered the same, and leave the client listening on the
//! same channels.

use super::{LIMIT, notifications, run, stage_of, stage_on};
use halephant_harness::Cluster;
use halephant_harness::postgres::Binaries;
use halephant_suite::encode::{bind, close_portal, execute, flush, message, parse, query, sync};
use halephant_suite::{Client, Message, Stage};

/// What one client sends at once, and how many ReadyForQuery it leads to.
type Step = (Vec<u8>, usize);

fn q(sql: &str) -> Step {
    (query(sql), 1)
}

fn x(parts: &[Vec<u8>], ready: usize) -> Step {
    (parts.concat(), ready)
}

/// Parse, Bind and Execute of the unnamed statement.
fn unnamed(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0)].concat()
}

/// A message as both servers send it: without the process that notified, and without where in the source an error was.
fn normal(message: &Message) -> (char, Vec<u8>) {
    let tag = char::from(message.tag);
    match message.tag {
        b'A' => (tag, message.body[4..].to_vec()),
        b'E' | b'N' => {
            let fields = message.body.split(|&byte| byte == 0);
            // Nor the number of a session's own schema.
            let differs = |field: &&[u8]| {
                matches!(field.first(), Some(b'F' | b'L' | b'R')) || field.starts_with(b"spg_temp_")
            };
            let kept = fields.filter(|field| !differs(field));
            (tag, kept.collect::<Vec<_>>().join(&0))
        }
        _ => (tag, message.body.clone()),
    }
}

fn play(client: &mut Client, steps: &[Step]) -> Vec<(char, Vec<u8>)> {
    let mut answers = Vec::new();
    for (bytes, ready) in steps {
        client.send(bytes).expect("it is read");
        for _ in 0..*ready {
            answers.extend(client.receive_until(b'Z').expect("it is answered").iter().map(normal));
        }
    }
    answers
}

/// The channels, of a few, that the client listens on.
fn channels(client: &mut Client, other: &mut Client) -> Vec<String> {
    for channel in ["a", "b", "c", "\"Ä\""] {
        run(other, &format!("NOTIFY {channel}, 'probe'"));
    }
    // Its own notification comes before the answer, and those before it do, too.
    let found = notifications(&run(client, "NOTIFY nobody"));
    found.into_iter().filter(|(_, payload)| payload == "probe").map(|(channel, _)| channel).collect()
}

fn check(stage: &Stage, name: &str, steps: &[Step]) {
    let mut other = Client::connect(&stage.direct()).expect("it may log in");
    // One after the other: they would get each other's notifications.
    let mut outcomes = [stage.direct(), stage.transaction()].into_iter().map(|login| {
        let mut client = Client::connect(&login).expect("it may log in");
        let answers = play(&mut client, steps);
        let channels = channels(&mut client, &mut other);
        client.terminate().expect("it may leave");
        let text = |(tag, body): &(char, Vec<u8>)| format!("{tag} {}", body.escape_ascii());
        (answers.iter().map(text).collect::<Vec<_>>(), channels)
    });
    let (expected, found) = (outcomes.next(), outcomes.next());
    assert_eq!(found, expected, "{name}");
}

#[test]
fn simple_queries_are_answered_as_by_postgresql() {
    simple_queries(&stage_of(3));
}

fn simple_queries(stage: &Stage) {
    check(stage, "alone", &[q("LISTEN a"), q("LISTEN b"), q("UNLISTEN a"), q("LISTEN \"Ä\"")]);
    check(stage, "twice", &[q("LISTEN a"), q("LISTEN a"), q("UNLISTEN a"), q("LISTEN c")]);
    check(stage, "all", &[q("LISTEN a"), q("LISTEN b"), q("UNLISTEN *"), q("LISTEN c")]);
    check(stage, "discard", &[q("LISTEN a"), q("DISCARD ALL"), q("LISTEN b")]);
    check(stage, "errors", &[q("LISTEN"), q("LISTEN a b"), q("LISTEN \"\""), q("UNLISTEN"), q("LISTEN a.b")]);
    check(stage, "own", &[q("LISTEN a"), q("NOTIFY a, 'x'"), q("SELECT pg_notify('a', 'y')"), q("NOTIFY b")]);
    check(
        stage,
        "long",
        &[q(&format!("LISTEN a{}", "x".repeat(80))), q(&format!("NOTIFY a{}", "x".repeat(62)))],
    );
    check(stage, "cases", &[q("listen A"), q("LISTEN \"B\""), q("/* x */ LISTEN c -- y"), q("NOTIFY \"B\"")]);
}

#[test]
fn several_statements_in_one_text_are_one_transaction() {
    several_statements(&stage_of(3));
}

fn several_statements(stage: &Stage) {
    check(stage, "all", &[q("LISTEN a; LISTEN b; UNLISTEN a; SELECT 1")]);
    check(stage, "error", &[q("LISTEN a; SELECT 1/0; LISTEN b"), q("LISTEN c")]);
    check(stage, "commit inside", &[q("LISTEN a; COMMIT; LISTEN b; SELECT 1/0")]);
    check(stage, "rollback inside", &[q("LISTEN a; ROLLBACK; LISTEN b")]);
    check(
        stage,
        "block inside",
        &[q("LISTEN a; BEGIN; LISTEN b"), q("ROLLBACK"), q("BEGIN; LISTEN c; COMMIT; x")],
    );
    check(stage, "no savepoint", &[q("LISTEN a; SAVEPOINT s"), q("LISTEN b")]);
    check(stage, "no vacuum", &[q("LISTEN a; VACUUM"), q("LISTEN b; DISCARD ALL"), q("LISTEN c")]);
    check(stage, "with own", &[q("LISTEN a; NOTIFY a, '1'; NOTIFY a, '2'; NOTIFY a, '1'"), q("SELECT 1")]);
    check(stage, "syntax", &[q("LISTEN a; SELEC"), q("LISTEN b;;; ; LISTEN c;")]);
}

#[test]
fn transactions_decide() {
    transactions(&stage_of(3));
}

fn transactions(stage: &Stage) {
    check(stage, "commit", &[q("BEGIN"), q("LISTEN a"), q("NOTIFY a, 'x'"), q("SELECT 1"), q("COMMIT")]);
    check(stage, "rollback", &[q("LISTEN a"), q("BEGIN"), q("LISTEN b"), q("UNLISTEN a"), q("ROLLBACK")]);
    check(
        stage,
        "failed",
        &[q("BEGIN"), q("LISTEN a"), q("SELECT 1/0"), q("LISTEN b"), q("COMMIT"), q("LISTEN c")],
    );
    check(
        stage,
        "failed, then back",
        &[
            q("BEGIN"),
            q("LISTEN a"),
            q("SAVEPOINT s"),
            q("LISTEN b"),
            q("SELECT 1/0"),
            q("ROLLBACK TO s"),
            q("LISTEN c"),
            q("COMMIT"),
        ],
    );
    check(
        stage,
        "savepoints",
        &[
            q("BEGIN; SAVEPOINT s; LISTEN a; SAVEPOINT \"S\"; LISTEN b"),
            q("ROLLBACK TO SAVEPOINT \"S\"; RELEASE s; SAVEPOINT t; UNLISTEN a"),
            q("ROLLBACK TO t; LISTEN c; END"),
        ],
    );
    check(stage, "released", &[q("BEGIN; SAVEPOINT s; LISTEN a; RELEASE s; ROLLBACK TO s"), q("COMMIT")]);
    check(
        stage,
        "chain",
        &[q("BEGIN; LISTEN a; COMMIT AND CHAIN; LISTEN b; ROLLBACK AND CHAIN; LISTEN c"), q("COMMIT")],
    );
    check(stage, "prepared", &[q("BEGIN; LISTEN a"), q("PREPARE TRANSACTION 'x'"), q("LISTEN b")]);
    check(
        stage,
        "deferred",
        &[
            q("CREATE TEMP TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)"),
            q("BEGIN; LISTEN a; INSERT INTO t VALUES (1), (1)"),
            q("COMMIT"),
            q("LISTEN b; INSERT INTO t VALUES (1), (1)"),
            q("LISTEN c"),
        ],
    );
    check(
        stage,
        "order",
        &[q("LISTEN a"), q("BEGIN; UNLISTEN a; LISTEN a; COMMIT"), q("LISTEN b; UNLISTEN b")],
    );
}

#[test]
fn the_extended_protocol_listens_at_sync() {
    extended_protocol(&stage_of(3));
}

fn extended_protocol(stage: &Stage) {
    check(stage, "one", &[x(&[unnamed("LISTEN a"), sync()], 1), x(&[unnamed("UNLISTEN a"), sync()], 1)]);
    check(stage, "batch", &[x(&[unnamed("LISTEN a"), unnamed("LISTEN b"), unnamed("SELECT 1"), sync()], 1)]);
    check(
        stage,
        "error",
        &[x(&[unnamed("LISTEN a"), unnamed("SELECT 1/0"), unnamed("LISTEN b"), sync()], 1)],
    );
    check(
        stage,
        "two batches",
        &[x(&[unnamed("LISTEN a"), unnamed("x"), sync(), unnamed("LISTEN b"), sync(), query("LISTEN c")], 3)],
    );
    check(
        stage,
        "named",
        &[
            x(&[parse("s", "LISTEN a"), sync()], 1),
            x(&[parse("s", "SELECT 1"), sync()], 1),
            x(&[bind("p", "s", &[]), execute("p", 0), execute("p", 0), sync()], 1),
            x(&[bind("p", "s", &[]), execute("p", 0), close_portal("p"), sync()], 1),
        ],
    );
    check(
        stage,
        "bound, not executed",
        &[
            x(&[parse("s", "LISTEN a"), parse("t", "LISTEN b"), sync()], 1),
            x(&[bind("p", "s", &[]), bind("r", "t", &[]), execute("r", 0), sync()], 1),
        ],
    );
    check(
        stage,
        "transaction",
        &[
            x(
                &[unnamed("BEGIN"), unnamed("LISTEN a"), unnamed("SAVEPOINT s"), unnamed("LISTEN b"), sync()],
                1,
            ),
            x(&[unnamed("ROLLBACK TO s"), sync()], 1),
            x(&[unnamed("COMMIT"), unnamed("LISTEN c"), unnamed("SELECT 1/0"), sync()], 1),
        ],
    );
    check(
        stage,
        "own",
        &[
            x(&[unnamed("LISTEN a"), sync()], 1),
            x(
                &[
                    parse("", "SELECT pg_notify($1, $2)"),
                    bind("", "", &[Some("a"), Some("x")]),
                    execute("", 0),
                    sync(),
                ],
                1,
            ),
        ],
    );
    check(
        stage,
        "own names",
        &[
            q("PREPARE mine AS SELECT 1"),
            x(&[parse("s", "LISTEN a"), bind("", "s", &[]), execute("", 0), sync()], 1),
            x(&[bind("", "s", &[]), execute("", 0), sync()], 1),
        ],
    );
    check(
        stage,
        "pieces",
        &[
            x(&[parse("", "LISTEN a"), flush()], 0),
            x(&[bind("", "", &[]), flush()], 0),
            x(&[execute("", 0), flush()], 0),
            x(&[sync()], 1),
        ],
    );
    check(
        stage,
        "copy",
        &[x(
            &[
                query("CREATE TEMP TABLE t (a text); COPY t FROM STDIN; LISTEN a"),
                message(b'd', b"x\n"),
                message(b'c', b""),
                query("LISTEN b"),
            ],
            2,
        )],
    );
    // Nothing of it is left on a server connection.
    let listening =
        "SELECT count(*) FROM pg_stat_activity WHERE query ~* '^listen' AND application_name = ''";
    stage.wait_until(listening, "0", LIMIT).expect("none is left");
}

/// The same with the other major versions.
#[test]
fn every_version_is_answered_the_same() {
    for major in [13, 14, 16, 17, 18] {
        let binaries = match Binaries::major(major) {
            Ok(binaries) => binaries,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "PostgreSQL {major} is missing: {error:#}");
                eprintln!("PostgreSQL {major} is missing, left out: {error:#}");
                continue;
            }
        };
        let stage = stage_on(Cluster::builder().binaries(binaries), 3, |config| config);
        simple_queries(&stage);
        several_statements(&stage);
        transactions(&stage);
        extended_protocol(&stage);
    }
}
