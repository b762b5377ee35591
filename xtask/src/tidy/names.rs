//! Names: of modules, types and functions, and paths that are reserved for some files.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Finding;
use super::paths;
use super::source::Source;
use super::table::{BANNED_FUNCTION_PREFIX, BANNED_WORDS, Places, RESERVED, Reserved};

/// A name follows these.
const DECLARING: [&str; 7] = ["struct", "enum", "trait", "type", "mod", "fn", "union"];

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

/// What a file declares: keyword, name, line. The functions of `impl Trait for Type` have the trait's names.
fn declarations(tokens: TokenStream) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut keyword: Option<String> = None;
    // Since `impl`: whether `for` came.
    let mut implements: Option<bool> = None;
    for tree in tokens {
        let declares = keyword.take();
        match tree {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                match name.as_str() {
                    "impl" => implements = Some(false),
                    "for" => implements = implements.map(|_| true),
                    _ => {}
                }
                if let Some(keyword) = declares {
                    found.push((keyword, name, ident.span().start().line));
                } else if DECLARING.contains(&name.as_str()) {
                    keyword = Some(name);
                }
            }
            TokenTree::Group(group) => {
                let of_trait = group.delimiter() == Delimiter::Brace && implements.take() == Some(true);
                let inner = declarations(group.stream()).into_iter();
                found.extend(inner.filter(|(keyword, ..)| !of_trait || keyword != "fn"));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
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
