//! SQL text as PostgreSQL's own lexer reads it: tokens, statements, and what they do to a session.
//!
//! Pure functions over bytes. Nothing here talks to a server, so nothing here knows catalogs: what a user's function does
//! is not seen, and what the text alone cannot tell is said to be unknown, never guessed.

pub mod access;
mod classify;
mod cursor;
pub mod effect;
mod keywords;
pub mod lexer;
pub mod literal;
mod prefilter;
mod sanitize;
pub mod statements;
mod summary;
#[cfg(test)]
mod tests;

pub use classify::classify;
pub use prefilter::may_have_effects;
pub use sanitize::sanitize;
pub use summary::{SUMMARY_BYTES_MAX, summary};

/// How the server that will receive the text reads it. All of it is reported by the server in ParameterStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `standard_conforming_strings`: whether a backslash in a plain `'...'` is an ordinary character.
    pub standard_conforming_strings: bool,
    /// Whether every byte of a multi-byte character of `client_encoding` has its high bit set, so that an ASCII byte
    /// always is that ASCII character; see [`Dialect::reported`].
    pub ascii_safe: bool,
    /// Whether unquoted names are folded to lower case in ASCII letters alone: not so in a `server_encoding` of single
    /// bytes, where the server's locale has a say.
    pub ascii_folding: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { standard_conforming_strings: true, ascii_safe: true, ascii_folding: true }
    }
}

/// The encodings a client may have and a server not. The server converts a text from them before it lexes it, so a byte
/// that looks like a backslash or a letter to us may be half of a character to it.
const CLIENT_ONLY_ENCODINGS: [&str; 17] = [
    "big5",
    "win950",
    "windows950",
    "gbk",
    "win936",
    "windows936",
    "uhc",
    "win949",
    "windows949",
    "gb18030",
    "sjis",
    "mskanji",
    "shiftjis",
    "win932",
    "windows932",
    "johab",
    "shiftjis2004",
];

impl Dialect {
    /// The dialect that three values of ParameterStatus name.
    #[must_use]
    pub fn reported(
        standard_conforming_strings: &[u8],
        client_encoding: &[u8],
        server_encoding: &[u8],
    ) -> Self {
        let client = encoding_name(client_encoding);
        let server = encoding_name(server_encoding);
        Self {
            standard_conforming_strings: !standard_conforming_strings.eq_ignore_ascii_case(b"off"),
            ascii_safe: !CLIENT_ONLY_ENCODINGS.iter().any(|name| name.as_bytes() == client),
            ascii_folding: [&b"utf8"[..], b"euc", b"mule"].iter().any(|prefix| server.starts_with(prefix)),
        }
    }

    /// Whether the bytes of this text mean to the server what they mean to the lexer.
    #[must_use]
    pub fn can_lex(self, text: &[u8]) -> bool {
        self.ascii_safe || text.is_ascii()
    }
}

/// An encoding's name as PostgreSQL compares it: its letters and digits.
fn encoding_name(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect()
}

/// A parameter's text read as a boolean, as PostgreSQL reads it: any beginning of a word that is only of that word.
#[must_use]
pub fn boolean(text: &[u8]) -> Option<bool> {
    let begins = |word: &str, least: usize| {
        text.len() >= least
            && word.as_bytes().get(..text.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(text))
    };
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == b"1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == b"0" {
        Some(false)
    } else {
        None
    }
}
