//! Where statements begin and end, against PostgreSQL's parser.

use super::soup::config;
use super::{grammar, tree};
use halephant::sql::Dialect;
use halephant::sql::lexer::Lexer;
use halephant::sql::statements::Statements;
use proptest::prelude::*;

/// A statement without the comments and white space around it.
fn trimmed(statement: &str) -> &str {
    let mut tokens = Lexer::new(statement.as_bytes(), Dialect::default()).filter(|token| !token.is_comment());
    let Some(first) = tokens.next() else { return "" };
    &statement[first.start..tokens.last().map_or(first.end, |last| last.end)]
}

fn compare(text: &str) -> Result<bool, TestCaseError> {
    let Ok(theirs) = tree::split(text) else { return Ok(false) };
    let theirs: Vec<_> = theirs.into_iter().map(trimmed).filter(|statement| !statement.is_empty()).collect();
    let ours: Vec<_> = Statements::new(text.as_bytes(), Dialect::default()).map(|span| &text[span]).collect();
    prop_assert_eq!(ours, theirs, "{:?}", text);
    Ok(true)
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn scripts_are_split_as_the_parser_splits_them(text in grammar::script()) {
        prop_assume!(compare(&text)?);
    }

    #[test]
    fn mutants_are_split_as_the_parser_splits_them(text in grammar::mutant()) {
        prop_assume!(compare(&text)?);
    }
}
