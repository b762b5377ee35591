//! PostgreSQL's parse tree of a text, as JSON: small accessors and the values of literals.

use serde_json::Value;
use std::sync::{Mutex, PoisonError};

/// The parser moves the process's standard error aside while it works.
static PARSER: Mutex<()> = Mutex::new(());

/// The tree of each statement: the name of its node and the node.
pub fn parse(text: &str, standard_conforming_strings: bool) -> Result<Vec<Value>, String> {
    let options = match standard_conforming_strings {
        true => pg_query::ParserOptions::DEFAULT,
        false => pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    };
    let _one = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
    let tree = pg_query::parse(text, options).map_err(|error| error.to_string())?.protobuf;
    let tree = serde_json::to_value(tree).map_err(|error| error.to_string())?;
    Ok(list(&tree, "stmts").iter().map(|statement| statement["stmt"].clone()).collect())
}

pub fn split(text: &str) -> Result<Vec<&str>, String> {
    let _one = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
    pg_query::split_with_parser(text).map_err(|error| error.to_string())
}

/// A node's name and its fields.
pub fn node(value: &Value) -> Option<(&str, &Value)> {
    value.get("node")?.as_object()?.iter().next().map(|(name, fields)| (name.as_str(), fields))
}

pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

pub fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_default()
}

/// The last of the names that a node of strings lists, and the ones before it.
pub fn names(values: &[Value]) -> (String, Vec<String>) {
    let mut names: Vec<String> =
        values.iter().filter_map(node).map(|(_, fields)| text(fields, "sval").to_owned()).collect();
    (names.pop().unwrap_or_default(), names)
}

/// A constant: what SET would make of it, and whether it is a word or string.
pub fn constant(value: &Value) -> Option<(String, bool)> {
    let ("AConst", fields) = node(value)? else { return None };
    let (kind, value) = fields["val"].as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "Ival" => (number(value, "ival").to_string(), false),
        "Fval" => (text(value, "fval").to_owned(), false),
        "Sval" => (text(value, "sval").to_owned(), true),
        "Boolval" => (value["boolval"].as_bool().unwrap_or_default().to_string(), false),
        _ => return None,
    })
}

/// Calls `visit` with the name and fields of each node in a tree, and with "" for an object that is no node.
pub fn walk(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
        Value::Object(fields) => {
            let inner = node(value);
            match inner {
                Some((name, fields)) => visit(name, fields),
                None => visit("", value),
            }
            let fields = inner.and_then(|(_, fields)| fields.as_object()).unwrap_or(fields);
            fields.values().for_each(|value| walk(value, visit));
        }
        _ => {}
    }
}
