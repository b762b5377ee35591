//! Names: of modules, types and functions, and paths that are reserved for some files.

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::paths;
use super::source::Source;
use super::table::{BANNED_FUNCTION_PREFIX, BANNED_WORDS, Places, RESERVED, Reserved};

pub fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(word) = source.module.last().and_then(|name| banned_word(name)) {
        findings.push(Finding::new(source.path, 1, format!("a module's name says {word:?}")));
    }
    for (keyword, name, line) in declarations(source.tokens.clone()) {
        if keyword == "fn" {
            if name.starts_with(BANNED_FUNCTION_PREFIX) {
                findings.push(Finding::new(
                    source.path,
                    line,
                    format!("{name}: leave out {BANNED_FUNCTION_PREFIX:?}"),
                ));
            }
        } else if let Some(word) = banned_word(&name) {
            findings.push(Finding::new(source.path, line, format!("{keyword} {name} says {word:?}")));
        }
    }
    for named in paths::of(source.tokens.clone()) {
        for rule in RESERVED {
            if !is_allowed(rule, source.path)
                && named.segments.windows(rule.path.len()).any(|part| part == rule.path)
            {
                let message = format!("names {}: {}", rule.path.join("::"), rule.why);
                findings.push(Finding::new(source.path, named.line, message));
            }
        }
    }
    findings
}

fn is_allowed(rule: &Reserved, path: &str) -> bool {
    let within = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    match rule.places {
        Places::Only(places) => within(places),
        Places::Never(places) => !within(places),
    }
}

/// What a file declares: keyword, name, line.
fn declarations(tokens: TokenStream) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut keyword: Option<String> = None;
    for tree in tokens {
        let ident = match &tree {
            TokenTree::Ident(ident) => ident,
            TokenTree::Group(group) => {
                found.extend(declarations(group.stream()));
                keyword = None;
                continue;
            }
            _ => {
                keyword = None;
                continue;
            }
        };
        let name = ident.to_string();
        if let Some(keyword) = keyword.take() {
            found.push((keyword, name, ident.span().start().line));
        } else if ["struct", "enum", "trait", "type", "mod", "fn", "union"].contains(&name.as_str()) {
            keyword = Some(name);
        }
    }
    found
}

/// The banned word in a name of either case style.
fn banned_word(name: &str) -> Option<&'static str> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            words.push(String::new());
        }
        if let (Some(word), true) = (words.last_mut(), letter != '_') {
            word.extend(letter.to_lowercase());
        }
    }
    BANNED_WORDS.iter().copied().find(|banned| words.iter().any(|word| word == banned))
}
