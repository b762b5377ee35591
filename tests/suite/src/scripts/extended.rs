//! Extended query: statements, portals with row limits, Flush without Sync, errors that skip until Sync.

use crate::encode::{
    bind, bind_with, close_portal, close_statement, describe_portal, describe_statement, execute, flush,
    parse, query, sync,
};
use crate::script::Script;

const SERIES: &str = "SELECT n FROM generate_series(1, 10) n";

pub fn scripts() -> Vec<Script> {
    [plain(), portals(), flushes(), errors(), named_statements()].concat()
}

/// Parse, Bind, Describe, Execute of the unnamed statement.
fn run(sql: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    [parse("", sql), bind("", "", parameters), describe_portal(""), execute("", 0)].concat()
}

fn plain() -> Vec<Script> {
    let binary = bind_with("", "", &[1, 0], &[Some(&41_i32.to_be_bytes()), Some(b"x")], &[1, 0]);
    let megabyte = "z".repeat(1 << 20);
    vec![
        Script::new("one statement").send(&[run("SELECT $1::int + 1", &[Some("41")]), sync()]).ready(),
        Script::new("binary and text")
            .send(&[parse("", "SELECT $1::int + 1, $2::text"), binary, describe_portal("")])
            .send(&[execute("", 0), sync()])
            .ready(),
        Script::new("NULL and empty")
            .send(&[run("SELECT $1::text, $2::text", &[None, Some("")]), sync()])
            .ready(),
        Script::new("describe statement")
            .send(&[
                parse("", "SELECT id, name FROM item WHERE amount > $1 AND name <> $2"),
                describe_statement(""),
                sync(),
            ])
            .ready(),
        Script::new("without rows")
            .send(&[run("INSERT INTO sink VALUES ($1::int)", &[Some("1")]), sync()])
            .ready()
            .check("SELECT count(*) FROM sink"),
        Script::new("empty statement").send(&[run("", &[]), sync()]).ready(),
        Script::new("transaction")
            .send(&[run("BEGIN", &[]), sync()])
            .ready()
            .send(&[run("INSERT INTO sink VALUES (1)", &[]), sync()])
            .ready()
            .send(&[run("COMMIT", &[]), sync()])
            .ready()
            .check("SELECT count(*) FROM sink"),
        Script::new("one message in each segment")
            .send(&[parse("", "SELECT $1::int")])
            .send(&[bind("", "", &[Some("1")])])
            .send(&[describe_portal("")])
            .send(&[execute("", 0)])
            .send(&[sync()])
            .ready(),
        Script::new("a parameter of 1 MB")
            .send(&[run("SELECT length($1), $1", &[Some(&megabyte)]), sync()])
            .ready(),
        Script::new("300 parameters")
            .send(&[
                run(
                    &format!(
                        "SELECT {}",
                        (1..=300).map(|n| format!("${n}::int")).collect::<Vec<_>>().join(" + ")
                    ),
                    &vec![Some("1"); 300],
                ),
                sync(),
            ])
            .ready(),
        Script::new("notices between")
            .send(&[run("SELECT notice($1)", &[Some("a")]), run("SELECT notice('b')", &[]), sync()])
            .ready(),
        Script::new("simple after extended")
            .send(&[run("SELECT 1", &[]), sync(), query("SELECT 2"), run("SELECT 3", &[]), sync()])
            .ready_times(3),
        Script::new("Query instead of Sync")
            .send(&[run("INSERT INTO sink VALUES (1)", &[]), query("SELECT count(*) FROM sink")])
            .ready()
            .send(&[sync()])
            .ready()
            // PostgreSQL 18 says idle, and still has the transaction open.
            .query("SELECT 1")
            .query("SELECT count(*) FROM sink"),
    ]
}

fn portals() -> Vec<Script> {
    vec![
        Script::new("row limit, all in one pipeline")
            .send(&[parse("", SERIES), bind("", "", &[]), execute("", 4)])
            .send(&[execute("", 4), execute("", 4), execute("", 4), sync()])
            .ready(),
        Script::new("row limit, then Close")
            .send(&[parse("", SERIES), bind("p", "", &[]), execute("p", 3), close_portal("p")])
            .send(&[execute("p", 3), sync()])
            .ready(),
        Script::new("portal across Sync in a transaction")
            .query("BEGIN")
            .send(&[parse("", SERIES), bind("p", "", &[]), execute("p", 3), sync()])
            .ready()
            .send(&[execute("p", 3), sync()])
            .ready()
            .send(&[execute("p", 0), close_portal("p"), sync()])
            .ready()
            .query("COMMIT"),
        Script::new("portal does not outlive Sync")
            .send(&[parse("", SERIES), bind("p", "", &[]), execute("p", 3), sync()])
            .ready()
            .send(&[execute("p", 3), sync()])
            .ready(),
        Script::new("two portals in turn")
            .query("BEGIN")
            .send(&[
                parse("", SERIES),
                bind("a", "", &[]),
                bind("b", "", &[]),
                execute("a", 2),
                execute("b", 3),
            ])
            .send(&[execute("a", 2), execute("b", 3), sync()])
            .ready()
            .query("ROLLBACK"),
        Script::new("limit of a statement without rows")
            .send(&[
                parse("", "INSERT INTO sink SELECT n FROM generate_series(1, 5) n"),
                bind("", "", &[]),
                execute("", 1),
            ])
            .send(&[sync()])
            .ready()
            .check("SELECT count(*) FROM sink"),
        Script::new("suspended, then dropped with the connection")
            .send(&[parse("", SERIES), bind("", "", &[]), execute("", 1), flush()])
            .until(b's')
            .cut()
            .check("SELECT count(*) FROM sink"),
    ]
}

fn flushes() -> Vec<Script> {
    vec![
        Script::new("Flush after each message")
            .send(&[parse("", "SELECT $1::int"), flush()])
            .until(b'1')
            .send(&[describe_statement(""), flush()])
            .until(b'T')
            .send(&[bind("", "", &[Some("7")]), flush()])
            .until(b'2')
            .send(&[execute("", 0), flush()])
            .until(b'C')
            .send(&[sync()])
            .ready(),
        Script::new("Flush, then another statement before Sync")
            .send(&[run("SELECT 1", &[]), flush()])
            .until(b'C')
            .send(&[run("SELECT 2", &[]), flush()])
            .until(b'C')
            .send(&[sync()])
            .ready()
            .query("SELECT 3"),
        Script::new("Flush of an error, then Sync")
            .send(&[run("SELECT 1/0", &[]), flush()])
            .until(b'E')
            .send(&[run("SELECT 1", &[]), flush()])
            .send(&[sync()])
            .ready()
            .query("SELECT 2"),
        Script::new("Flush and leave")
            .send(&[run("INSERT INTO sink VALUES (1)", &[]), flush()])
            .until(b'C')
            .terminate()
            .check("SELECT count(*) FROM sink"),
        Script::new("Flush and cut")
            .send(&[run("INSERT INTO sink VALUES (1)", &[]), flush()])
            .until(b'C')
            .cut()
            .check("SELECT count(*) FROM sink"),
    ]
}

fn errors() -> Vec<Script> {
    let good = run("SELECT 1", &[]);
    vec![
        Script::new("error in Parse skips until Sync")
            .send(&[run("SELEKT", &[]), good.clone(), good.clone(), sync(), good.clone(), sync()])
            .ready_times(2),
        Script::new("error in Bind")
            .send(&[parse("", "SELECT $1::int"), bind("", "", &[Some("x")]), execute("", 0), sync()])
            .ready()
            .send(&[good.clone(), sync()])
            .ready(),
        Script::new("wrong number of parameters")
            .send(&[parse("", "SELECT $1::int"), bind("", "", &[]), execute("", 0), sync()])
            .ready(),
        Script::new("error in Execute, after rows")
            .send(&[run("SELECT 10 / (5 - n) FROM generate_series(1, 10) n", &[]), good.clone(), sync()])
            .ready()
            .query("SELECT 2"),
        Script::new("no such portal and statement")
            .send(&[execute("nowhere", 0), sync(), bind("", "nowhere", &[]), sync()])
            .ready_times(2)
            .send(&[describe_statement("nowhere"), sync()])
            .ready(),
        Script::new("close what is not there")
            .send(&[close_statement("nowhere"), close_portal("nowhere"), sync()])
            .ready(),
        Script::new("error skips Flush")
            .send(&[run("SELECT 1/0", &[]), flush(), good.clone(), flush(), sync()])
            .ready(),
        Script::new("error undoes the pipeline")
            .send(&[
                run("INSERT INTO sink VALUES (1)", &[]),
                run("SELECT 1/0", &[]),
                run("INSERT INTO sink VALUES (2)", &[]),
            ])
            .send(&[sync()])
            .ready()
            .check("SELECT count(*) FROM sink"),
        Script::new("failed transaction")
            .send(&[run("BEGIN", &[]), run("SELECT 1/0", &[]), sync()])
            .ready()
            .send(&[good.clone(), sync()])
            .ready()
            .send(&[run("ROLLBACK", &[]), sync()])
            .ready()
            .send(&[good, sync()])
            .ready(),
        Script::new("several statements in Parse").send(&[parse("", "SELECT 1; SELECT 2"), sync()]).ready(),
        Script::new("Describe with a wrong kind")
            .send(&[crate::encode::message(b'D', b"Xname\0"), sync()])
            .ready()
            .query("SELECT 1"),
        Script::new("Execute that ends early")
            .send(&[crate::encode::message(b'E', b"\0"), sync()])
            .ready()
            .query("SELECT 1"),
        Script::new("Query is skipped after an error, too")
            .send(&[run("SELECT 1/0", &[]), query("SELECT 2"), sync()])
            .ready()
            .query("SELECT 3"),
    ]
}

fn named_statements() -> Vec<Script> {
    let script = Script::new;
    let good = [bind("", "s", &[Some("1")]), describe_portal(""), execute("", 0)].concat();
    vec![
        script("named statement, wrong number of parameters")
            .send(&[parse("s", "SELECT $1::int * 2"), sync(), bind("", "s", &[]), execute("", 0), sync()])
            .ready_times(2)
            .send(&[good.clone(), sync()])
            .ready(),
        script("named statements in one batch")
            .send(&[parse("s", "SELECT $1::int * 2"), good.clone(), parse("t", "SELECT $1::int * 3")])
            .send(&[describe_statement("t"), good.clone(), bind("", "t", &[Some("5")]), execute("", 0)])
            .send(&[close_statement("s"), bind("", "t", &[Some("6")]), execute("", 0), sync()])
            .ready()
            .send(&[good.clone(), sync()])
            .ready(),
        script("named statement in a failed transaction")
            .send(&[parse("s", "SELECT $1::int * 2"), sync()])
            .ready()
            .query("BEGIN")
            .query("SELEKT")
            .send(&[good.clone(), sync(), parse("t", "SELECT 1"), sync(), close_statement("s"), sync()])
            .ready_times(3)
            .query("ROLLBACK")
            .send(&[good.clone(), sync(), parse("s", "SELECT $1::int"), good.clone(), sync()])
            .ready_times(2),
        script("named statement, Parse fails behind an error")
            .send(&[run("SELECT 1/0", &[]), parse("s", "SELECT $1::int"), sync(), good.clone(), sync()])
            .ready_times(2)
            .send(&[parse("s", "SELEKT"), sync(), good.clone(), sync(), parse("s", "SELECT $1::int")])
            .send(&[good.clone(), sync()])
            .ready_times(3),
        script("Close behind an error closes nothing")
            .send(&[parse("s", "SELECT $1::int"), sync()])
            .ready()
            .send(&[run("SELECT 1/0", &[]), close_statement("s"), sync(), good.clone(), sync()])
            .ready_times(2),
        script("name taken, in one batch")
            .send(&[parse("s", "SELECT $1::int"), parse("s", "SELECT $1::int"), good.clone(), sync()])
            .ready()
            .send(&[good.clone(), sync()])
            .ready(),
        script("DEALLOCATE and EXECUTE of a named statement")
            .send(&[parse("s", "SELECT $1::int"), good.clone(), sync()])
            .ready()
            .query("DEALLOCATE s")
            .send(&[good.clone(), sync()])
            .ready()
            .query("DEALLOCATE s")
            .send(&[parse("s", "SELECT $1::int * 7"), good.clone(), sync()])
            .ready()
            .query("EXECUTE s(6)")
            .query("DEALLOCATE ALL")
            .query("EXECUTE s(6)"),
        script("pipeline of Query and named statements")
            .send(&[parse("s", "SELECT $1::int"), sync(), query("SELECT 1"), good.clone(), sync()])
            .send(&[query("DEALLOCATE ALL"), good.clone(), sync(), query("SELECT 2")])
            .ready_times(6),
        script("named statement")
            .send(&[parse("s", "SELECT $1::int * 2"), describe_statement("s"), sync()])
            .ready()
            .send(&[bind("", "s", &[Some("21")]), execute("", 0), sync()])
            .ready()
            .send(&[
                bind("", "s", &[Some("4")]),
                execute("", 0),
                bind("", "s", &[Some("5")]),
                execute("", 0),
                sync(),
            ])
            .ready()
            .send(&[close_statement("s"), sync()])
            .ready()
            .send(&[bind("", "s", &[Some("1")]), sync()])
            .ready(),
        script("named statement twice")
            .send(&[parse("s", "SELECT 1"), sync(), parse("s", "SELECT 2"), sync()])
            .ready_times(2),
        script("unnamed statement across Sync")
            .send(&[parse("", "SELECT 1"), sync()])
            .ready()
            .send(&[bind("", "", &[]), execute("", 0), sync()])
            .ready()
            .query("SELECT 2")
            .send(&[bind("", "", &[]), execute("", 0), sync()])
            .ready(),
    ]
}
