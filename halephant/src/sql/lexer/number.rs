//! Numbers, as PostgreSQL 16 and later read them.

use super::{Flaw, Lexer, TokenKind, is_name_part, is_name_start};

impl Lexer<'_> {
    /// A number; `start` is at a digit, or at a point before one.
    pub(super) fn number(&self, start: usize) -> (TokenKind, usize, Option<Flaw>) {
        if let Some(end) = self.radix_integer(start) {
            return (TokenKind::Integer, end, None);
        }
        let (mut kind, mut end) = (TokenKind::Integer, self.digits(start));
        // The longest match decides, so a word that begins where the digits, the fraction or the exponent could have
        // ended makes junk of all of it if it reaches further than the number does.
        let mut junk = self.word_end(end);
        // `1..10` is a range of two integers.
        if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
            kind = TokenKind::Decimal;
            end = self.digits(end + 1);
            junk = self.word_end(end);
        }
        if matches!(self.byte(end), Some(b'e' | b'E')) {
            let signed = matches!(self.byte(end + 1), Some(b'+' | b'-'));
            let exponent = end + 1 + usize::from(signed);
            let exponent_end = self.digits(exponent);
            if exponent_end > exponent {
                kind = TokenKind::Decimal;
                end = exponent_end;
                junk = junk.max(self.word_end(end));
            }
        }
        (kind, end, (junk > end).then_some(Flaw::TrailingJunk))
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
        // What older servers read, a zero and a name, reaches as far or further otherwise.
        (end > start + 2 && end == self.run(start + 1, is_name_part)).then_some(end)
    }

    /// The end of decimal digits with single underscores between them.
    fn digits(&self, start: usize) -> usize {
        let mut end = self.run(start, |byte| byte.is_ascii_digit());
        while end > start && self.byte(end) == Some(b'_') {
            let more = self.run(end + 1, |byte| byte.is_ascii_digit());
            if more == end + 1 {
                break;
            }
            end = more;
        }
        end
    }

    /// The end of the name that begins here, or here.
    fn word_end(&self, at: usize) -> usize {
        if self.byte(at).is_some_and(is_name_start) { self.run(at, is_name_part) } else { at }
    }
}
