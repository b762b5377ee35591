//! Whole texts through `parse`.

mod documents;
mod effective;
mod errors;
mod values;

use super::{Config, parse};

/// The least that is a configuration.
const LEAST: &str = "
[cluster.main]
nodes = [\"pg-1:5432\"]
[cluster.main.pool.app.user.app]
";

#[track_caller]
fn valid(text: &str) -> Config {
    parse(text, "halephant.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors of `text` behind the text itself, for a snapshot.
#[track_caller]
fn errors_of(text: &str) -> String {
    match parse(text, "halephant.toml") {
        Ok(config) => panic!("valid: {config:?}"),
        Err(errors) => format!("{}\n---\n{errors}", text.trim()),
    }
}
