//! Operators and punctuation, by the rules of the manual's "Operators" and "Special Characters".

use super::class::{self, NON_STANDARD, OPERATOR};
use super::{Flaw, Lexer, TokenKind};

impl Lexer<'_> {
    /// What begins with a byte that begins nothing else.
    pub(super) fn operator(&mut self, start: usize, first: u8) -> (TokenKind, usize, Option<Flaw>) {
        let one = |kind| (kind, start + 1, None);
        match first {
            b',' | b'(' | b')' | b'[' | b']' | b';' => one(TokenKind::Symbol(first)),
            b'.' if self.byte(start + 1) == Some(b'.') => (TokenKind::Operator, start + 2, None),
            b':' if matches!(self.byte(start + 1), Some(b':' | b'=')) => {
                (TokenKind::Operator, start + 2, None)
            }
            b'.' | b':' => one(TokenKind::Symbol(first)),
            b'+' | b'-' if start < self.signs_until => one(TokenKind::Symbol(first)),
            _ if class::is(first, OPERATOR) => self.operator_run(start, first),
            _ => (TokenKind::Stray(first), start + 1, Some(Flaw::Stray)),
        }
    }

    fn operator_run(&mut self, start: usize, first: u8) -> (TokenKind, usize, Option<Flaw>) {
        let mut end = start + 1;
        let mut signs_from = if is_sign(first) { start } else { end };
        let mut non_standard = class::is(first, NON_STANDARD);
        while let Some(byte) = self.byte(end).filter(|&byte| class::is(byte, OPERATOR)) {
            if matches!((byte, self.byte(end + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*'))) {
                break;
            }
            if !is_sign(byte) {
                signs_from = end + 1;
                non_standard |= class::is(byte, NON_STANDARD);
            }
            end += 1;
        }
        if end > start + 1 && !non_standard && signs_from < end {
            // The signs at the end of it are tokens of their own. Remembering that keeps a text of signs linear.
            self.signs_until = end;
            end = signs_from.max(start + 1);
        }
        match self.text.get(start..end) {
            Some(&[single]) if !matches!(single, b'~' | b'!' | b'@' | b'#' | b'&' | b'|' | b'`' | b'?') => {
                (TokenKind::Symbol(single), end, None)
            }
            _ => (TokenKind::Operator, end, None),
        }
    }
}

fn is_sign(byte: u8) -> bool {
    matches!(byte, b'+' | b'-')
}
