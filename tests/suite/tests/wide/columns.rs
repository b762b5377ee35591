//! Rows of 1,600 columns, statements of 65,535 parameters, and texts as long as halephant shares them, and longer.

use crate::{direct, pins, stage, tags};
use halephant_suite::encode::{bind, bind_with, describe_portal, describe_statement, execute, parse, sync};
use halephant_suite::script::{Cut, Script};
use halephant_suite::{Client, Message, Stage};
use std::collections::BTreeSet;
use std::io::Write;

/// MaxHeapAttributeNumber and MaxTupleAttributeNumber.
const COLUMNS: usize = 1600;
const EXPRESSIONS: usize = 1664;
/// NAMEDATALEN - 1.
const NAME_BYTES: usize = 63;
const PARAMETERS: usize = 65_535;
/// Each column with its name, a NUL, and 18 bytes of numbers.
const DESCRIPTION_BYTES: usize = 2 + COLUMNS * (NAME_BYTES + 1 + 18);

/// What halephant shares of a Parse: the text, a NUL, and that no types of parameters are given.
const SHARED_TEXT_BYTES_MAX: usize = 256 * 1024 - 3;
/// What it reads of a Parse.
const READ_BYTES_MAX: usize = 1 << 20;
/// Parameters of a text that is shared.
const PARAMETERS_SHARED: usize = 35_000;

const PID: &str = "SELECT pg_backend_pid()";

fn name(number: usize) -> String {
    format!("{:x<NAME_BYTES$}", format!("column_{number:04}_"))
}

/// Every number up to and with `last` by `item`, with commas.
fn list(last: usize, item: impl Fn(usize) -> String) -> String {
    (1..=last).map(item).collect::<Vec<_>>().join(",")
}

/// A table as wide as they get, with a row.
fn create(client: &mut Client) {
    let columns = list(COLUMNS, |number| format!("{} int", name(number)));
    let row = list(COLUMNS, |number| number.to_string());
    client
        .values(&format!("CREATE TABLE wide ({columns}); INSERT INTO wide VALUES ({row})"))
        .expect("it is made");
}

fn all_by_name() -> String {
    format!("SELECT {} FROM wide", list(COLUMNS, name))
}

fn expressions(count: usize) -> String {
    format!("SELECT {}", list(count, |number| format!("{number} AS {}", name(number))))
}

/// A text of so many bytes with every column.
fn all_in(bytes: usize) -> String {
    let text = format!("{} WHERE 'y' <> ''", all_by_name());
    text.replace("'y'", &format!("'{}'", "y".repeat(bytes + 1 - text.len())))
}

/// One row where one of the parameters is their number.
fn found(parameters: usize) -> String {
    format!("SELECT 'found' WHERE {parameters} IN ({})", list(parameters, |number| format!("${number}")))
}

fn bind_only(statement: &str, parameters: usize) -> Vec<u8> {
    let values: Vec<_> = (1..=parameters).map(|number| number.to_string()).collect();
    let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
    bind("", statement, &values)
}

/// Bind of so many parameters, and what follows one.
fn run(statement: &str, parameters: usize) -> Vec<u8> {
    [bind_only(statement, parameters), describe_portal(""), execute("", 0)].concat()
}

fn prepare(statement: &str, text: &str) -> Vec<u8> {
    [parse(statement, text), describe_statement(statement)].concat()
}

/// Played directly, in both modes, and in small segments; the messages are these.
fn compare(stage: &Stage, script: &Script, expected: &str) {
    let mut owner = direct(stage);
    let mut play = |login, cut| script.play(&login, cut, &mut owner).expect("it is played");
    let plain = play(stage.direct(), Cut::Whole);
    let tags: String = plain.lines().iter().filter_map(|line| line.chars().next()).collect();
    assert_eq!(tags, expected, "{}", script.name);
    for login in [stage.session(), stage.transaction()] {
        for cut in [Cut::Whole, Cut::Bytes] {
            if let Some(difference) = plain.difference(&play(login.clone(), cut)) {
                panic!("{}, {}, {cut:?}: {difference}", script.name, login.database);
            }
        }
    }
}

#[test]
fn rows_of_1600_columns() {
    let stage = stage(1);
    create(&mut direct(&stage));
    let all = "SELECT * FROM wide";
    let binary = |count| bind_with("", "s", &[], &[], &vec![1; count]);
    let script = Script::new("1,600 columns")
        .query(all)
        .query(&all_by_name())
        .query(&expressions(EXPRESSIONS))
        .query(&expressions(EXPRESSIONS + 1))
        .query("COPY wide TO STDOUT")
        .send(&[prepare("", all), run("", 0), sync()])
        .ready()
        .send(&[prepare("s", &all_by_name()), sync()])
        .ready()
        .send(&[binary(COLUMNS), describe_portal(""), execute("", 0), sync()])
        .ready()
        .send(&[binary(COLUMNS + 1), execute("", 0), sync()])
        .ready();
    compare(&stage, &script, "TDCZTDCZTDCZEZHdcCZ1tT2TDCZ1tTZ2TDCZEZ");
    let answer = direct(&stage).query(all).expect("it answers");
    assert_eq!(answer[0].body.len(), DESCRIPTION_BYTES);
}

#[test]
fn statements_of_65535_parameters() {
    let stage = stage(1);
    let text = found(PARAMETERS);
    let numbers: Vec<_> = (1..=PARAMETERS as u32).map(u32::to_be_bytes).collect();
    let numbers: Vec<_> = numbers.iter().map(|number| Some(number.as_slice())).collect();
    let script = Script::new("65,535 parameters")
        .send(&[prepare("", &text), run("", PARAMETERS), sync()])
        .ready()
        .send(&[prepare("s", &text), sync()])
        .ready()
        .send(&[run("s", PARAMETERS), sync()])
        .ready()
        .send(&[bind_with("", "s", &vec![1; PARAMETERS], &numbers, &[]), execute("", 0), sync()])
        .ready()
        .send(&[run("s", PARAMETERS - 1), sync()])
        .ready();
    compare(&stage, &script, "1tT2TDCZ1tTZ2TDCZ2DCZEZ");
}

/// A client in transaction mode, and one of PostgreSQL's own to compare with.
struct Both {
    client: Client,
    direct: Client,
}

impl Both {
    fn new(stage: &Stage) -> Self {
        Self { client: stage.client().expect("it may log in"), direct: direct(stage) }
    }

    /// What both answer to a batch, and it is the same.
    fn exchange(&mut self, parts: &[Vec<u8>]) -> Vec<Message> {
        let batch = [parts.concat(), sync()].concat();
        let [through, direct] = [&mut self.client, &mut self.direct].map(|client| {
            let mut socket = client.socket().expect("it is open");
            // From another thread, so that neither side waits for the other to read first.
            std::thread::scope(|scope| {
                scope.spawn(|| socket.write_all(&batch).expect("it is read"));
                client.receive_until(b'Z').expect("it is answered")
            })
        });
        assert!(through == direct, "{through:?}\ninstead of\n{direct:?}");
        direct
    }
}

/// Begins a transaction, and gives the server process that it is on.
fn hold(client: &mut Client) -> String {
    client.query("BEGIN").expect("it is answered");
    client.value(PID).expect("it is answered")
}

#[test]
fn a_shared_statement_is_the_same_on_either_connection() {
    let stage = stage(2);
    create(&mut direct(&stage));
    let mut holders = [(); 2].map(|()| stage.client().expect("it may log in"));
    for (text, parameters) in [
        ("SELECT * FROM wide".to_owned(), 0),
        (all_by_name(), 0),
        (all_in(SHARED_TEXT_BYTES_MAX), 0),
        (found(PARAMETERS_SHARED), PARAMETERS_SHARED),
    ] {
        assert!(text.len() <= SHARED_TEXT_BYTES_MAX, "{}", text.len());
        let mut both = Both::new(&stage);
        hold(&mut holders[0]);
        assert_eq!(tags(&both.exchange(&[prepare("s", &text)])), "1tTZ");
        let mut pids = BTreeSet::new();
        for _ in 0..3 {
            assert_eq!(tags(&both.exchange(&[run("s", parameters)])), "2TDCZ");
            // Without a Describe, halephant compares the columns of the copy with what was told.
            assert_eq!(tags(&both.exchange(&[bind_only("s", parameters), execute("", 0)])), "2DCZ");
            pids.insert(both.client.value(PID).expect("it answers"));
            // The next is on the other one.
            hold(&mut holders[1]);
            holders[0].query("COMMIT").expect("it is answered");
            holders.swap(0, 1);
        }
        assert_eq!((pids.len(), pins(&stage).as_str()), (2, ""), "{} bytes", text.len());
        holders[0].query("COMMIT").expect("it is answered");
    }
}

/// A statement that is not shared stays where it is, and its client with it.
#[test]
fn a_statement_too_long_to_be_shared_keeps_its_connection() {
    let stage = stage(2);
    create(&mut direct(&stage));
    let mut other = stage.client().expect("it may log in");
    for (text, parameters) in
        [(all_in(SHARED_TEXT_BYTES_MAX + 1), 0), (found(PARAMETERS), PARAMETERS), (all_in(READ_BYTES_MAX), 0)]
    {
        let mut both = Both::new(&stage);
        assert_eq!(tags(&both.exchange(&[prepare("s", &text)])), "1tTZ");
        for _ in 0..3 {
            assert_eq!(other.value("SELECT 'other'").expect("it answers"), "other");
            assert_eq!(tags(&both.exchange(&[run("s", parameters)])), "2TDCZ");
        }
        assert_ne!(pins(&stage), "", "{} bytes", text.len());
        let pid = both.client.value(PID).expect("it answers");
        assert_ne!(hold(&mut other), pid);
        assert_eq!(both.client.value(PID).expect("it answers"), pid);
        other.query("COMMIT").expect("it is answered");
        both.client.terminate().expect("it leaves");
    }
}
