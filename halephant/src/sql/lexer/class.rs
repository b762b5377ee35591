//! What each byte may be part of, as a table: the lexer looks at every byte of a text.

use super::Lexer;

pub(super) const SPACE: u8 = 1;
pub(super) const DIGIT: u8 = 1 << 1;
pub(super) const NAME_START: u8 = 1 << 2;
/// What a name goes on with: its first characters, digits and dollars.
pub(super) const NAME: u8 = 1 << 3;
/// What a dollar quote's tag goes on with.
pub(super) const TAG: u8 = NAME_START | DIGIT;
pub(super) const OPERATOR: u8 = 1 << 4;
/// Operator characters that let an operator end in `+` or `-`: no operator of the standard has them.
pub(super) const NON_STANDARD: u8 = 1 << 5;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

const fn class(byte: u8) -> u8 {
    match byte {
        // The vertical tab is white space since PostgreSQL 16 and a syntax error before.
        b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' => SPACE,
        b'0'..=b'9' => DIGIT | NAME,
        b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80.. => NAME_START | NAME,
        b'$' => NAME,
        b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' => OPERATOR,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%' => OPERATOR | NON_STANDARD,
        _ => 0,
    }
}

/// Whether a byte is in one of these classes.
pub(super) fn is(byte: u8, classes: u8) -> bool {
    CLASSES[usize::from(byte)] & classes != 0
}

impl Lexer<'_> {
    /// The end of the run of bytes from `at` that are in one of these classes.
    pub(super) fn run(&self, at: usize, classes: u8) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at + rest.iter().position(|&byte| !is(byte, classes)).unwrap_or(rest.len())
    }

    /// Whether there is a byte at `at` and it is in one of these classes.
    pub(super) fn is_at(&self, at: usize, classes: u8) -> bool {
        self.byte(at).is_some_and(|byte| is(byte, classes))
    }
}
