//! What the admin API shows as the configuration in force is a configuration, and the same one.

use super::{LEAST, valid, with_files};
use crate::config::parse;
use crate::proxy::effective::effective;

const EXAMPLE: &str = include_str!("../../../../deploy/halephant.toml");

/// The text that the effective configuration of `text` is.
fn written(text: &str) -> String {
    let value: toml::Value = serde_json::from_value(effective(&valid(text))).unwrap();
    toml::to_string(&value).unwrap()
}

#[test]
fn is_read_back_as_the_same() {
    let uncommented: Vec<_> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|first: char| first == '[' || first.is_ascii_alphabetic()) => rest,
            _ => line,
        })
        .collect();
    for text in [LEAST, EXAMPLE, &with_files(&uncommented.join("\n"))] {
        let text_of_it = written(text);
        let again = parse(&text_of_it, "effective").unwrap_or_else(|errors| panic!("{errors}\n{text_of_it}"));
        assert_eq!(again, valid(text), "{text_of_it}");
    }
}

#[test]
fn hides_what_may_be_a_secret() {
    let options =
        "[cluster.main.pool.app.user.app.parameters.options]\n'app.api_Key' = 'hush'\nwork_mem = '1MB'\n";
    let text = written(&format!("{LEAST}{options}"));
    assert!(!text.contains("hush") && text.contains("\"***\"") && text.contains("1MB"), "{text}");
}
