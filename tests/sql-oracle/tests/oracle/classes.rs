//! The classifier against PostgreSQL's parse tree, and the prefilter against the classifier.

use super::soup::config;
use super::{expected, grammar, rendered, tree};
use halephant::sql::{Dialect, classify, may_have_effects};
use proptest::prelude::*;

/// Whether our effects are those of the tree, or less certain about them.
fn covers(ours: &[String], theirs: &[String]) -> bool {
    let mut left: Vec<&String> = ours.iter().collect();
    let found = theirs.iter().all(|their| {
        let at = left
            .iter()
            .position(|own| *own == their)
            .or_else(|| left.iter().position(|own| admits(own, their)));
        at.map(|at| left.remove(at)).is_some()
    });
    // What looks like a call or a temporary name may be none: `f(x) 'a'` is a constant of a type.
    found
        && left.iter().all(|own| {
            [
                "set",
                "local",
                "lock",
                "unlock",
                "advance",
                "recall",
                "notify",
                "RemoteC",
                "Replication",
                "Backup",
            ]
            .iter()
            .any(|start| own.starts_with(start))
                || own.contains("temporary")
        })
}

/// Whether an effect with unknown parts admits one without.
fn admits(ours: &str, theirs: &str) -> bool {
    if let (Some(("prepare", own)), Some(("prepare", their))) = (ours.split_once(' '), theirs.split_once(' '))
    {
        // The body is in brackets, as text.
        return own.split_once(' ').map(|(name, _)| name) == their.split_once(' ').map(|(name, _)| name)
            && own.contains('?');
    }
    let parts = |effect: &str| {
        let (scope, assignment) = effect.split_once(' ')?;
        let (name, value) = assignment.split_once('=')?;
        matches!(scope, "set" | "local" | "set?")
            .then(|| [scope.to_owned(), name.to_owned(), value.to_owned()])
    };
    match (parts(ours), parts(theirs)) {
        (Some(ours), Some(theirs)) => {
            ours.iter().zip(&theirs).all(|(own, their)| own == their || own == "?" || own == "set?")
        }
        _ => ours.strip_suffix('?').is_some_and(|start| theirs.starts_with(start)),
    }
}

/// The effects of each statement must be those of its tree, in some order; if not exactly, then with unknown parts.
fn compare(text: &str, exactly: bool) -> Result<bool, TestCaseError> {
    for standard_conforming_strings in [true, false] {
        let dialect = Dialect { standard_conforming_strings, ..Dialect::default() };
        let ours = classify(text.as_bytes(), dialect);
        prop_assert!(ours.is_empty() || may_have_effects(text.as_bytes(), dialect), "{text:?}");
        let Ok(trees) = tree::parse(text, standard_conforming_strings) else {
            if standard_conforming_strings {
                return Ok(false);
            }
            continue;
        };
        let theirs: Vec<_> = trees.iter().map(expected::effects).collect();
        let ours: Vec<_> =
            ours.statements.iter().map(|statement| rendered::sorted(&statement.effects)).collect();
        let covered = !exactly
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(ours, theirs)| covers(ours, theirs));
        if !covered {
            prop_assert_eq!(ours, theirs, "{:?}", text);
        }
    }
    Ok(true)
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn generated_statements_do_what_their_trees_say(text in grammar::script()) {
        // A few templates draw what PostgreSQL refuses; a grammar that it refused as a whole would test nothing.
        prop_assume!(compare(&text, true)?);
    }

    #[test]
    fn mutants_that_parse_do_what_their_trees_say(text in grammar::mutant()) {
        prop_assume!(compare(&text, false)?);
    }
}

/// Every template parses at least once in a while.
#[test]
fn templates_are_postgresqls() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let parsed = (0..500)
        .filter(|_| {
            let text = grammar::script().new_tree(&mut runner).unwrap().current();
            tree::parse(&text, true).is_ok()
        })
        .count();
    assert!(parsed > 300, "only {parsed} of 500 texts parse");
}

#[test]
fn words_are_quoted_as_the_server_quotes_them() {
    for word in [
        "a",
        "select",
        "values",
        "temp",
        "left",
        "between",
        "json_table",
        "merge_action",
        "system_user",
        "lateral",
        "key",
    ] {
        let text = format!("set search_path = '{word}'");
        let ours = classify(text.as_bytes(), Dialect::default());
        assert_eq!(
            rendered::sorted(&ours.statements[0].effects),
            [format!("set <search_path>=<{}>", expected::quote(word))]
        );
    }
}
