//! Generated statements: templates of PostgreSQL's grammar with names, values and expressions drawn for their blanks.

use super::soup;
use proptest::prelude::*;

/// A word with an @ is a blank; see [`blank`].
const TEMPLATES: &[&str] = &[
    "begin @modes",
    "begin work @modes",
    "begin transaction @modes",
    "start transaction @modes",
    "commit @work @chain",
    "end @work @chain",
    "rollback @work @chain",
    "abort @work @chain",
    "savepoint @name",
    "release @name",
    "release savepoint @name",
    "rollback @work to @name",
    "rollback @work to savepoint @name",
    "prepare transaction @string",
    "commit prepared @string",
    "rollback prepared @string",
    "set transaction @mode @modes",
    "set @scope transaction @mode , @mode",
    "set transaction snapshot @string",
    "set session characteristics as transaction @mode @modes",
    "set @scope session characteristics as transaction @mode",
    "set @scope @parameter to @value",
    "set @scope @parameter = @value , @value , @value",
    "set @scope @parameter = default",
    "set @scope @parameter from current",
    "set @scope search_path to @value , @value",
    "set search_path = @name",
    "set @scope temp_tablespaces = @value",
    "set @scope time zone @zone",
    "set @scope names @string",
    "set names",
    "set names default",
    "set @scope schema @string",
    "set @scope role @word",
    "set @scope session authorization @word",
    "set session authorization default",
    "set @scope xml option document",
    "set xml option content",
    "set constraints all deferred",
    "reset @parameter",
    "reset all",
    "reset time zone",
    "reset transaction isolation level",
    "reset session authorization",
    "discard all",
    "discard temp",
    "discard temporary",
    "discard plans",
    "discard sequences",
    "listen @name",
    "unlisten @name",
    "unlisten *",
    "notify @name",
    "notify @name , @string",
    "prepare @name as @query",
    "prepare @name ( int , text ) as @query",
    "execute @name",
    "execute @name ( @expression , 1 )",
    "deallocate @name",
    "deallocate prepare @name",
    "deallocate all",
    "deallocate prepare all",
    "declare @name cursor for @query",
    "declare @name binary no scroll cursor with hold for select @expression",
    "declare @name insensitive cursor without hold for select @expression",
    "close @name",
    "close all",
    "load @string",
    "create @temporary table @name ( a int default 1 )",
    "create @temporary table if not exists @name ( a int ) on commit delete rows",
    "create temp table @name ( a int ) on commit drop",
    "create @temporary table @name as select @expression",
    "create table @name as execute @name",
    "create temporary table @name as execute @name ( 1 )",
    "create temp table @name ( a ) on commit drop as select @expression",
    "create @temporary sequence @name",
    "create or replace temp view @name as select @expression",
    "create temp recursive view @name ( a ) as select @expression",
    "create table pg_temp . @name ( )",
    "create function @name ( ) returns int language sql as @string",
    "create function @name ( ) returns int begin atomic select @expression ; end",
    "create view @name as select @expression",
    "create rule r as on insert to t do also ( select @expression ; notify x )",
    "copy @name from stdin",
    "copy @name ( a , b ) to stdout",
    "copy @name to @path",
    "copy ( @query ) to program @path",
    "copy ( select @expression ) to stdout ( format csv )",
    "do @string",
    "call @name ( @expression )",
    "explain @query",
    "explain analyze @query",
    "explain verbose select @expression",
    "explain ( analyze , costs off ) @query",
    "explain ( costs , analyze @switch ) select @expression",
    "explain ( analyze @switch , analyse @switch ) select @expression",
    "explain execute @name",
    "explain analyze execute @name ( @expression )",
    "explain create table @name as execute @name",
    "explain ( @query )",
    "@query",
    "( @query )",
    "select @expression , @expression from t where @expression is null",
    "select 1 into @into @name from t",
    "with x as ( @query ) select * from x",
    "update pg_settings set setting = @string",
    "with x as ( update pg_catalog . pg_settings set setting = @string returning 1 ) select 1",
    "select * from pg_temp . @name",
    "delete from pg_temp . @name where @expression is null",
    "select @expression for update",
    "insert into temp select @expression",
    "insert into temp values ( @expression )",
    "table temp",
    "show @parameter",
    "vacuum",
    "fetch @name",
    "lock t",
];

const NAMES: &[&str] = &[
    "a",
    "foo",
    "pg_x",
    "é",
    "temp",
    "savepoint",
    "prepare",
    "transaction",
    "session",
    "\"Foo\"",
    "\"a\"\"b c\"",
    "\"é;\"",
    "u&\"d\\0061t\"",
    "\"select\"",
    "_1$",
    "a2345678901234567890123456789012345678901234567890123456789012345678901234567890",
];
const STRINGS: &[&str] = &[
    "'a'",
    "''",
    "'it''s'",
    "'a\\b'",
    "'é'",
    "'; commit'",
    "'pg_temp'",
    "E'\\'x\\\\\\n\\x41\\101'",
    "$$a'b$$",
    "$t$;$$ $t$",
    "U&'d\\0061t'",
    "'a'\n'b'",
    "E'a' -- '\n '\\t'",
    "'on'",
    "'Select'",
];
const NUMBERS: &[&str] =
    &["0", "1", "42", "1.5", ".5e3", "0x1f", "0b101", "1_000", "2147483647", "2147483648", "007"];
const WORDS: &[&str] = &[
    "on", "off", "true", "false", "foo", "none", "\"Bar\"", "utf8", "pg_temp", "read", "values", "left", "é",
];
const PARAMETERS: &[&str] = &[
    "work_mem",
    "search_path",
    "my.param",
    "default_transaction_read_only",
    "\"Application_Name\"",
    "\"My\" . \"Param\"",
    "timezone",
    "role",
    "local",
    "session",
    "time",
    "names",
    "xml",
    "transaction",
    "schema",
    "session.x",
    "local.y",
];
const MODES: &[&str] = &[
    "read only",
    "read write",
    "isolation level serializable",
    "isolation level repeatable read",
    "isolation level read committed",
    "isolation level read uncommitted",
    "deferrable",
    "not deferrable",
];
const FUNCTIONS: &[&str] = &[
    "pg_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_unlock",
    "nextval",
    "setval",
    "currval",
    "pg_catalog . nextval",
    "my . nextval",
    "\"nextval\"",
    "\"Nextval\"",
    "u&\"next\\0076al\"",
    "db . pg_catalog . currval",
    "setseed",
    "lower",
    "pg_create_logical_replication_slot",
    "pg_backup_start",
    "dblink_connect",
];
const CONFIG_NAMES: &[&str] =
    &["'work_mem'", "'Work_Mem'", "$1", "'my.x'::text", "E'my.\\x78'", "lower ( 'X' )", "$$a$$"];
const CONFIG_VALUES: &[&str] = &[
    "'x'",
    "$2",
    "null",
    "'x'::text",
    "'x'::pg_catalog.varchar",
    "'x'::char(3)",
    "'x' || 'y'",
    "5",
    "$2 :: text",
    "( select 'x' )",
    "E'\\n'",
];
const CONFIG_SCOPES: &[&str] = &["true", "false", "'t'", "'f'::bool", "$3", "null", "not true", "a = b"];

fn words(text: &str) -> Vec<String> {
    if text.contains(['\'', '"']) && !text.contains(" . ") && !text.contains("( ") {
        return vec![text.to_owned()];
    }
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn one_of(choices: &'static [&'static str]) -> BoxedStrategy<Vec<String>> {
    prop::sample::select(choices).prop_map(words).boxed()
}

fn template(text: &'static str, depth: u32) -> BoxedStrategy<Vec<String>> {
    let parts: Vec<BoxedStrategy<Vec<String>>> = text
        .split(' ')
        .map(|word| match word.strip_prefix('@') {
            Some(name) => blank(name, depth),
            None => Just(vec![word.to_owned()]).boxed(),
        })
        .collect();
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn blank(name: &str, depth: u32) -> BoxedStrategy<Vec<String>> {
    match name {
        "name" => one_of(NAMES),
        "string" => one_of(STRINGS),
        "path" => one_of(&["'/x'", "$$x y$$"]),
        "word" => prop_oneof![one_of(&["foo", "none", "\"Bar\"", "é"]), one_of(STRINGS)].boxed(),
        "value" => prop_oneof![one_of(WORDS), one_of(STRINGS), signed()].boxed(),
        "zone" => prop_oneof![
            one_of(&["local", "default", "utc", "interval '1' hour to minute"]),
            one_of(STRINGS),
            signed()
        ]
        .boxed(),
        "parameter" => one_of(PARAMETERS),
        "scope" => one_of(&["", "", "session", "local"]),
        "work" => one_of(&["", "work", "transaction"]),
        "chain" => one_of(&["", "and chain", "and no chain"]),
        "temporary" => one_of(&["", "temp", "temporary", "local temp", "global temporary", "unlogged"]),
        "into" => one_of(&["", "temp", "temporary table", "local temp", "unlogged", "table"]),
        "switch" => one_of(&["", "on", "off", "true", "false", "1", "0", "'off'"]),
        "mode" => one_of(MODES),
        "modes" => (prop::collection::vec(one_of(MODES), 0..3), any::<bool>())
            .prop_map(|(modes, commas)| {
                modes.join(&if commas { vec![",".to_owned()] } else { Vec::new() }[..])
            })
            .boxed(),
        "query" => query(depth),
        "expression" => expression(depth),
        other => panic!("no blank {other}"),
    }
}

fn signed() -> BoxedStrategy<Vec<String>> {
    (one_of(&["", "-", "+"]), one_of(NUMBERS)).prop_map(|(sign, number)| [sign, number].concat()).boxed()
}

fn query(depth: u32) -> BoxedStrategy<Vec<String>> {
    let one = prop::sample::select(&[
        "select @expression",
        "values ( @expression )",
        "insert into t values ( @expression )",
        "update t set a = @expression",
        "delete from t where a = @expression",
        "select * from t , lateral ( select @expression ) x",
    ] as &[_]);
    let simple = prop::sample::select(&["select @expression", "values ( @expression )"] as &[_]);
    // A data-modifying statement is not allowed in parentheses, so some of these texts do not parse.
    prop_oneof![3 => simple, 1 => one].prop_flat_map(move |text| template(text, depth)).boxed()
}

fn expression(depth: u32) -> BoxedStrategy<Vec<String>> {
    let leaf = prop_oneof![
        one_of(STRINGS),
        one_of(NUMBERS),
        one_of(&["a", "x.y", "set_config", "$1", "null", "case when true then 1 end"]),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let call = (one_of(FUNCTIONS), expression(depth - 1))
        .prop_map(|(name, argument)| [name, words("("), argument, words(")")].concat());
    let config = (one_of(CONFIG_NAMES), one_of(CONFIG_VALUES), one_of(CONFIG_SCOPES)).prop_map(
        |(name, value, scope)| {
            [words("set_config ("), name, words(","), value, words(","), scope, words(")")].concat()
        },
    );
    let notify = one_of(STRINGS).prop_map(|name| [words("pg_notify ("), name, words(", 'x' )")].concat());
    prop_oneof![2 => leaf, 3 => call, 2 => config, 1 => notify].boxed()
}

/// The words of one statement.
pub fn statement() -> BoxedStrategy<Vec<String>> {
    prop::sample::select(TEMPLATES).prop_flat_map(|text| template(text, 2)).boxed()
}

/// A text of several statements in disguise: any case, any white space, comments anywhere.
pub fn script() -> BoxedStrategy<String> {
    prop::collection::vec((statement(), 1..3usize), 1..4)
        .prop_flat_map(|statements| {
            let mut words = Vec::new();
            for (statement, semicolons) in statements {
                words.extend(statement);
                words.extend(std::iter::repeat_n(";".to_owned(), semicolons));
            }
            soup::disguised(words)
        })
        .boxed()
}

/// A statement with some of its words taken away, doubled, swapped or replaced: most are wrong, some are another statement.
pub fn mutant() -> BoxedStrategy<String> {
    let vocabulary = || {
        prop::sample::select(&[
            "to",
            "=",
            ".",
            "from",
            "session",
            "local",
            "set",
            "all",
            ",",
            ";",
            "(",
            ")",
            "as",
            "temp",
            "table",
            "into",
            "insert",
            "merge",
            "prepare",
            "transaction",
            "savepoint",
            "default",
            "select",
            "begin",
            "end",
            "atomic",
            "values",
            "work",
            "chain",
            "analyze",
            "create",
            "function",
            "on",
            "commit",
            "drop",
            "hold",
            "with",
            "execute",
            "time",
            "zone",
            "names",
            "role",
            "1",
            "'x'",
            "a",
            "*",
        ] as &[&str])
    };
    (statement(), prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, vocabulary()), 1..4))
        .prop_flat_map(|(mut words, changes)| {
            for (at, change, word) in changes {
                let at = at.index(words.len().max(1));
                match change {
                    0 if at < words.len() => drop(words.remove(at)),
                    1 if at < words.len() => words[at] = word.to_owned(),
                    2 if at + 1 < words.len() => words.swap(at, at + 1),
                    _ => words.insert(at.min(words.len()), word.to_owned()),
                }
            }
            soup::disguised(words)
        })
        .boxed()
}
