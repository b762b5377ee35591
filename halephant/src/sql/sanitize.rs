//! A text without what its author typed as values: for spans, where literals and comments may hold secrets.

use super::Dialect;
use super::lexer::{Flaw, Lexer, Token, TokenKind};

/// Appends the text with each literal replaced by `?` and each comment by a space; `$1` stays. It is never longer.
///
/// A text that cannot be read to its end, or whose encoding hides its quotes, becomes a single `?`: there is no telling
/// what in it is a literal.
pub fn sanitize(text: &[u8], dialect: Dialect, out: &mut Vec<u8>) {
    let start = out.len();
    if !dialect.can_lex(text) {
        return out.push(b'?');
    }
    let mut copied = 0;
    for token in Lexer::new(text, dialect) {
        if token.flaw == Some(Flaw::Unterminated) {
            out.truncate(start);
            return out.push(b'?');
        }
        out.extend_from_slice(text.get(copied..token.start).unwrap_or_default());
        copied = token.end;
        if is_literal(token) {
            out.push(b'?');
        } else if token.is_comment() {
            out.push(b' ');
        } else {
            out.extend_from_slice(token.text(text));
        }
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
}

fn is_literal(token: Token) -> bool {
    token.is_string() || matches!(token.kind, TokenKind::Integer | TokenKind::Decimal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: &str) {
        let mut out = b"> ".to_vec();
        sanitize(text.as_bytes(), Dialect::default(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), format!("> {expected}"));
    }

    #[test]
    fn literals_become_question_marks() {
        check("select a, 'b''c' from \"t 1\" where d=-1.5e3", "select a, ? from \"t 1\" where d=-?");
        check("E'\\'x' U&'a' uescape '!' $$a$$ $t$a$$b$t$ b'1' x'f' n'a'", "? ? uescape ? ? ? ? ? n?");
        check("'a'\n'b' 0x1F 1_000 .5 $1 a1", "? ? ? ? $1 a1");
        check("a/* secret */b -- secret\n+c--", "a b  \n+c ");
        check("limit 10;", "limit ?;");
        check("12abc", "?abc");
        check("select 'it's secret'", "?");
        check("select $$secret", "?");
        check("", "");
    }

    #[test]
    fn an_encoding_that_hides_quotes_hides_the_text() {
        let mut out = Vec::new();
        sanitize("select 'é'".as_bytes(), Dialect { ascii_safe: false, ..Dialect::default() }, &mut out);
        assert_eq!(out, b"?");
    }

    proptest! {
        /// No way of writing a literal lets its content out, whatever is around it.
        #[test]
        fn no_literal_gets_out(pieces in prop::collection::vec((prop::sample::select(vec![
            "'secret'", "'a''secret'", "E'\\'secret'", "$$secret$$", "$x$'secret$$$x$", "U&'secret'", "'a'\n'secret'", "N'secret'",
            "/* secret /* secret */ secret */", "-- secret", "'a' -- secret\n'secret'", "select", "\"a\"", "1", "$1", "(", ")", ";",
        ]), prop::sample::select(vec![" ", "\n", "\n\n"])), 0..12)) {
            let text: String = pieces.into_iter().flat_map(|(piece, gap)| [piece, gap]).collect();
            let mut out = Vec::new();
            sanitize(text.as_bytes(), Dialect::default(), &mut out);
            prop_assert!(out.len() <= text.len().max(1));
            prop_assert!(memchr::memmem::find(&out, b"secret").is_none(), "{text:?}");
        }
    }
}
