//! Simple query, FunctionCall, notices, and what fails in them.

use crate::encode::{flush, function_call, query, sync, terminate};
use crate::script::Script;

pub fn scripts() -> Vec<Script> {
    [results(), errors(), transactions(), other_messages(), session_state()].concat()
}

fn results() -> Vec<Script> {
    vec![
        Script::new("one row").query("SELECT 1"),
        Script::new("types and NULL").query(
            "SELECT 1::int2, 2::int8, 1.5::float8, 'text', NULL::text, '2020-01-02'::date, \
             '{1,2}'::int[], '\\x00ff'::bytea, true, '{\"a\": 1}'::jsonb",
        ),
        Script::new("no column, no row").query("SELECT").query("SELECT 1 WHERE false"),
        Script::new("empty query").query("").query("  ").query(";").query("-- only a comment"),
        Script::new("several statements").query("SELECT 1; SELECT 2, 3; SELECT 4 WHERE false"),
        Script::new("several statements with empty ones").query(";SELECT 1;;SELECT 2;"),
        Script::new("many rows").query("SELECT n, repeat('x', n % 100) FROM generate_series(1, 20000) n"),
        Script::new("one row of 4 MB").query("SELECT repeat('0123456789abcdef', 262144)"),
        Script::new("a query of 1 MB").query(&format!("SELECT length('{}')", "y".repeat(1 << 20))),
        Script::new("command tags").query(
            "INSERT INTO item VALUES (2001, 'a', 1), (2002, 'b', 2); UPDATE item SET name = 'c' WHERE id > 2000; \
             DELETE FROM item WHERE id > 2000; CREATE TEMP TABLE t ON COMMIT DROP AS SELECT 1 AS n",
        ),
        Script::new("UTF-8").query("SELECT 'Пёс', '犬', '🐘', E'tab\\tnewline\\n'"),
    ]
}

fn errors() -> Vec<Script> {
    vec![
        Script::new("syntax error").query("SELEKT 1").query("SELECT 1"),
        Script::new("no such table").query("SELECT * FROM nowhere"),
        Script::new("error among several statements").query("SELECT 1; SELECT 1/0; SELECT 3").query("SELECT 4"),
        Script::new("error after rows").query("SELECT 100 / (50 - n) FROM generate_series(1, 100) n"),
        Script::new("duplicate key, with detail").query("INSERT INTO item VALUES (1, 'again', 0)"),
        Script::new("raised, with every field").query(
            "DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ZZ123', COLUMN = 'c', \
             CONSTRAINT = 'k', DATATYPE = 't', TABLE = 'b', SCHEMA = 's'; END $$",
        ),
        Script::new("notices").query("SELECT notice('one'), notice('two'); DROP TABLE IF EXISTS nowhere; SELECT 1"),
        Script::new("notice and error").query("SELECT notice('one'); SELECT 1/0"),
        Script::new("warning").query("ROLLBACK").query("COMMIT"),
        Script::new("statement timeout").query("BEGIN; SET LOCAL statement_timeout = 50; SELECT pg_sleep(60)")
            .query("ROLLBACK"),
        Script::new("invalid UTF-8").send(&[crate::encode::message(b'Q', b"SELECT '\xff\xfe'\0")]).ready().query("SELECT 1"),
        Script::new("Query without its terminator").send(&[crate::encode::message(b'Q', b"SELECT 1")]).ready()
            .query("SELECT 2"),
        Script::new("Query with bytes behind its terminator").send(&[crate::encode::message(b'Q', b"SELECT 1\0x\0")])
            .ready().query("SELECT 2"),
    ]
}

fn transactions() -> Vec<Script> {
    vec![
        Script::new("commit")
            .query("BEGIN")
            .query("INSERT INTO sink VALUES (1)")
            .query("COMMIT")
            .check("SELECT count(*) FROM sink"),
        Script::new("rollback")
            .query("BEGIN")
            .query("INSERT INTO sink VALUES (1)")
            .query("ROLLBACK")
            .check("SELECT count(*) FROM sink"),
        Script::new("failed transaction")
            .query("BEGIN")
            .query("SELECT 1/0")
            .query("SELECT 1")
            .query("COMMIT")
            .query("SELECT 2"),
        Script::new("savepoint")
            .query("BEGIN")
            .query("SAVEPOINT a")
            .query("SELECT 1/0")
            .query("ROLLBACK TO a")
            .query("SELECT 1")
            .query("COMMIT"),
        Script::new("transaction in one message")
            .query("BEGIN; INSERT INTO sink VALUES (1); COMMIT; SELECT count(*) FROM sink"),
        Script::new("begin at the end of a message")
            .query("SELECT 1; BEGIN")
            .query("SELECT 2")
            .query("COMMIT; SELECT 3"),
        Script::new("chained transactions")
            .query("BEGIN")
            .query("SELECT 1")
            .query("COMMIT AND CHAIN")
            .query("SELECT 2")
            .query("ROLLBACK AND CHAIN")
            .query("COMMIT"),
        Script::new("nested begin").query("BEGIN").query("BEGIN").query("ROLLBACK"),
        Script::new("left open")
            .query("BEGIN")
            .query("INSERT INTO sink VALUES (1)")
            .terminate()
            .check("SELECT count(*) FROM sink"),
        Script::new("cut while open")
            .query("BEGIN")
            .query("INSERT INTO sink VALUES (1)")
            .cut()
            .check("SELECT count(*) FROM sink"),
        Script::new("cursor")
            .query("BEGIN")
            .query("DECLARE c CURSOR FOR SELECT id FROM item ORDER BY id")
            .query("FETCH 3 FROM c")
            .query("MOVE 10 IN c")
            .query("FETCH 2 FROM c")
            .query("CLOSE c")
            .query("COMMIT"),
        Script::new("SET LOCAL")
            .query("BEGIN; SET LOCAL datestyle = 'German'; SELECT '2020-01-02'::date; COMMIT")
            .query("SELECT '2020-01-02'::date"),
        Script::new("SET in a transaction that is rolled back")
            .query("BEGIN")
            .query("SET datestyle = 'German'")
            .query("ROLLBACK")
            .query("SELECT '2020-01-02'::date"),
    ]
}

fn other_messages() -> Vec<Script> {
    // int4pl and int4div, as every PostgreSQL numbers them.
    const ADD: u32 = 177;
    const DIVIDE: u32 = 154;
    vec![
        Script::new("FunctionCall").send(&[function_call(ADD, &["2", "3"])]).ready(),
        Script::new("FunctionCall that fails")
            .send(&[function_call(DIVIDE, &["1", "0"])])
            .ready()
            .query("SELECT 1"),
        Script::new("FunctionCall of nothing").send(&[function_call(4_000_000_000, &[])]).ready(),
        Script::new("FunctionCall in a transaction")
            .query("BEGIN")
            .send(&[function_call(ADD, &["2", "3"])])
            .ready()
            .query("SELECT 1/0")
            .send(&[function_call(ADD, &["2", "3"])])
            .ready()
            .query("ROLLBACK"),
        Script::new("Sync by itself").send(&[sync()]).ready().send(&[sync(), sync(), sync()]).ready_times(3),
        Script::new("Flush by itself").send(&[flush(), flush()]).query("SELECT 1"),
        Script::new("Terminate by itself").terminate(),
        Script::new("Terminate behind a Query")
            .send(&[query("INSERT INTO sink VALUES (1)"), terminate()])
            .end()
            .check("SELECT count(*) FROM sink"),
    ]
}

fn session_state() -> Vec<Script> {
    let script = |name| Script::new(name).session_only();
    vec![
        script("SET that reports")
            .query("SET application_name = 'other'")
            .query("SET datestyle = 'German'")
            .query("SELECT '2020-01-02'::date")
            .query("RESET ALL"),
        script("temporary table")
            .query("CREATE TEMP TABLE t (n int)")
            .query("INSERT INTO t VALUES (1)")
            .query("SELECT n + 0 AS n FROM t"),
        script("PREPARE")
            .query("PREPARE p AS SELECT $1::int + 1")
            .query("EXECUTE p(41)")
            .query("DEALLOCATE p")
            .query("EXECUTE p(1)"),
        script("advisory lock")
            .query("SELECT pg_advisory_lock(42)")
            .query("SELECT pg_advisory_unlock(42)")
            .query("SELECT pg_advisory_unlock(42)"),
        script("NOTIFY to oneself")
            .query("LISTEN c")
            .query("NOTIFY c, 'payload'")
            .query("UNLISTEN *")
            .query("NOTIFY c, 'unheard'"),
        script("cursor WITH HOLD")
            .query("DECLARE c CURSOR WITH HOLD FOR SELECT id FROM item ORDER BY id")
            .query("FETCH 2 FROM c")
            .query("FETCH 2 FROM c")
            .query("CLOSE c"),
        script("DISCARD ALL").query("SET datestyle = 'German'").query("DISCARD ALL").query("SHOW datestyle"),
    ]
}
