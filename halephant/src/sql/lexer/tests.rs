//! Tables of texts and their tokens; the oracle's crate compares generated texts with PostgreSQL's own scanner.

use super::{Flaw, Lexer, Token, TokenKind};
use crate::sql::Dialect;
use proptest::prelude::*;

const ESCAPING: Dialect =
    Dialect { standard_conforming_strings: false, ascii_safe: true, ascii_folding: true };

fn tokens(text: &[u8], dialect: Dialect) -> Vec<Token> {
    Lexer::new(text, dialect).collect()
}

/// One token as `kind<text>`, with a mark for its flaw.
fn show(token: Token, text: &[u8]) -> String {
    use TokenKind::*;
    let kind = match token.kind {
        Word => "w",
        QuotedName => "q",
        UnicodeName => "uq",
        String => "s",
        EscapeString => "e",
        UnicodeString => "us",
        DollarString => "d",
        BitString => "b",
        HexString => "x",
        Integer => "i",
        Decimal => "n",
        Parameter => "p",
        Operator => "o",
        Symbol(_) => "y",
        LineComment => "lc",
        BlockComment => "bc",
        Stray(_) => "?",
    };
    let flaw = match token.flaw {
        None | Some(Flaw::Stray) => "",
        Some(Flaw::Unterminated) => "!",
        Some(Flaw::TrailingJunk) => "+",
    };
    format!("{kind}<{}>{flaw}", std::string::String::from_utf8_lossy(token.text(text)))
}

fn check_in(dialect: Dialect, text: &str, expected: &str) {
    let shown: Vec<_> =
        tokens(text.as_bytes(), dialect).into_iter().map(|token| show(token, text.as_bytes())).collect();
    assert_eq!(shown.join(" "), expected, "{text:?}");
}

fn check(text: &str, expected: &str) {
    check_in(Dialect::default(), text, expected);
}

#[test]
fn words_and_names() {
    check("", "");
    check(" \t\r\n\x0b\x0c", "");
    check("select Foo_1$x _a été", "w<select> w<Foo_1$x> w<_a> w<été>");
    check("\"a\"\"b\" \"\" \"é;\"", "q<\"a\"\"b\"> q<\"\"> q<\"é;\">");
    check("\"a", "q<\"a>!");
    check("U&\"d\\0061t\" uescape '!'", "uq<U&\"d\\0061t\"> w<uescape> s<'!'>");
    check("u&a u& 'x' u&1", "w<u> o<&> w<a> w<u> o<&> s<'x'> w<u> o<&> i<1>");
    check("a.b.*", "w<a> y<.> w<b> y<.> y<*>");
}

#[test]
fn strings() {
    check("'a''b'", "s<'a''b'>");
    check("'a\\'", "s<'a\\'>");
    check("'a\\'c'", "s<'a\\'> w<c> s<'>!");
    check("E'a\\'b' e'\\\\' E'''' E'\\", "e<E'a\\'b'> e<e'\\\\'> e<E''''> e<E'\\>!");
    check("b'01' X'fF' n'x' U&'\\0061'", "b<b'01'> x<X'fF'> w<n> s<'x'> us<U&'\\0061'>");
    check("b'0''1'", "b<b'0'> s<'1'>");
    check("be'x' \"e\"'y'", "w<be> s<'x'> q<\"e\"> s<'y'>");
    check("''", "s<''>");
    check("'", "s<'>!");
}

#[test]
fn strings_go_on_in_the_next_line() {
    check("'a'\n 'b'", "s<'a'\n 'b'>");
    check("'a' -- it's\n  -- so\n'b'", "s<'a' -- it's\n  -- so\n'b'>");
    check("'a' 'b'", "s<'a'> s<'b'>");
    check("'a' -- b\r'c'", "s<'a' -- b\r'c'>");
    check("'a' -- b", "s<'a'> lc<-- b>");
    check("'a' -\n'c'", "s<'a'> y<-> s<'c'>");
    check("'a' /* */\n'b'", "s<'a'> bc</* */> s<'b'>");
    check("e'a'\n'\\''", "e<e'a'\n'\\''>");
    check("'a'\n'\\'", "s<'a'\n'\\'>");
    check("x'1'\n'2'\n", "x<x'1'\n'2'>");
    check("'a'\n'b", "s<'a'\n'b>!");
    check("'a'\n\"b\"", "s<'a'> q<\"b\">");
}

#[test]
fn backslashes_escape_with_standard_conforming_strings_off() {
    check_in(ESCAPING, "'a\\'b' x'\\'", "e<'a\\'b'> x<x'\\'>");
    check_in(ESCAPING, "n'\\''", "w<n> e<'\\''>");
}

#[test]
fn dollar_quotes_and_parameters() {
    check("$$a'b$$", "d<$$a'b$$>");
    check("$a$ $b$ $$ $a $a$", "d<$a$ $b$ $$ $a $a$>");
    check("$é_1$;$é_1$", "d<$é_1$;$é_1$>");
    check("$$$", "d<$$$>!");
    check("$a$b$A$", "d<$a$b$A$>!");
    check("a$$b$$", "w<a$$b$$>");
    check("$1,$22 $1$ $", "p<$1> y<,> p<$22> p<$1> ?<$> ?<$>");
    check("$1abc $a", "p<$1>+ w<abc> ?<$> w<a>");
    check("1$$a$$", "i<1> d<$$a$$>");
}

#[test]
fn comments() {
    check("-- a\nb--c\r--", "lc<-- a> w<b> lc<--c> lc<-->");
    check("/* a /* b */ c */d/**/", "bc</* a /* b */ c */> w<d> bc</**/>");
    check("/*/*/", "bc</*/*/>!");
    check("/***/ /*/ */ //**/", "bc</***/> bc</*/ */> y</> bc</**/>");
    check("/*'*/ '/*'", "bc</*'*/> s<'/*'>");
}

#[test]
fn numbers() {
    check("0 42 1_000 0x1F 0o17 0B1_0 0x_a", "i<0> i<42> i<1_000> i<0x1F> i<0o17> i<0B1_0> i<0x_a>");
    check("1.5 1. .5 1e5 1.e-5 .5E+1_0", "n<1.5> n<1.> n<.5> n<1e5> n<1.e-5> n<.5E+1_0>");
    check("1..10 1.2.3", "i<1> o<..> i<10> n<1.2> n<.3>");
    check("1a 1_ 0x 0xg 0x1g 0b2", "i<1>+ w<a> i<1>+ w<_> i<0>+ w<x> i<0>+ w<xg> i<0>+ w<x1g> i<0>+ w<b2>");
    check("1e 1e+ 1.5e3x 1e5$", "i<1>+ w<e> i<1>+ w<e> y<+> n<1.5e3>+ w<x> n<1e5>+ ?<$>");
    check("1from", "i<1>+ w<from>");
    check("1_000$$a 1_0x 1.5_0$", "i<1>+ w<_000$$a> i<1>+ w<_0x> n<1.5>+ w<_0$>");
    check("-1", "y<-> i<1>");
}

#[test]
fn operators() {
    check("a<>b>=c::d:=e=>f", "w<a> o<<>> w<b> o<>=> w<c> o<::> w<d> o<:=> w<e> o<=>> w<f>");
    check("*-1 @-1 @- 1", "y<*> y<-> i<1> o<@-> i<1> o<@-> i<1>");
    check("+-+-", "y<+> y<-> y<+> y<->");
    check("<=+-a", "o<<=> y<+> y<-> w<a>");
    check("*/*a*/", "y<*> bc</*a*/>");
    check("@+--x", "o<@+> lc<--x>");
    check("|| -> ->> #>> ? ?| !~~*", "o<||> o<->> o<->>> o<#>>> o<?> o<?|> o<!~~*>");
    check("a[1:2];", "w<a> y<[> i<1> y<:> i<2> y<]> y<;>");
    check("{\\}\u{1}", "?<{> ?<\\> ?<}> ?<\u{1}>");
}

#[test]
fn a_clone_looks_ahead() {
    let mut lexer = Lexer::new(b"a b c", Dialect::default());
    lexer.next();
    let mut ahead = lexer.clone();
    assert_eq!(ahead.next(), lexer.next());
    assert_eq!(ahead.next(), lexer.next());
    assert_eq!((ahead.next(), lexer.next()), (None, None));
}

/// Texts that cost a naive scanner time in the square of their length; a second pass over one would take hours.
#[test]
fn hostile_texts_are_read_in_linear_time() {
    const BYTES: usize = 256 << 10;
    let repeated = |unit: &str| unit.repeat(BYTES / unit.len());
    for text in [
        repeated("/*"),
        repeated("+-"),
        repeated("+*-"),
        repeated("$a"),
        repeated("$a$b"),
        repeated("''\n"),
        repeated("''--\n"),
        repeated("1_"),
        repeated("0x"),
        repeated("'\\"),
        repeated("e'"),
        repeated("u&"),
        repeated("*/"),
        format!("'{}", repeated("''")),
        format!("''{}", repeated("--\n")),
    ] {
        for dialect in [Dialect::default(), ESCAPING] {
            let end = Lexer::new(text.as_bytes(), dialect).last().map(|token| token.end);
            assert!(end.is_some_and(|end| end <= text.len()));
        }
    }
}

proptest! {
    /// Every byte is in exactly one token or is white space, whatever the bytes are.
    #[test]
    fn tokens_cover_any_text(text in prop::collection::vec(prop_oneof![
        prop::sample::select(b"'\"$\\/*-+.eExXbBuUnN&01_a \n;(".to_vec()),
        any::<u8>(),
    ], 0..200), standard in any::<bool>()) {
        let dialect = Dialect { standard_conforming_strings: standard, ascii_safe: true, ascii_folding: true };
        let mut at = 0;
        for token in Lexer::new(&text, dialect) {
            prop_assert!(token.start < token.end);
            prop_assert!(text[at..token.start].iter().all(|&byte| super::is_space(byte)));
            at = token.end;
        }
        prop_assert!(text[at..].iter().all(|&byte| super::is_space(byte)));
    }
}
