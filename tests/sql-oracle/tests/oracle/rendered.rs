//! Our effects in the words in which `expected` puts PostgreSQL's.

use halephant::sql::effect::{Effect, Scope, Sequence, Setting, Transaction, TransactionModes, Value};
use halephant::sql::literal::Datum;

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
    format!("{scope} {}={value}", datum(&setting.name))
}

fn modes(modes: &TransactionModes) -> String {
    let isolation = modes.isolation.map(|level| level.value());
    format!("{isolation:?} {:?} {:?}", modes.read_only, modes.deferrable)
}

fn transaction(transaction: &Transaction) -> String {
    match transaction {
        Transaction::Begin(named) => format!("begin {}", modes(named)),
        Transaction::Commit { chain } => format!("commit {chain}"),
        Transaction::Rollback { chain } => format!("rollback {chain}"),
        Transaction::Savepoint(name) => format!("savepoint {}", datum(name)),
        Transaction::Release(name) => format!("release {}", datum(name)),
        Transaction::RollbackTo(name) => format!("rollback to {}", datum(name)),
        Transaction::Prepare(name) => format!("prepare transaction {}", datum(name)),
        Transaction::CommitPrepared(name) => format!("commit prepared {}", datum(name)),
        Transaction::RollbackPrepared(name) => format!("rollback prepared {}", datum(name)),
        Transaction::Set(named) => format!("set transaction {}", modes(named)),
        Transaction::Snapshot => "snapshot".to_owned(),
    }
}

pub fn effect(effect: &Effect) -> String {
    let one_or_all = |name: &Option<Datum>| name.as_ref().map_or("all".to_owned(), datum);
    match effect {
        Effect::Transaction(named) => transaction(named),
        Effect::Setting(named) => setting(named),
        Effect::ResetAll => "reset all".to_owned(),
        Effect::Discard(what) => format!("discard {what:?}"),
        Effect::Listen(channel) => format!("listen {}", datum(channel)),
        Effect::Unlisten(channel) => format!("unlisten {}", one_or_all(channel)),
        Effect::Notify(channel) => format!("notify {}", datum(channel)),
        Effect::Prepare { name, body } => format!("prepare {} {:?}", datum(name), sorted(body)),
        Effect::Execute(name) => format!("execute {}", datum(name)),
        Effect::Deallocate(name) => format!("deallocate {}", one_or_all(name)),
        Effect::DeclareCursor { name, hold } => format!("cursor {} {hold}", datum(name)),
        Effect::CloseCursor(name) => format!("close {}", one_or_all(name)),
        Effect::Load => "load".to_owned(),
        Effect::CreateTemporary { on_commit_drop } => format!("temporary {on_commit_drop}"),
        Effect::UseTemporary => "uses temporary".to_owned(),
        Effect::AdvisoryLock => "lock".to_owned(),
        Effect::AdvisoryUnlock { all } => format!("unlock {all}"),
        Effect::Sequence(Sequence::Advance) => "advance".to_owned(),
        Effect::Sequence(Sequence::Recall) => "recall".to_owned(),
        Effect::SessionObject(object) => format!("{object:?}"),
        Effect::Copy { direction, client } => format!("copy {direction:?} {client}"),
        Effect::Opaque(what) => format!("opaque {what:?}"),
        Effect::Unknown(why) => format!("unknown {why:?}"),
    }
}

/// Effects without regard to their order within a statement.
pub fn sorted(effects: &[Effect]) -> Vec<String> {
    let mut words: Vec<_> = effects.iter().map(effect).collect();
    words.sort();
    words
}
