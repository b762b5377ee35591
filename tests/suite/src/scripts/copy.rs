//! COPY in both directions, with each way to end it.

use crate::encode::{
    bind, copy_data, copy_done, copy_fail, execute, flush, function_call, parse, query, sync,
};
use crate::script::Script;

const COUNT: &str = "SELECT count(*) FROM sink";

pub fn scripts() -> Vec<Script> {
    [copy_in(), copy_in_that_fails(), copy_in_left(), copy_in_extended(), copy_out()].concat()
}

/// A COPY FROM STDIN that waits for data.
fn started(name: &'static str) -> Script {
    Script::new(name).send(&[query("COPY sink FROM STDIN")]).until(b'G')
}

fn row(number: u32) -> Vec<u8> {
    copy_data(format!("{number}\trow {number}\n").as_bytes())
}

fn copy_in() -> Vec<Script> {
    let rows: Vec<Vec<u8>> = (1..=5000).map(row).collect();
    vec![
        started("CopyDone").send(&[row(1), row(2), copy_done()]).ready().check(COUNT),
        started("CopyDone without data").send(&[copy_done()]).ready().check(COUNT),
        started("5000 rows")
            .send(&rows)
            .send(&[copy_done()])
            .ready()
            .check("SELECT count(*), sum(a) FROM sink"),
        started("a row in pieces")
            .send(&[copy_data(b"1\tr"), copy_data(b""), copy_data(b"ow\n2\tx\n"), copy_done()])
            .ready()
            .check(COUNT),
        started("1 MB in one message")
            .send(&[copy_data(&b"7\tseven\n".repeat(131_072)), copy_done()])
            .ready()
            .check(COUNT),
        started("Sync during COPY").send(&[row(1), sync(), row(2), sync(), copy_done()]).ready().check(COUNT),
        started("Flush during COPY")
            .send(&[row(1), flush(), row(2), flush(), copy_done()])
            .ready()
            .check(COUNT),
        Script::new("statements around COPY")
            .send(&[query(
                "SELECT 1; COPY sink FROM STDIN; SELECT count(*) FROM sink; COPY sink FROM STDIN; SELECT 2",
            )])
            .until(b'G')
            .send(&[row(1), copy_done()])
            .until(b'G')
            .send(&[row(2), copy_done()])
            .ready()
            .check(COUNT),
        Script::new("in a transaction")
            .query("BEGIN")
            .send(&[query("COPY sink FROM STDIN")])
            .until(b'G')
            .send(&[row(1), copy_done()])
            .ready()
            .query("ROLLBACK")
            .check(COUNT),
        Script::new("CSV with a header")
            .send(&[query("COPY sink FROM STDIN (FORMAT csv, HEADER)")])
            .until(b'G')
            .send(&[copy_data(b"a,b\n1,\"x\ny\"\n"), copy_done()])
            .ready()
            .check(COUNT),
        Script::new("all in one segment")
            .send(&[query("COPY sink FROM STDIN"), row(1), copy_done(), query("SELECT 2")])
            .ready_times(2)
            .check(COUNT),
    ]
}

fn copy_in_that_fails() -> Vec<Script> {
    vec![
        started("CopyFail")
            .send(&[row(1), copy_fail("changed my mind")])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        started("bad data at the end")
            .send(&[copy_data(b"x\ty\n"), copy_done()])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        started("bad data, and more behind it")
            .send(&[row(1), copy_data(b"x\ty\n")])
            .send(&(1..=2000).map(row).collect::<Vec<_>>())
            .send(&[copy_done()])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        started("bad data in a transaction")
            .send(&[copy_data(b"x\ty\n"), copy_done()])
            .ready()
            .query("BEGIN")
            .send(&[query("COPY sink FROM STDIN")])
            .until(b'G')
            .send(&[copy_data(b"x\n"), copy_done()])
            .ready()
            .query("SELECT 1")
            .query("ROLLBACK")
            .check(COUNT),
        started("Query during COPY")
            .versions(14..=u32::MAX)
            .send(&[row(1), query("SELECT 1")])
            .end()
            .check(COUNT),
        // Read by the COPY as an error, and not answered any more. That it was is not to be known from outside, so the
        // connection is the client's to its end.
        started("Query during COPY, as it was")
            .versions(0..=13)
            .send(&[row(1), query("SELECT 1")])
            .ready()
            .query("SELECT 2")
            .cut()
            .check(COUNT),
        started("FunctionCall during COPY")
            .versions(14..=u32::MAX)
            .send(&[row(1), function_call(177, &["1", "2"])])
            .end()
            .check(COUNT),
        Script::new("refused")
            .send(&[query("COPY nowhere FROM STDIN"), row(1), copy_done()])
            .ready()
            .query("SELECT 1"),
        Script::new("CopyData outside of COPY")
            .send(&[row(1), copy_done(), copy_fail("what")])
            .query("SELECT 1"),
    ]
}

fn copy_in_left() -> Vec<Script> {
    vec![
        started("Terminate during COPY").send(&[row(1), crate::encode::terminate()]).cut().check(COUNT),
        started("cut during COPY").send(&[row(1)]).cut().check(COUNT),
        started("cut within a message").send(&[row(1), row(2)[..6].to_vec()]).cut().check(COUNT),
    ]
}

fn copy_in_extended() -> Vec<Script> {
    let start = [parse("", "COPY sink FROM STDIN"), bind("", "", &[]), execute("", 0)].concat();
    vec![
        Script::new("extended, Sync after CopyDone")
            .send(&[start.clone(), flush()])
            .until(b'G')
            .send(&[row(1), copy_done(), sync()])
            .ready()
            .check(COUNT),
        Script::new("extended, Sync before the data")
            .send(&[start.clone(), sync()])
            .until(b'G')
            .send(&[row(1), copy_done(), sync()])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        Script::new("extended, all in one segment")
            .send(&[start.clone(), row(1), copy_done(), sync(), query("SELECT 1")])
            .ready_times(2)
            .check(COUNT),
        Script::new("extended, CopyFail")
            .send(&[start.clone(), flush()])
            .until(b'G')
            .send(&[row(1), copy_fail("no"), sync()])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        Script::new("extended, bad data, skipped until Sync")
            .send(&[start.clone(), flush()])
            .until(b'G')
            .send(&[copy_data(b"x\n"), row(2), copy_done(), execute("", 0), sync()])
            .ready()
            .query("SELECT 1")
            .check(COUNT),
        Script::new("extended, a message that does not belong")
            .versions(14..=u32::MAX)
            .send(&[start, flush()])
            .until(b'G')
            .send(&[row(1), parse("", "SELECT 1"), sync()])
            .end()
            .check(COUNT),
    ]
}

fn copy_out() -> Vec<Script> {
    let extended = [parse("", "COPY item TO STDOUT"), bind("", "", &[]), execute("", 0), sync()].concat();
    vec![
        Script::new("copy out").query("COPY (SELECT id, name FROM item ORDER BY id) TO STDOUT"),
        Script::new("copy out, nothing").query("COPY sink TO STDOUT").query("SELECT 1"),
        Script::new("copy out, binary")
            .query("COPY (SELECT id, name FROM item ORDER BY id) TO STDOUT (FORMAT binary)"),
        Script::new("copy out, 100,000 rows")
            .query("COPY (SELECT n, n * 2 FROM generate_series(1, 100000) n) TO STDOUT"),
        Script::new("copy out that fails")
            .query("COPY (SELECT 100 / (50 - n) FROM generate_series(1, 100) n) TO STDOUT")
            .query("SELECT 1"),
        Script::new("copy out among others")
            .query("SELECT 1; COPY (SELECT 2) TO STDOUT; COPY (SELECT 3) TO STDOUT; SELECT 4"),
        Script::new("copy out in a failed transaction")
            .query("BEGIN")
            .query("COPY (SELECT 1/0) TO STDOUT")
            .query("COPY (SELECT 1) TO STDOUT")
            .query("ROLLBACK"),
        Script::new("copy out, extended").send(&[extended]).ready(),
        Script::new("copy out, extended, row limit")
            .send(&[parse("", "COPY item TO STDOUT"), bind("", "", &[]), execute("", 3), sync()])
            .ready(),
        Script::new("copy out, cut")
            .send(&[query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT")])
            .until(b'd')
            .cut()
            .check(COUNT),
        Script::new("copy in and out")
            .query("COPY (SELECT 1, 2) TO STDOUT")
            .send(&[query("COPY sink FROM STDIN")])
            .until(b'G')
            .send(&[row(1), copy_done()])
            .ready()
            .query("COPY sink TO STDOUT")
            .check(COUNT),
    ]
}
