//! The errors of one configuration file: all of them, in the order of the file.

use super::problem::Problem;
use std::fmt;

/// One mistake and where it is.
#[derive(Debug)]
pub struct ConfigError {
    /// `None` where the file could not be read at all.
    pub position: Option<Position>,
    /// The TOML path (`cluster.main.nodes[1]`); empty where the mistake is not in a value.
    pub path: String,
    pub problem: Problem,
}

/// Counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of a byte of `text`; an offset past the end is that of the end.
    pub(super) fn of(offset: usize, text: &str) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let is_char_start = |byte: &&u8| (**byte & 0xc0) != 0x80;
        Self {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + before[line_start..].iter().filter(is_char_start).count(),
        }
    }
}

/// Everything that is wrong with one file; never empty. Shown as one line per error:
/// `file:line:column: path: what is wrong; what would be right`.
#[derive(Debug)]
pub struct ConfigErrors {
    pub(super) file: String,
    pub(super) errors: Vec<ConfigError>,
    /// How many more there are than `errors` holds.
    pub(super) omitted: usize,
}

impl ConfigErrors {
    pub(super) fn one(file: &str, position: Option<Position>, problem: Problem) -> Self {
        let errors = vec![ConfigError { position, path: String::new(), problem }];
        Self { file: file.to_owned(), errors, omitted: 0 }
    }

    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file)?;
            if let Some(Position { line, column }) = error.position {
                write!(f, "{line}:{column}:")?;
            }
            if !error.path.is_empty() {
                write!(f, " {}:", error.path)?;
            }
            write!(f, " {}", error.problem)?;
        }
        if self.omitted > 0 {
            write!(f, "\n{}: {} more errors", self.file, self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
