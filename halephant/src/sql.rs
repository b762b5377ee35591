//! SQL text as PostgreSQL's own lexer reads it: tokens, statements, and what they do to a session.
//!
//! Pure functions over bytes. Nothing here talks to a server, so nothing here knows catalogs: what a user's function does
//! is not seen, and what the text alone cannot tell is said to be unknown, never guessed.

pub mod lexer;

/// How the server that will receive the text reads it. All of it is reported by the server in ParameterStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `standard_conforming_strings`: whether a backslash in a plain `'...'` is an ordinary character.
    pub standard_conforming_strings: bool,
    /// Whether every byte of a multi-byte character of `client_encoding` has its high bit set, so that an ASCII byte
    /// always is that ASCII character; see [`Dialect::ascii_safe`].
    pub ascii_safe: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { standard_conforming_strings: true, ascii_safe: true }
    }
}

impl Dialect {
    /// The dialect that the two ParameterStatus values name.
    #[must_use]
    pub fn reported(standard_conforming_strings: &[u8], client_encoding: &[u8]) -> Self {
        Self {
            standard_conforming_strings: !standard_conforming_strings.eq_ignore_ascii_case(b"off"),
            ascii_safe: Self::ascii_safe(client_encoding),
        }
    }

    /// Whether a `client_encoding` keeps ASCII bytes out of its multi-byte characters.
    ///
    /// The server converts a text from these encodings before it lexes it, so a byte that looks like a backslash or a
    /// letter to us may be half of a character to it (the manual's "Supported Character Sets", client-only encodings).
    #[must_use]
    pub fn ascii_safe(client_encoding: &[u8]) -> bool {
        const CLIENT_ONLY: [&str; 17] = [
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
        // PostgreSQL compares encoding names by their letters and digits alone.
        !CLIENT_ONLY.iter().any(|name| {
            name.bytes().eq(client_encoding
                .iter()
                .filter(|byte| byte.is_ascii_alphanumeric())
                .map(u8::to_ascii_lowercase))
        })
    }

    /// Whether the bytes of this text mean to the server what they mean to the lexer.
    #[must_use]
    pub fn can_lex(self, text: &[u8]) -> bool {
        self.ascii_safe || text.is_ascii()
    }
}
