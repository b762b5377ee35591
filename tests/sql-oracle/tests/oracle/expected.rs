//! What PostgreSQL's parse tree says a statement does to the session.

use super::tree::{constant, list, names, node, number, text, walk};
use pg_query::protobuf::KeywordKind;
use serde_json::Value;

/// The effects of a statement, sorted.
pub fn effects(statement: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if let Some((name, fields)) = node(statement) {
        utility(name, fields, &mut out);
        if !matches!(name, "ExplainStmt" | "PrepareStmt" | "CreateFunctionStmt" | "ViewStmt" | "RuleStmt") {
            calls(statement, &mut out);
        }
        temporary(statement, &mut out);
    }
    out.sort();
    out
}

fn utility(name: &str, fields: &Value, out: &mut Vec<String>) {
    let one_or_all = |name: &str| if name.is_empty() { "all".to_owned() } else { format!("<{name}>") };
    match name {
        "TransactionStmt" => out.push(transaction(fields)),
        "VariableSetStmt" => variable(fields, out),
        "DiscardStmt" => {
            out.push(format!(
                "discard {}",
                ["", "All", "Plans", "Sequences", "Temporary"][number(fields, "target") as usize]
            ));
        }
        "ListenStmt" => out.push(format!("listen <{}>", text(fields, "conditionname"))),
        "UnlistenStmt" => out.push(format!("unlisten {}", one_or_all(text(fields, "conditionname")))),
        "NotifyStmt" => out.push(format!("notify <{}>", text(fields, "conditionname"))),
        "PrepareStmt" => {
            out.push(format!("prepare <{}> {:?}", text(fields, "name"), effects(&fields["query"])))
        }
        "ExecuteStmt" => out.push(format!("execute <{}>", text(fields, "name"))),
        "DeallocateStmt" => out.push(format!("deallocate {}", one_or_all(text(fields, "name")))),
        "DeclareCursorStmt" => {
            let hold = number(fields, "options") & 0x20 != 0;
            out.push(format!("cursor <{}> {hold}", text(fields, "portalname")));
        }
        "ClosePortalStmt" => out.push(format!("close {}", one_or_all(text(fields, "portalname")))),
        "LoadStmt" => out.push("load".to_owned()),
        "DoStmt" => out.push("opaque Do".to_owned()),
        "CallStmt" => out.push("opaque Call".to_owned()),
        "CopyStmt" => {
            let direction = if fields["is_from"] == true { "In" } else { "Out" };
            let client = fields["is_program"] == false && text(fields, "filename").is_empty();
            out.push(format!("copy {direction} {client}"));
        }
        "CreateTableAsStmt" => out.extend(executed(fields)),
        "ExplainStmt" => explain(fields, out),
        _ => {}
    }
}

/// CREATE TABLE AS EXECUTE.
fn executed(create: &Value) -> Option<String> {
    let ("ExecuteStmt", execute) = node(&create["query"])? else { return None };
    Some(format!("execute <{}>", text(execute, "name")))
}

fn explain(fields: &Value, out: &mut Vec<String>) {
    let analyzes = |option: &Value| {
        let value = constant_or_string(&option["arg"]);
        (text(option, "defname") == "analyze")
            .then_some(!matches!(value.as_deref(), Some("0" | "off" | "false")))
    };
    let options = list(fields, "options");
    let analyze = options.iter().filter_map(node).filter_map(|(_, option)| analyzes(option)).next_back();
    if analyze == Some(true) {
        // What it makes is looked for in the whole statement.
        let temporary = effects_of_temporary(&fields["query"]);
        out.extend(effects(&fields["query"]));
        for effect in temporary {
            if let Some(at) = out.iter().position(|other| *other == effect) {
                out.remove(at);
            }
        }
    } else if let Some((name, query)) = node(&fields["query"]) {
        match name {
            "ExecuteStmt" => out.push(format!("execute <{}>", text(query, "name"))),
            "CreateTableAsStmt" => out.extend(executed(query)),
            _ => {}
        }
    }
}

fn effects_of_temporary(statement: &Value) -> Vec<String> {
    let mut out = Vec::new();
    temporary(statement, &mut out);
    out
}

fn constant_or_string(value: &Value) -> Option<String> {
    let (name, fields) = node(value)?;
    Some(match name {
        "String" => text(fields, "sval").to_ascii_lowercase(),
        "Integer" => number(fields, "ival").to_string(),
        "Float" => text(fields, "fval").to_owned(),
        _ => return constant(value).map(|(text, _)| text),
    })
}

fn transaction(fields: &Value) -> String {
    let savepoint = text(fields, "savepoint_name");
    let gid = text(fields, "gid");
    let chain = fields["chain"] == true;
    match number(fields, "kind") {
        1 | 2 => format!("begin {}", modes(list(fields, "options"))),
        3 => format!("commit {chain}"),
        4 => format!("rollback {chain}"),
        5 => format!("savepoint <{savepoint}>"),
        6 => format!("release <{savepoint}>"),
        7 => format!("rollback to <{savepoint}>"),
        8 => format!("prepare transaction <{gid}>"),
        9 => format!("commit prepared <{gid}>"),
        10 => format!("rollback prepared <{gid}>"),
        kind => format!("transaction {kind}"),
    }
}

/// The last of each transaction mode.
fn mode_values(options: &[Value]) -> [Option<String>; 3] {
    let mode = |mode: &str| {
        let options = options.iter().filter_map(node).filter(|(_, option)| text(option, "defname") == mode);
        options.filter_map(|(_, option)| constant(&option["arg"])).map(|(value, _)| value).next_back()
    };
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"].map(mode)
}

fn modes(options: &[Value]) -> String {
    let [isolation, read_only, deferrable] = mode_values(options);
    let switch = |value: Option<String>| value.map(|value| value == "1");
    format!("{:?} {:?} {:?}", isolation.as_deref(), switch(read_only), switch(deferrable))
}

fn variable(fields: &Value, out: &mut Vec<String>) {
    let scope = if fields["is_local"] == true { "local" } else { "set" };
    let name = text(fields, "name").to_lowercase();
    let args = list(fields, "args");
    match (number(fields, "kind"), name.as_str()) {
        (1, name) => {
            let value = flattened(name, args);
            if name == "search_path" && value.to_lowercase().contains("pg_temp") {
                out.push("uses temporary".to_owned());
            }
            out.push(format!("{scope} <{name}>={value}"));
        }
        (2 | 5, name) => out.push(format!("{scope} <{name}>=default")),
        (3, name) => out.push(format!("{scope} <{name}>=?")),
        (4, "transaction") => out.push(format!("set transaction {}", modes(args))),
        (4, "session characteristics") => {
            let switch = |value: String| if value == "1" { "on".to_owned() } else { "off".to_owned() };
            let [isolation, read_only, deferrable] = mode_values(args);
            for (name, value) in [
                ("isolation", isolation),
                ("read_only", read_only.map(switch)),
                ("deferrable", deferrable.map(switch)),
            ] {
                out.extend(value.map(|value| format!("{scope} <default_transaction_{name}>=<{value}>")));
            }
        }
        (4, "transaction snapshot") => out.push("snapshot".to_owned()),
        (6, _) => out.push("reset all".to_owned()),
        (kind, name) => out.push(format!("variable {kind} {name}")),
    }
}

/// The text of SET's list of values, as the server's flatten_set_variable_args makes it.
fn flattened(name: &str, args: &[Value]) -> String {
    let quoted = matches!(name, "search_path" | "temp_tablespaces" | "session_preload_libraries");
    let values: Option<Vec<String>> = args
        .iter()
        .map(|arg| constant(arg).map(|(value, string)| if quoted && string { quote(&value) } else { value }))
        .collect();
    values.map_or("?".to_owned(), |values| format!("<{}>", values.join(", ")))
}

/// A name in quotes, unless PostgreSQL's scanner takes it for a plain name or a key word that is not reserved.
pub fn quote(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let unreserved = |name| {
        pg_query::scan_tokens(name).is_ok_and(|tokens| {
            matches!(
                tokens.first().map(|token| token.keyword_kind()),
                Some(KeywordKind::NoKeyword | KeywordKind::UnreservedKeyword)
            )
        })
    };
    if plain && unreserved(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The functions called anywhere in a tree, and writes to pg_settings.
fn calls(statement: &Value, out: &mut Vec<String>) {
    walk(statement, &mut |name, fields| match name {
        "FuncCall" => out.extend(call(fields)),
        "UpdateStmt" if text(&fields["relation"], "relname") == "pg_settings" => {
            out.push("set ?=?".to_owned())
        }
        _ => {}
    });
}

fn call(fields: &Value) -> Option<String> {
    let (name, schemas) = names(list(fields, "funcname"));
    if schemas.last().is_some_and(|schema| schema != "pg_catalog") {
        return None;
    }
    let args = list(fields, "args");
    Some(match name.as_str() {
        "set_config" => set_config(args),
        "pg_notify" => format!("notify {}", args.first().map_or("?".to_owned(), argument)),
        "pg_advisory_lock"
        | "pg_try_advisory_lock"
        | "pg_advisory_lock_shared"
        | "pg_try_advisory_lock_shared" => "lock".to_owned(),
        "pg_advisory_unlock" | "pg_advisory_unlock_shared" => "unlock false".to_owned(),
        "pg_advisory_unlock_all" => "unlock true".to_owned(),
        "nextval" | "setval" => "advance".to_owned(),
        "currval" | "lastval" => "recall".to_owned(),
        "setseed" => "set <seed>=?".to_owned(),
        "dblink_connect" => "RemoteConnection".to_owned(),
        "pg_create_logical_replication_slot" => "ReplicationSlot".to_owned(),
        "pg_backup_start" => "Backup".to_owned(),
        _ => return None,
    })
}

fn set_config(args: &[Value]) -> String {
    let [name, value, local] = args else { return "set? ?=?".to_owned() };
    if args.iter().filter_map(node).any(|(name, _)| name == "NamedArgExpr") {
        return "set? ?=?".to_owned();
    }
    let scope = match argument(local).as_str() {
        "<true>" | "<t>" => "local",
        "<false>" | "<f>" | "null" => "set",
        _ => "set?",
    };
    let name = match argument(name) {
        name if name.starts_with('<') => name.to_lowercase(),
        _ => "?".to_owned(),
    };
    let value = argument(value).replace("null", "default");
    format!("{scope} {name}={value}")
}

fn argument(value: &Value) -> String {
    let Some((name, fields)) = node(value) else { return "?".to_owned() };
    match name {
        "AConst" if fields["isnull"] == true => "null".to_owned(),
        // A number is converted by the server.
        "AConst" if fields["val"].get("Ival").is_some() || fields["val"].get("Fval").is_some() => {
            "?".to_owned()
        }
        "AConst" => constant(value).map_or("?".to_owned(), |(value, _)| format!("<{value}>")),
        "ParamRef" => format!("${}", number(fields, "number")),
        "TypeCast" => {
            let (type_name, schemas) = names(list(&fields["type_name"], "names"));
            let known = matches!(type_name.as_str(), "text" | "varchar" | "bool")
                && list(&fields["type_name"], "typmods").is_empty()
                && schemas.iter().all(|schema| schema == "pg_catalog");
            if known { argument(&fields["arg"]) } else { "?".to_owned() }
        }
        _ => "?".to_owned(),
    }
}

/// Relations that are temporary or are in the temporary schema: what a statement makes, and what it names.
fn temporary(statement: &Value, out: &mut Vec<String>) {
    let creates = node(statement).is_some_and(|(name, _)| name.starts_with("Create") || name == "ViewStmt");
    let explained = node(statement)
        .filter(|(name, _)| *name == "ExplainStmt")
        .and_then(|(_, fields)| node(&fields["query"]))
        .is_some_and(|(name, _)| name == "CreateTableAsStmt");
    let mut drop = false;
    walk(statement, &mut |_, fields| {
        drop |= ["oncommit", "on_commit"].iter().any(|field| number(fields, field) == 4);
    });
    walk(statement, &mut |name, fields| {
        if !name.is_empty() && name != "RangeVar" || fields.get("relpersistence").is_none() {
            return;
        }
        if text(fields, "relpersistence") == "t" && !explained {
            out.push(format!("temporary {drop}"));
        }
        if ["catalogname", "schemaname"].iter().any(|field| text(fields, field).starts_with("pg_temp")) {
            out.push(if creates { "temporary false".to_owned() } else { "uses temporary".to_owned() });
        }
    });
}
