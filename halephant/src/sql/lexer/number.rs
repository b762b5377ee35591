//! Numbers, as PostgreSQL 16 and later read them; what they refuse is read as PostgreSQL 14 did, which took it.

use super::class::{DIGIT, NAME, NAME_START};
use super::{Flaw, Lexer, TokenKind};

impl Lexer<'_> {
    /// A number; `start` is at a digit, or at a point before one.
    pub(super) fn number(&self, start: usize) -> (TokenKind, usize, Option<Flaw>) {
        if let Some(end) = self.radix_integer(start) {
            return (TokenKind::Integer, end, None);
        }
        let (kind, end, junk) = self.decimal(start, Self::grouped_digits);
        if !junk {
            return (kind, end, None);
        }
        let (kind, end, _) = self.decimal(start, Self::plain_digits);
        (kind, end, Some(Flaw::TrailingJunk))
    }

    /// The kind and the end of a decimal number, and whether a word runs into it: the longest match decides, so a word
    /// that may begin where digits, fraction or exponent may end makes junk of all of it if it reaches further.
    fn decimal(&self, start: usize, digits: fn(&Self, usize) -> usize) -> (TokenKind, usize, bool) {
        let mut kind = TokenKind::Integer;
        let mut end = digits(self, start);
        let mut junk = self.word_end(start, end);
        // `1..10` is a range of two integers.
        if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
            kind = TokenKind::Decimal;
            let fraction = end + 1;
            end = digits(self, fraction);
            junk = self.word_end(fraction, end);
        }
        if matches!(self.byte(end), Some(b'e' | b'E')) {
            let signed = matches!(self.byte(end + 1), Some(b'+' | b'-'));
            let exponent = end + 1 + usize::from(signed);
            let exponent_end = digits(self, exponent);
            if exponent_end > exponent {
                kind = TokenKind::Decimal;
                end = exponent_end;
                junk = junk.max(self.word_end(exponent, end));
            }
        }
        (kind, end, junk > end)
    }

    /// The end of `0x1F`, `0o17` or `0b11`, if that is what is here.
    fn radix_integer(&self, start: usize) -> Option<usize> {
        let digit: fn(u8) -> bool = match (self.byte(start)?, self.byte(start + 1)?) {
            (b'0', b'x' | b'X') => |byte| byte.is_ascii_hexdigit(),
            (b'0', b'o' | b'O') => |byte| matches!(byte, b'0'..=b'7'),
            (b'0', b'b' | b'B') => |byte| matches!(byte, b'0' | b'1'),
            _ => return None,
        };
        let mut end = start + 2;
        while let Some(byte) = self.byte(end) {
            let after = end + usize::from(byte == b'_');
            if !self.byte(after).is_some_and(digit) {
                break;
            }
            end = after + 1;
        }
        // A zero and a name that reaches further is the longer match.
        (end > start + 2 && end == self.run(start + 1, NAME)).then_some(end)
    }

    /// The end of decimal digits with single underscores between them.
    fn grouped_digits(&self, start: usize) -> usize {
        let mut end = self.plain_digits(start);
        while end > start && self.byte(end) == Some(b'_') {
            let more = self.plain_digits(end + 1);
            if more == end + 1 {
                break;
            }
            end = more;
        }
        end
    }

    fn plain_digits(&self, start: usize) -> usize {
        self.run(start, DIGIT)
    }

    /// The end of the longest name that begins at the end of these digits or at an underscore among them.
    fn word_end(&self, digits: usize, end: usize) -> usize {
        let grouped = self.text.get(digits..end).is_some_and(|digits| digits.contains(&b'_'));
        if grouped || self.is_at(end, NAME_START) { self.run(end, NAME) } else { end }
    }
}
