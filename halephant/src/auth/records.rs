//! The file format that pg_hba.conf and pg_ident.conf share: lines of fields of tokens, with includes (the PostgreSQL
//! manual, "The pg_hba.conf File").

mod read;
mod token;

#[cfg(test)]
mod tests;

pub use read::{RecordsError, read_records};
pub use token::Token;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    /// From 1; the first of several that are continued.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What a field holds: one token, or several with commas between them. Never empty.
pub type Field = Vec<Token>;

/// A line that says something. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub place: Place,
    pub fields: Vec<Field>,
}

/// A mistake and where it is.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub struct Misplaced<E: std::error::Error> {
    pub place: Place,
    pub error: E,
}
