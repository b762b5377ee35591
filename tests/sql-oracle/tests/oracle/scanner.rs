//! The lexer against PostgreSQL's scanner: the same tokens at the same places, and errors for the same texts.

use super::soup::{self, config};
use halephant::sql::Dialect;
use halephant::sql::lexer::{Flaw, Lexer, Token, TokenKind};
use pg_query::protobuf::{KeywordKind, ScanToken, Token as Theirs};
use proptest::prelude::*;

/// Whether a token of ours is what PostgreSQL calls it.
fn same_kind(ours: Token, theirs: ScanToken, text: &str) -> bool {
    if theirs.keyword_kind() != KeywordKind::NoKeyword {
        return ours.kind == TokenKind::Word;
    }
    // Single characters are their own numbers.
    if let Ok(byte) = u8::try_from(theirs.token) {
        return matches!(ours.kind, TokenKind::Symbol(own) | TokenKind::Stray(own) if own == byte);
    }
    let Ok(token) = Theirs::try_from(theirs.token) else { return false };
    match ours.kind {
        // A plain quoted name is an identifier to PostgreSQL, too.
        TokenKind::Word => token == Theirs::Ident && !text[ours.span()].starts_with('"'),
        TokenKind::QuotedName => token == Theirs::Ident && text[ours.span()].starts_with('"'),
        TokenKind::UnicodeName => token == Theirs::Uident,
        TokenKind::String | TokenKind::EscapeString | TokenKind::DollarString => token == Theirs::Sconst,
        TokenKind::UnicodeString => token == Theirs::Usconst,
        TokenKind::BitString => token == Theirs::Bconst,
        TokenKind::HexString => token == Theirs::Xconst,
        // An integer beyond 32 bits is handed on as if it had a fraction.
        TokenKind::Integer => matches!(token, Theirs::Iconst | Theirs::Fconst),
        TokenKind::Decimal => token == Theirs::Fconst,
        TokenKind::Parameter => token == Theirs::Param,
        TokenKind::Operator => matches!(
            token,
            Theirs::Op
                | Theirs::Typecast
                | Theirs::DotDot
                | Theirs::ColonEquals
                | Theirs::EqualsGreater
                | Theirs::LessEquals
                | Theirs::GreaterEquals
                | Theirs::NotEquals
        ),
        TokenKind::LineComment => token == Theirs::SqlComment,
        TokenKind::BlockComment => token == Theirs::CComment,
        TokenKind::Symbol(_) | TokenKind::Stray(_) => false,
    }
}

/// Errors of the scanner about what a token says, not about where it ends.
fn about_content(error: &str) -> bool {
    [
        "zero-length delimited",
        "Unicode",
        "operator too long",
        "parameter number too large",
        // What an escape says, for example `E'\\0'`.
        "invalid byte sequence",
    ]
    .iter()
    .any(|part| error.contains(part))
}

fn compare(text: &str) -> Result<(), TestCaseError> {
    // The crate takes a null pointer for a slice when a text has no tokens, so every text gets one.
    let text = &format!("{text}\n;");
    let ours: Vec<Token> = Lexer::new(text.as_bytes(), Dialect::default()).collect();
    // The crate's parser is patched to take `$1abc`, as PostgreSQL did until version 14.
    let refused = ours.iter().any(|token| match token.flaw {
        Some(Flaw::Unterminated) => true,
        Some(Flaw::TrailingJunk) => token.kind != TokenKind::Parameter,
        Some(Flaw::Stray) | None => false,
    });
    match pg_query::scan_tokens(text) {
        Ok(theirs) => {
            prop_assert!(!refused, "{text:?}: refused by us alone: {ours:?}");
            let shown = |start: usize, end: usize| text.get(start..end).unwrap_or("?").to_owned();
            let own: Vec<_> = ours.iter().map(|token| shown(token.start, token.end)).collect();
            let other: Vec<_> =
                theirs.iter().map(|token| shown(token.start as usize, token.end as usize)).collect();
            prop_assert_eq!(own, other, "{:?}", text);
            for (own, other) in ours.iter().zip(theirs) {
                prop_assert!(same_kind(*own, other, text), "{text:?}: {own:?} against {other:?}");
            }
        }
        Err(error) => {
            let error = error.to_string();
            prop_assert!(refused || about_content(&error), "{text:?}: taken by us alone: {error}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(40_000))]

    #[test]
    fn tokens_are_postgresqls(text in soup::tokens()) {
        compare(&text)?;
    }

    #[test]
    fn characters_are_postgresqls(text in soup::characters()) {
        compare(&text)?;
    }
}
