//! Tokens with two ends: strings, quoted names, dollar quotes and comments.

use super::class::{DIGIT, NAME_START, TAG};
use super::{Flaw, Lexer, TokenKind, is_space};
use memchr::{memchr, memchr2, memmem};

type Scanned = (TokenKind, usize, Option<Flaw>);

impl Lexer<'_> {
    /// A string whose opening quote is at `quote`, with its continuations.
    pub(super) fn string(&self, kind: TokenKind, quote: usize) -> Scanned {
        let mut open = quote;
        loop {
            let Some(end) = closing_quote(self.text, kind, open + 1) else {
                return (kind, self.text.len(), Some(Flaw::Unterminated));
            };
            match continuation(self.text, end) {
                Some(next) => open = next,
                None => return (kind, end, None),
            }
        }
    }

    /// A quoted name whose opening quote is at `quote`.
    pub(super) fn quoted_name(&self, kind: TokenKind, quote: usize) -> Scanned {
        let mut at = quote + 1;
        loop {
            let Some(found) = self.text.get(at..).and_then(|rest| memchr(b'"', rest)) else {
                return (kind, self.text.len(), Some(Flaw::Unterminated));
            };
            at += found + 1;
            if self.byte(at) != Some(b'"') {
                return (kind, at, None);
            }
            at += 1;
        }
    }

    /// What begins with a dollar: a parameter, a dollar-quoted string, or nothing.
    pub(super) fn dollar(&self, start: usize) -> Scanned {
        let digits = self.run(start + 1, DIGIT);
        if digits > start + 1 {
            let junk = self.is_at(digits, NAME_START).then_some(Flaw::TrailingJunk);
            return (TokenKind::Parameter, digits, junk);
        }
        let tag = self.run(start + 1, TAG);
        if self.byte(tag) != Some(b'$') {
            return (TokenKind::Stray(b'$'), start + 1, Some(Flaw::Stray));
        }
        let (Some(delimiter), Some(body)) = (self.text.get(start..=tag), self.text.get(tag + 1..)) else {
            return (TokenKind::Stray(b'$'), start + 1, Some(Flaw::Stray));
        };
        match memmem::find(body, delimiter) {
            Some(found) => (TokenKind::DollarString, tag + 1 + found + delimiter.len(), None),
            None => (TokenKind::DollarString, self.text.len(), Some(Flaw::Unterminated)),
        }
    }

    pub(super) fn line_comment(&self, start: usize) -> usize {
        line_end(self.text, start)
    }

    /// A block comment; they nest.
    pub(super) fn block_comment(&self, start: usize) -> Scanned {
        let mut at = start + 2;
        let mut depth = 1usize;
        while let Some(found) = self.text.get(at..).and_then(|rest| memchr2(b'/', b'*', rest)) {
            at += found;
            match (self.byte(at), self.byte(at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (TokenKind::BlockComment, at, None);
                    }
                }
                _ => at += 1,
            }
        }
        (TokenKind::BlockComment, self.text.len(), Some(Flaw::Unterminated))
    }
}

/// Where the segment of a string whose content begins at `at` ends, past its quote.
pub(in crate::sql) fn closing_quote(text: &[u8], kind: TokenKind, mut at: usize) -> Option<usize> {
    let doubling = !matches!(kind, TokenKind::BitString | TokenKind::HexString);
    loop {
        let rest = text.get(at..)?;
        let found =
            if kind == TokenKind::EscapeString { memchr2(b'\'', b'\\', rest)? } else { memchr(b'\'', rest)? };
        at += found;
        let escape = text.get(at) == Some(&b'\\');
        let doubled = doubling && text.get(at + 1) == Some(&b'\'');
        if !escape && !doubled {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The opening quote of the next segment, if the string whose closing quote lies before `end` goes on: only white space
/// and line comments with at least one end of line lie between the two.
pub(in crate::sql) fn continuation(text: &[u8], end: usize) -> Option<usize> {
    let mut at = end;
    let mut lines = 0usize;
    loop {
        match *text.get(at)? {
            b'\'' if lines > 0 => return Some(at),
            b'-' if text.get(at + 1) == Some(&b'-') => at = line_end(text, at),
            byte if is_space(byte) => {
                lines += usize::from(matches!(byte, b'\n' | b'\r'));
                at += 1;
            }
            _ => return None,
        }
    }
}

fn line_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    start + memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())
}
