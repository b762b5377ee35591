//! Tables of statements and their effects; the oracle's crate compares generated ones with PostgreSQL's parse trees.

mod objects;
mod settings;

use super::classify;
use crate::sql::effect::{
    Effect, Isolation, Scope, Setting, Statement, Transaction, TransactionModes, Value,
};
use crate::sql::literal::Datum;
use crate::sql::{Dialect, may_have_effects};

const ESCAPING: Dialect =
    Dialect { standard_conforming_strings: false, ascii_safe: true, ascii_folding: true };

fn datum(datum: &Datum) -> String {
    match datum {
        Datum::Text(text) => format!("<{}>", String::from_utf8_lossy(text)),
        Datum::Parameter(number) => format!("${number}"),
        Datum::Null => "null".to_owned(),
        Datum::Unknown => "?".to_owned(),
    }
}

fn setting(setting: &Setting) -> String {
    let scope = match setting.scope {
        Scope::Session => "set",
        Scope::Local => "local",
        Scope::Unknown => "set?",
    };
    let value = match &setting.value {
        Value::Default => "default".to_owned(),
        Value::Text(text) => format!("<{}>", String::from_utf8_lossy(text)),
        Value::Parameter(number) => format!("${number}"),
        Value::Unknown => "?".to_owned(),
    };
    let doubt = if setting.certain { "" } else { " perhaps" };
    format!("{scope} {}={value}{doubt}", datum(&setting.name))
}

fn modes(modes: &TransactionModes) -> String {
    let switch =
        |name: &str, value: Option<bool>| value.map(|on| format!(" {name}={on}")).unwrap_or_default();
    let isolation = modes.isolation.map(|level| format!(" {}", Isolation::value(level))).unwrap_or_default();
    format!("{isolation}{}{}", switch("ro", modes.read_only), switch("deferrable", modes.deferrable))
}

fn transaction(transaction: &Transaction) -> String {
    let chained = |chain: bool| if chain { " chain" } else { "" };
    match transaction {
        Transaction::Begin(named) => format!("begin{}", modes(named)),
        Transaction::Commit { chain } => format!("commit{}", chained(*chain)),
        Transaction::Rollback { chain } => format!("rollback{}", chained(*chain)),
        Transaction::Savepoint(name) => format!("savepoint {}", datum(name)),
        Transaction::Release(name) => format!("release {}", datum(name)),
        Transaction::RollbackTo(name) => format!("rollback to {}", datum(name)),
        Transaction::Prepare(name) => format!("prepare transaction {}", datum(name)),
        Transaction::CommitPrepared(name) => format!("commit prepared {}", datum(name)),
        Transaction::RollbackPrepared(name) => format!("rollback prepared {}", datum(name)),
        Transaction::Set(named) => format!("set transaction{}", modes(named)),
        Transaction::Snapshot => "snapshot".to_owned(),
    }
}

fn show(effect: &Effect) -> String {
    let one_or_all = |name: &Option<Datum>| name.as_ref().map_or("all".to_owned(), datum);
    match effect {
        Effect::Transaction(named) => transaction(named),
        Effect::Setting(named) => setting(named),
        Effect::Listen(channel) => format!("listen {}", datum(channel)),
        Effect::Unlisten(channel) => format!("unlisten {}", one_or_all(channel)),
        Effect::Notify(channel) => format!("notify {}", datum(channel)),
        Effect::Prepare { name, body } => format!("prepare {} [{}]", datum(name), list(body)),
        Effect::Execute(name) => format!("execute {}", datum(name)),
        Effect::Deallocate(name) => format!("deallocate {}", one_or_all(name)),
        Effect::DeclareCursor { name, hold } => {
            format!("cursor {}{}", datum(name), if *hold { " hold" } else { "" })
        }
        Effect::CloseCursor(name) => format!("close {}", one_or_all(name)),
        Effect::CreateTemporary { on_commit_drop: true } => "temporary until commit".to_owned(),
        Effect::CreateTemporary { on_commit_drop: false } => "temporary".to_owned(),
        Effect::AdvisoryUnlock { all: true } => "unlock all".to_owned(),
        Effect::AdvisoryUnlock { all: false } => "unlock".to_owned(),
        Effect::Copy { direction, client } => {
            format!("copy {direction:?} {}", if *client { "client" } else { "server" })
        }
        other => format!("{other:?}"),
    }
}

fn list(effects: &[Effect]) -> String {
    effects.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn check_in(dialect: Dialect, text: &str, expected: &str) {
    let found = classify(text.as_bytes(), dialect);
    let statements: Vec<_> =
        found.statements.iter().map(|statement: &Statement| list(&statement.effects)).collect();
    assert_eq!(statements.join("; "), expected, "{text:?}");
    assert!(found.is_empty() || may_have_effects(text.as_bytes(), dialect), "{text:?}");
}

/// The effects of each statement: commas between them, semicolons between the statements.
fn check(text: &str, expected: &str) {
    check_in(Dialect::default(), text, expected);
}

#[test]
fn transactions() {
    check("begin; start transaction; BEGIN WORK; begin transaction", "begin; begin; begin; begin");
    check(
        "begin isolation level serializable, read write not deferrable",
        "begin serializable ro=false deferrable=false",
    );
    check("start transaction read only, isolation level read uncommitted", "begin read uncommitted ro=true");
    check("begin isolation level repeatable read deferrable", "begin repeatable read deferrable=true");
    check(
        "commit; end work; COMMIT TRANSACTION AND NO CHAIN; end and chain",
        "commit; commit; commit; commit chain",
    );
    check("rollback; abort work and chain; ROLLBACK AND NO CHAIN", "rollback; rollback chain; rollback");
    check("savepoint A; release a; release savepoint \"B\"", "savepoint <a>; release <a>; release <B>");
    check("rollback to a; rollback work to savepoint b", "rollback to <a>; rollback to <b>");
    check("release savepoint; rollback to savepoint", "release <savepoint>; rollback to <savepoint>");
    check("prepare transaction 'x'", "prepare transaction <x>");
    check("commit prepared 'x'; rollback prepared E'\\x41'", "commit prepared <x>; rollback prepared <A>");
    check("set transaction isolation level read committed", "set transaction read committed");
    check(
        "set local transaction read only; SET SESSION TRANSACTION READ WRITE",
        "set transaction ro=true; set transaction ro=false",
    );
    check("set transaction snapshot '0003'", "snapshot");
    check(
        "begin foo; commit and; start; rollback to",
        "Unknown(Form); Unknown(Form); Unknown(Form); Unknown(Form)",
    );
    check("begin read only,; set transaction", "Unknown(Form); Unknown(Form)");
}

#[test]
fn statements_without_effects() {
    check("", "");
    for text in [
        "select * from set",
        "update t set listen = 1",
        "insert into temp values (1)",
        "insert into temp (a) select 1",
        "select temp from t",
        "select 1 into t",
        "insert into temp overriding system value values (1)",
        "insert into temp as t default values",
        "merge into temp using x on true when matched then delete",
        "merge into temp t using x on true when matched then delete",
        "select 'set_config(''a'', ''b'', false)', $$nextval('s')$$ /* pg_advisory_lock(1) */",
        "select my.nextval('s'), \"SET_CONFIG\"('a', 'b', true), set_config",
        "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)",
        "select setting from pg_settings for update",
        "show search_path",
        "create table t (a int)",
        "create function f() returns int language sql begin atomic select nextval('s'); set x = 1; end",
        "create or replace view v as select set_config('a', 'b', false)",
        "explain select nextval('s')",
        "explain (analyze off) select pg_advisory_lock(1)",
        "explain (costs, analyze false) create temp table t as select 1",
        "alter table t add column c int",
        "vacuum; analyze; fetch c; lock t; truncate t; grant select on t to u",
        "set constraints all deferred",
    ] {
        let count = text.matches("; ").count();
        let expected = if text.contains("begin atomic") { String::new() } else { "; ".repeat(count) };
        check(text, &expected);
    }
}

#[test]
fn what_cannot_be_decided_is_unknown() {
    check("frobnicate; 12; \"set\" x = 1", "Unknown(Command); Unknown(Command); Unknown(Command)");
    check("set; set x; set x =; set x = 1 2; reset", ["Unknown(Form)"; 5].join("; ").as_str());
    check(
        "listen; listen a b; unlisten; notify a,; discard; discard foo",
        ["Unknown(Form)"; 6].join("; ").as_str(),
    );
    check(
        "prepare a; prepare a as commit; execute; deallocate; declare c; close",
        ["Unknown(Form)"; 6].join("; ").as_str(),
    );
    check(
        "explain explain select 1; explain (a b c) select 1; explain",
        ["Unknown(Form)"; 3].join("; ").as_str(),
    );
    check("copy t", "Unknown(Form)");
    let legacy = Dialect { ascii_safe: false, ..Dialect::default() };
    check_in(legacy, "select 'é'; set x = 1", "Unknown(Encoding)");
    check_in(legacy, "set x = 1", "set <x>=<1>");
}
