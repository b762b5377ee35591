//! The documentation and the example say what the code does.

use super::{valid, with_files};
use crate::config::findings::{Field, Findings};
use crate::config::parse_noting;
use crate::config::reload::RESTART;
use std::collections::BTreeSet;
use toml::de::DeValue;

const PAGE: &str = include_str!("../../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../../deploy/halephant.toml");

/// Has every section, so that each key is asked for.
const EVERY_SECTION: &str = "
[cluster.main]
nodes = ['pg-1:5432']
[cluster.main.pool.app]
max_connections = { primary = 1 }
[cluster.main.pool.app.user.app]
[server.tls]
mode = 'require'
certificate = '/etc/halephant/tls/server.crt'
key = '/etc/halephant/tls/server.key'
[server.tls.sni.'shop.example.com']
certificate = '/etc/halephant/tls/shop.crt'
key = '/etc/halephant/tls/shop.key'
";

/// The keys that the code knows.
fn fields_of(text: &str) -> BTreeSet<Field> {
    let findings = Findings::default();
    parse_noting(&with_files(text), &findings).unwrap();
    findings.fields.into_inner().into_iter().collect()
}

/// One row of a table of keys: section, key, type, default, what a change needs.
type Row = [String; 5];

fn rows_of_code() -> BTreeSet<Row> {
    let row = |field: Field| {
        let path = format!("{}.{}", field.section, field.key);
        let needs_restart = RESTART.iter().any(|(key, _)| *key == path);
        let change = if needs_restart { "restart" } else { "reload" };
        [field.section, field.key.to_owned(), field.kind.to_owned(), field.default, change.to_owned()]
    };
    fields_of(EVERY_SECTION).into_iter().map(row).collect()
}

fn rows_of_page() -> BTreeSet<Row> {
    let mut section = "";
    let mut rows = BTreeSet::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = match heading {
                "Connection limits" => "limits",
                heading => heading.trim_matches(['`', '[', ']']),
            };
        }
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
        if let [_, key, kind, default, change, description, _] = &cells[..]
            && !["Key", "---"].contains(&key.as_str())
        {
            assert!(!description.is_empty(), "{line}");
            let row = [section, key, kind, default, change].map(str::to_owned);
            assert!(rows.insert(row), "twice on the page: {line}");
        }
    }
    rows
}

/// A default that is TOML is compared without its quotation marks: a path or a word may go without on the page.
fn without_quotes(rows: BTreeSet<Row>) -> BTreeSet<Row> {
    rows.into_iter().map(|row| row.map(|cell| cell.trim_matches('"').to_owned())).collect()
}

#[test]
fn the_page_has_every_key_of_the_code_and_no_other() {
    let code = without_quotes(rows_of_code());
    let page = without_quotes(rows_of_page());
    let missing: Vec<_> = code.difference(&page).collect();
    let surplus: Vec<_> = page.difference(&code).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "in the code: {missing:#?}\non the page: {surplus:#?}");
    assert!(code.len() > 30, "{code:#?}");
}

#[test]
fn keys_that_need_a_restart_exist() {
    let rows = rows_of_code();
    for (key, _) in RESTART {
        assert!(rows.iter().any(|[section, name, ..]| format!("{section}.{name}") == *key), "{key}");
    }
}

#[test]
fn the_pages_own_example_is_valid() {
    let (_, behind) = PAGE.split_once("```toml\n").unwrap();
    let (example, _) = behind.split_once("```").unwrap();
    valid(example);
}

/// A setting of the example that is commented out: `#key = value`.
fn commented_out(line: &str) -> Option<&str> {
    line.strip_prefix('#')
        .filter(|rest| rest.starts_with(|first: char| first == '[' || first.is_ascii_alphabetic()))
}

/// `cluster.main.pool.shop` as the code names the section: `cluster.<name>.pool.<database>`.
fn pattern(section: &str) -> String {
    let section = section.replace("\"shop.example.com\"", "shop");
    let mut parts = section.split('.');
    let mut pattern = Vec::new();
    while let Some(part) = parts.next() {
        pattern.push(part);
        let placeholder = match part {
            "cluster" | "user" => "<name>",
            "sni" => "<host>",
            "pool" => "<database>",
            _ => continue,
        };
        if parts.next().is_some() {
            pattern.push(placeholder);
        }
    }
    pattern.join(".")
}

#[test]
fn the_example_is_valid_as_it_is_and_with_every_setting() {
    valid(EXAMPLE);
    let every: Vec<_> = EXAMPLE.lines().map(|line| commented_out(line).unwrap_or(line)).collect();
    let config = valid(&with_files(&every.join("\n")));
    assert!(config.otel.endpoint.is_some() && config.admin.listen.is_some(), "nothing was commented out");
}

#[test]
fn the_example_shows_every_key_and_the_true_defaults() {
    let fields = fields_of(EVERY_SECTION);
    let mut section = String::new();
    let mut shown = BTreeSet::from([("limits".to_owned(), "primary"), ("limits".to_owned(), "replica")]);
    for line in EXAMPLE.lines() {
        if let Some(header) = commented_out(line).unwrap_or(line).strip_prefix('[') {
            section = pattern(header.trim_end_matches(']'));
        }
        let Some((key, value)) = commented_out(line).unwrap_or(line).split_once(" = ") else { continue };
        if line.starts_with("# ") {
            continue;
        }
        let field = fields.iter().find(|field| field.section == section && field.key == key);
        let field = field.unwrap_or_else(|| panic!("{line}"));
        let has_default = DeValue::parse(&field.default).is_ok();
        if commented_out(line).is_some() && has_default {
            assert_eq!(value, field.default, "{section}.{key}");
        }
        shown.insert((section.clone(), field.key));
    }
    let known: BTreeSet<_> = fields.iter().map(|field| (field.section.clone(), field.key)).collect();
    assert_eq!(shown, known);
}
