//! What holds for every function over a text, whatever the text is.

use super::lexer::Lexer;
use super::{Dialect, classify, may_have_effects, sanitize, statements::Statements, summary};
use proptest::prelude::*;

/// Reads a text in every way.
fn read(text: &[u8], dialect: Dialect) {
    let effects = classify(text, dialect);
    assert!(effects.is_empty() || may_have_effects(text, dialect));
    let mut sanitized = Vec::new();
    sanitize(text, dialect, &mut sanitized);
    assert!(sanitized.len() <= text.len().max(1));
    assert!(summary(text, dialect).len() <= super::SUMMARY_BYTES_MAX);
    let spans: Vec<_> = effects.statements.iter().map(|statement| statement.span.clone()).collect();
    if dialect.can_lex(text) {
        assert_eq!(spans, Statements::new(text, dialect).collect::<Vec<_>>());
        assert!(Lexer::new(text, dialect).all(|token| token.end <= text.len()));
    }
    let _ = effects.access().count();
}

/// Texts that a recursive reader takes its stack for, or a careless one time in the square of their length.
#[test]
fn hostile_texts_are_read_in_linear_time_and_little_stack() {
    const BYTES: usize = 64 << 10;
    for unit in [
        "(",
        ")",
        ";",
        "; ",
        "a.",
        "select ",
        "select(",
        "begin ",
        "create function begin atomic ",
        "end;",
        "explain ",
        "explain analyze ",
        "explain (analyze) ",
        "explain (",
        "prepare a as ",
        "execute a ",
        "u&'' uescape ",
        "u&\"a\" uescape ",
        "u&\"a\" uescape u&'!' ",
        "set_config(",
        "select set_config('a', 'b', true), ",
        "set_config('",
        "into temp ",
        "into local ",
        "update pg_settings ",
        "pg_temp.",
        "create temp table ",
        "on commit ",
        "as execute a ",
        "copy (",
        "set x = a, ",
        "set local ",
        "read only ",
        "declare a cursor for ",
        "from a, ",
        "with a as (",
        "from (",
        "/*",
        "'a'\n",
        "$a$",
        "+-",
        "1_",
        "1e",
        "é",
    ] {
        let text = unit.repeat(BYTES / unit.len());
        for prefix in ["", "select ", "create ", "explain "] {
            read(format!("{prefix}{text}").as_bytes(), Dialect::default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..100), flags in any::<[bool; 3]>()) {
        read(&text, Dialect { standard_conforming_strings: flags[0], ascii_safe: flags[1], ascii_folding: flags[2] });
    }

    #[test]
    fn any_words_are_read(words in prop::collection::vec(prop::sample::select(vec![
        "set", "local", "session", "x", "=", "to", "'a'", "e'\\''", "(", ")", ",", ";", ".", "select", "set_config", "explain", "analyze",
        "prepare", "as", "execute", "create", "temp", "table", "into", "begin", "atomic", "end", "function", "update", "pg_settings",
        "pg_temp", "copy", "from", "declare", "cursor", "for", "with", "hold", "u&'a'", "uescape", "u&\"a\"", "$1", "1", "1a", "-", "--", "\n",
        "/*", "*/", "$$", "'", "\"", "listen", "reset", "all", "read", "only", "transaction", "chain", "and", "*", "{", "é",
    ]), 0..20), standard in any::<bool>()) {
        read(words.join(" ").as_bytes(), Dialect { standard_conforming_strings: standard, ..Dialect::default() });
    }
}
