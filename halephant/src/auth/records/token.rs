//! Words of a line, with and without quotation marks: PostgreSQL's own rules, its odd cases included.

/// A word. In quotation marks it is a name, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// It begins with a quotation mark.
    pub quoted: bool,
}

impl Token {
    /// Whether this is the keyword and not a name that looks like it.
    pub fn is_keyword(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// The file that the token stands for, as `@file`.
    pub(super) fn file(&self) -> Option<&str> {
        self.text.strip_prefix('@').filter(|name| !self.quoted && !name.is_empty())
    }

    /// The regular expression that the token is, as `/expression`.
    pub fn pattern(&self) -> Option<&str> {
        self.text.strip_prefix('/')
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// The next token of a line, and whether a comma follows it; `rest` is then what is behind the token. `None` at the end
/// of the line or at a comment.
pub(super) fn next_token(rest: &mut &str) -> Option<(Token, bool)> {
    let line = rest.trim_start_matches(|c| is_blank(c) || c == ',');
    let mut text = String::new();
    let (mut in_quotes, mut was_quote, mut saw_quote, mut quoted) = (false, false, false, false);
    let mut behind = line.len();
    let mut comma = false;
    for (index, c) in line.char_indices() {
        if !in_quotes && (is_blank(c) || c == '#' || c == ',') {
            comma = c == ',';
            behind = if c == '#' { line.len() } else { index };
            break;
        }
        // The second of two quotation marks inside of quotation marks stands for one.
        if c != '"' || was_quote {
            text.push(c);
        }
        was_quote = in_quotes && c == '"' && !was_quote;
        if c == '"' {
            in_quotes = !in_quotes;
            saw_quote = true;
            quoted |= text.is_empty();
        }
    }
    *rest = &line[behind..];
    (saw_quote || !text.is_empty()).then_some((Token { text, quoted }, comma))
}
