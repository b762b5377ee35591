//! Regular expressions of rules and maps. PostgreSQL reads them as its advanced regular expressions; what the two dialects read
//! differently is refused.

mod group;

pub use group::Group;

use regex::{Regex, RegexBuilder};

/// Of a compiled expression; names are short, and so is what describes them.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Matches a part of a text unless it is anchored.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("invalid regular expression \"{expression}\": {reason}")]
    Invalid { expression: String, reason: String },
    #[error(
        "regular expression \"{expression}\" uses {what}, which PostgreSQL and halephant read differently"
    )]
    Dialect { expression: String, what: &'static str },
    #[error(
        "regular expression \"{expression}\" has {what}, and \\1 may stand for something else than with PostgreSQL"
    )]
    Group { expression: String, what: &'static str },
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    pub fn new(expression: &str) -> Result<Self, PatternError> {
        if let Some(what) = difference(expression) {
            return Err(PatternError::Dialect { expression: expression.to_owned(), what });
        }
        build(expression, expression).map(Self)
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Where the first match begins.
    fn start(&self, text: &str) -> Option<usize> {
        self.0.find(text).map(|found| found.start())
    }

    pub fn has_group(&self) -> bool {
        self.0.captures_len() > 1
    }
}

/// Compiles `text`, which stands for `expression`.
fn build(expression: &str, text: &str) -> Result<Regex, PatternError> {
    let compiled = RegexBuilder::new(text)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build();
    compiled.map_err(|error| {
        // The last line says what is wrong; those before it draw where.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        PatternError::Invalid { expression: expression.to_owned(), reason }
    })
}

/// What is valid in both dialects and does not mean the same.
fn difference(expression: &str) -> Option<&'static str> {
    let mut in_brackets = false;
    let mut letters = expression.chars().peekable();
    let mut before = '\0';
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().copied()) {
            ('\\', next) => {
                match next {
                    Some('b' | 'B' | '<' | '>') => return Some("\\b, \\B, \\< or \\>"),
                    Some('p' | 'P') => return Some("\\p or \\P"),
                    Some('d' | 'D' | 's' | 'S' | 'w' | 'W') => {
                        return Some("\\d, \\s or \\w; write [0-9], [[:space:]] or [[:alnum:]_]");
                    }
                    _ => {}
                }
                letters.next();
            }
            ('[', Some(':')) if in_brackets => {
                // A class; its own bracket must not end the list.
                while let Some(letter) = letters.next() {
                    if letter == ':' && letters.peek() == Some(&']') {
                        letters.next();
                        break;
                    }
                }
            }
            ('[', _) if in_brackets => return Some("[ inside of brackets"),
            ('[', _) => {
                in_brackets = true;
                if letters.peek() == Some(&'^') {
                    letters.next();
                }
                // As the first of a list it is a letter.
                if letters.peek() == Some(&']') {
                    letters.next();
                }
            }
            (']', _) if in_brackets => in_brackets = false,
            ('&', Some('&')) | ('-', Some('-')) | ('~', Some('~')) if in_brackets => {
                return Some("&&, -- or ~~ inside of brackets");
            }
            ('?', next) if before == '(' && next != Some(':') => {
                return Some("(? other than (?:");
            }
            _ => {}
        }
        before = letter;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_parts_unless_anchored() {
        let matches = |expression: &str, text: &str| Pattern::new(expression).unwrap().is_match(text);
        assert!(matches("b", "abc") && !matches("^b", "abc"));
        assert!(matches("^(app|web)_[0-9]+$", "web_12") && !matches("^(app|web)_[0-9]+$", "web_12\n"));
        assert!(matches("^[[:alpha:]]{2}.$", "ab\n"));
        assert!(matches("^[]a]+$", "a]"));
        assert!(matches("", "anything"));
    }

    #[test]
    fn groups_are_seen() {
        assert!(Pattern::new("(a)").unwrap().has_group() && !Pattern::new("(?:a)").unwrap().has_group());
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for expression in ["\\bx", "[a&&b]", "[[a]b]", "(?i)x", "\\pL", "x\\>", "\\w+", "[\\d]"] {
            let error = Pattern::new(expression).unwrap_err();
            assert!(matches!(error, PatternError::Dialect { .. }), "{expression}: {error}");
        }
        for expression in ["(", "[", "(a", "\\1", "a{1000000}"] {
            let error = Pattern::new(expression).unwrap_err();
            assert!(matches!(error, PatternError::Invalid { .. }), "{expression}: {error}");
        }
    }
}
