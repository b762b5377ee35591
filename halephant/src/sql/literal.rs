//! What names, strings and numbers say: their text as the server sees it, wherever the text alone decides that.

use super::Dialect;
use super::lexer::{Token, TokenKind, closing_quote, continuation};
use std::borrow::Cow;

/// A name is cut to this many bytes (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// A word or value, as far as the text tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum<'a> {
    /// The exact text: names folded to lower case and cut to length, strings without their quotes and escapes.
    Text(Cow<'a, [u8]>),
    /// `$n` of the extended protocol: what Bind gives it.
    Parameter(u32),
    /// The key word NULL.
    Null,
    /// An expression, or a spelling whose meaning depends on the server's encoding.
    Unknown,
}

impl<'a> Datum<'a> {
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Datum::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn borrowed(text: &'a [u8]) -> Self {
        Datum::Text(Cow::Borrowed(text))
    }
}

/// The name that a word or quoted name spells; `escape` is the UESCAPE character of a `U&"..."`.
pub(super) fn name<'a>(token: Token, text: &'a [u8], escape: u8, dialect: Dialect) -> Datum<'a> {
    let spelled = token.text(text);
    let name = match token.kind {
        TokenKind::Word if !spelled.is_ascii() && !dialect.ascii_folding => None,
        TokenKind::Word => Some(folded(spelled)),
        TokenKind::QuotedName => {
            spelled.get(1..spelled.len().saturating_sub(1)).map(|inner| undoubled(inner, b'"'))
        }
        TokenKind::UnicodeName => spelled
            .get(3..spelled.len().saturating_sub(1))
            .and_then(|inner| unicode_unescaped(&undoubled(inner, b'"'), escape))
            .map(Cow::Owned),
        _ => None,
    };
    match name.and_then(truncated) {
        Some(name) if !name.is_empty() && token.flaw.is_none() => Datum::Text(name),
        _ => Datum::Unknown,
    }
}

/// The text that a string spells; `escape` is the UESCAPE character of a `U&'...'`.
pub(super) fn string<'a>(token: Token, text: &'a [u8], escape: u8) -> Datum<'a> {
    if token.flaw.is_some() {
        return Datum::Unknown;
    }
    let spelled = token.text(text);
    let value = match token.kind {
        TokenKind::String => Some(segments(token.kind, spelled, |segment| Some(undoubled(segment, b'\'')))),
        TokenKind::EscapeString => Some(segments(token.kind, spelled, unescaped)),
        TokenKind::UnicodeString => Some(
            segments(token.kind, spelled, |segment| Some(undoubled(segment, b'\'')))
                .and_then(|whole| unicode_unescaped(&whole, escape).map(Cow::Owned)),
        ),
        TokenKind::DollarString => {
            let tag = memchr::memchr(b'$', spelled.get(1..).unwrap_or_default()).map_or(0, |at| at + 2);
            Some(spelled.get(tag..spelled.len().saturating_sub(tag)).map(Cow::Borrowed))
        }
        _ => None,
    };
    value.flatten().map_or(Datum::Unknown, Datum::Text)
}

/// The text of a number as SET stores it: an integer of 32 bits in decimal, anything else as it is written.
pub(super) fn number(token: Token, text: &[u8], negative: bool) -> Datum<'static> {
    if token.flaw.is_some() {
        return Datum::Unknown;
    }
    let spelled = token.text(text);
    let mut out = if negative { b"-".to_vec() } else { Vec::new() };
    match (token.kind, small_integer(spelled)) {
        (TokenKind::Integer, Some(0)) => return Datum::borrowed(b"0"),
        (TokenKind::Integer, Some(value)) => out.extend_from_slice(value.to_string().as_bytes()),
        (TokenKind::Integer | TokenKind::Decimal, _) => out.extend_from_slice(spelled),
        _ => return Datum::Unknown,
    }
    Datum::Text(Cow::Owned(out))
}

/// An integer that fits 32 bits, with its radix prefix and underscores read.
fn small_integer(spelled: &[u8]) -> Option<i32> {
    let (radix, digits) = match spelled {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', b'o' | b'O', digits @ ..] => (8, digits),
        [b'0', b'b' | b'B', digits @ ..] => (2, digits),
        digits => (10, digits),
    };
    digits.iter().filter(|&&byte| byte != b'_').try_fold(0i32, |value, &byte| {
        let digit = char::from(byte).to_digit(radix)?;
        value.checked_mul(i32::try_from(radix).ok()?)?.checked_add(i32::try_from(digit).ok()?)
    })
}

/// ASCII letters in lower case.
fn folded(word: &[u8]) -> Cow<'_, [u8]> {
    if word.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(word.to_ascii_lowercase())
    } else {
        Cow::Borrowed(word)
    }
}

/// A name cut to its greatest length; where a character beyond ASCII could be cut in two, only the server knows.
fn truncated(name: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    if name.len() <= NAME_BYTES_MAX {
        return Some(name);
    }
    match name {
        _ if !name.is_ascii() => None,
        Cow::Borrowed(name) => name.get(..NAME_BYTES_MAX).map(Cow::Borrowed),
        Cow::Owned(mut name) => {
            name.truncate(NAME_BYTES_MAX);
            Some(Cow::Owned(name))
        }
    }
}

/// Text between quotes with the doubled ones made one.
fn undoubled(inner: &[u8], quote: u8) -> Cow<'_, [u8]> {
    if memchr::memchr(quote, inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        out.push(byte);
        if byte == quote {
            bytes.next();
        }
    }
    Cow::Owned(out)
}

/// The contents of a string's segments, each decoded, in one.
fn segments<'a>(
    kind: TokenKind,
    spelled: &'a [u8],
    decode: fn(&'a [u8]) -> Option<Cow<'a, [u8]>>,
) -> Option<Cow<'a, [u8]>> {
    let mut open = memchr::memchr(b'\'', spelled)?;
    let mut whole: Option<Cow<'a, [u8]>> = None;
    loop {
        let end = closing_quote(spelled, kind, open + 1)?;
        let segment = decode(spelled.get(open + 1..end - 1)?)?;
        match &mut whole {
            None => whole = Some(segment),
            Some(whole) => whole.to_mut().extend_from_slice(&segment),
        }
        match continuation(spelled, end) {
            Some(next) => open = next,
            None => return whole,
        }
    }
}

/// The content of an `E'...'`. What an escape beyond ASCII stands for depends on the server's encoding, and `\v` on its
/// version.
fn unescaped(inner: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr2(b'\\', b'\'', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\'' => {
                rest = rest.get(1..)?;
                out.push(b'\'');
            }
            b'\\' => {
                let (value, after) = escape(rest)?;
                rest = after;
                out.push(value);
            }
            byte => out.push(byte),
        }
    }
    Some(Cow::Owned(out))
}

/// The byte that the escape after a backslash stands for, and what follows it.
fn escape(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (&first, after) = rest.split_first()?;
    let coded = |digits: usize, radix: u32, from: &[u8]| -> Option<u8> {
        let value = from.get(..digits)?.iter().try_fold(0u32, |value, &byte| {
            value.checked_mul(radix)?.checked_add(char::from(byte).to_digit(radix)?)
        })?;
        // A zero ends the server's string and is refused; octal escapes wrap at a byte.
        u8::try_from(if radix == 8 { value & 0xff } else { value })
            .ok()
            .filter(|byte| (1..0x80).contains(byte))
    };
    let count = |most: usize, radix: u32, from: &[u8]| {
        from.iter().take(most).take_while(|&&byte| char::from(byte).is_digit(radix)).count()
    };
    match first {
        b'b' => Some((0x08, after)),
        b'f' => Some((0x0c, after)),
        b'n' => Some((b'\n', after)),
        b'r' => Some((b'\r', after)),
        b't' => Some((b'\t', after)),
        b'v' => None,
        b'0'..=b'7' => {
            let digits = count(3, 8, rest);
            Some((coded(digits, 8, rest)?, rest.get(digits..)?))
        }
        b'x' => match count(2, 16, after) {
            0 => Some((b'x', after)),
            digits => Some((coded(digits, 16, after)?, after.get(digits..)?)),
        },
        b'u' => Some((coded(4, 16, after)?, after.get(4..)?)),
        b'U' => Some((coded(8, 16, after)?, after.get(8..)?)),
        byte => Some((byte, after)),
    }
}

/// The content of a `U&` string or name.
fn unicode_unescaped(inner: &[u8], escape: u8) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != escape {
            out.push(byte);
            continue;
        }
        if let Some(after) = rest.strip_prefix(&[escape]) {
            rest = after;
            out.push(escape);
            continue;
        }
        let (digits, from) = match rest.strip_prefix(b"+") {
            Some(from) => (6, from),
            None => (4, rest),
        };
        let value = from
            .get(..digits)?
            .iter()
            .try_fold(0u32, |value, &byte| Some(value * 16 + char::from(byte).to_digit(16)?))?;
        out.push(u8::try_from(value).ok().filter(|byte| (1..0x80).contains(byte))?);
        rest = from.get(digits..)?;
    }
    Some(out)
}
