//! Tokens of a query text: the manual's "Lexical Structure", decision by decision as PostgreSQL 18's scanner takes it.
//!
//! No allocation, one pass, linear in the text. White space is skipped, comments are tokens. What is no valid token is one
//! all the same, with a [`Flaw`], so a caller always sees every byte of the text that is not white space.

mod class;
mod number;
mod operator;
mod quoted;
#[cfg(test)]
mod tests;

pub(super) use quoted::{closing_quote, continuation};

use super::Dialect;
use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A key word or an unquoted name.
    Word,
    /// `"name"`
    QuotedName,
    /// `U&"name"`; a `UESCAPE 'c'` after it is two tokens of their own.
    UnicodeName,
    /// `'...'` without backslash escapes, with its continuations on later lines.
    String,
    /// `E'...'`, or `'...'` with standard_conforming_strings off.
    EscapeString,
    /// `U&'...'`
    UnicodeString,
    /// `$tag$...$tag$`
    DollarString,
    /// `B'...'`
    BitString,
    /// `X'...'`
    HexString,
    /// Digits, also hexadecimal, octal and binary ones.
    Integer,
    /// A number with a point or an exponent.
    Decimal,
    /// `$1`
    Parameter,
    /// An operator or `::`, `..`, `:=`, `=>`; the single characters of [`TokenKind::Symbol`] are no operators.
    Operator,
    /// One of `,()[].;:+-*/%^<>=`.
    Symbol(u8),
    /// `-- ...`, without the end of its line.
    LineComment,
    /// `/* ... */`
    BlockComment,
    /// A byte that begins no token, such as `{`, a backslash or a lone `$`.
    Stray(u8),
}

/// Why the server will refuse the whole text at a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The text ends inside of it.
    Unterminated,
    /// A number or parameter that runs into a word, which follows as a token of its own: PostgreSQL 13 and 14 take it,
    /// later ones refuse it.
    TrailingJunk,
    /// A byte that begins no token.
    Stray,
}

/// A token and where in the text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
    pub flaw: Option<Flaw>,
}

impl Token {
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The bytes of the token, in the text it was read from.
    #[must_use]
    pub fn text<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    #[must_use]
    pub fn is_comment(&self) -> bool {
        matches!(self.kind, TokenKind::LineComment | TokenKind::BlockComment)
    }

    #[must_use]
    pub fn is_string(&self) -> bool {
        use TokenKind::{BitString, DollarString, EscapeString, HexString, String, UnicodeString};
        matches!(self.kind, String | EscapeString | UnicodeString | DollarString | BitString | HexString)
    }

    /// A name, quoted or not; key words too.
    #[must_use]
    pub fn is_name(&self) -> bool {
        matches!(self.kind, TokenKind::Word | TokenKind::QuotedName | TokenKind::UnicodeName)
    }
}

/// The tokens of a text, in order. Cheap to clone: a clone looks ahead.
#[derive(Debug, Clone)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// Up to here every `+` and `-` is a token by itself; see [`operator`].
    signs_until: usize,
}

impl<'a> Lexer<'a> {
    #[must_use]
    pub fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, at: 0, dialect, signs_until: 0 }
    }

    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// The kind, the end and the flaw of the token whose first byte is `first`.
    fn scan(&mut self, start: usize, first: u8) -> (TokenKind, usize, Option<Flaw>) {
        let next = self.byte(start + 1);
        match first {
            b'\'' => self.string(self.plain_string(), start),
            b'"' => self.quoted_name(TokenKind::QuotedName, start),
            b'e' | b'E' if next == Some(b'\'') => self.string(TokenKind::EscapeString, start + 1),
            b'b' | b'B' if next == Some(b'\'') => self.string(TokenKind::BitString, start + 1),
            b'x' | b'X' if next == Some(b'\'') => self.string(TokenKind::HexString, start + 1),
            // The scanner returns NCHAR for the N and reads the string anew.
            b'n' | b'N' if next == Some(b'\'') => (TokenKind::Word, start + 1, None),
            b'u' | b'U' if next == Some(b'&') && self.byte(start + 2) == Some(b'\'') => {
                self.string(TokenKind::UnicodeString, start + 2)
            }
            b'u' | b'U' if next == Some(b'&') && self.byte(start + 2) == Some(b'"') => {
                self.quoted_name(TokenKind::UnicodeName, start + 2)
            }
            b'$' => self.dollar(start),
            b'0'..=b'9' => self.number(start),
            b'.' if self.is_at(start + 1, class::DIGIT) => self.number(start),
            b'-' if next == Some(b'-') => (TokenKind::LineComment, self.line_comment(start), None),
            b'/' if next == Some(b'*') => self.block_comment(start),
            _ if class::is(first, class::NAME_START) => {
                (TokenKind::Word, self.run(start + 1, class::NAME), None)
            }
            _ => self.operator(start, first),
        }
    }

    fn plain_string(&self) -> TokenKind {
        if self.dialect.standard_conforming_strings { TokenKind::String } else { TokenKind::EscapeString }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.run(self.at, class::SPACE);
        let first = self.byte(start)?;
        let (kind, end, flaw) = self.scan(start, first);
        self.at = end;
        Some(Token { kind, start, end, flaw })
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    class::is(byte, class::SPACE)
}

pub(super) fn is_name_part(byte: u8) -> bool {
    class::is(byte, class::NAME)
}
