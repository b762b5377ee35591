//! pg_ident.conf: which users somebody may log in as that another system knows under its own name (the PostgreSQL
//! manual, "User Name Maps").

use super::pattern::{Group, Pattern, PatternError};
use super::records::{Field, Misplaced, Record, RecordsError, Token, read_records};
use std::path::Path;

#[cfg(test)]
mod tests;

/// The lines of every map, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentMaps {
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    map: String,
    system: System,
    user: User,
}

/// The name that the other system knows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum System {
    Is(String),
    Matches(Pattern),
    /// What the first parentheses match stands in the user's name.
    Gives(Group),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum User {
    All,
    Is(String),
    Matches(Pattern),
    /// `\1` stands between these two.
    Around(String, String),
}

#[derive(Debug, thiserror::Error)]
pub enum IdentLineError {
    #[error("missing entry at end of line")]
    Short,
    #[error("more than three fields")]
    Long,
    #[error("multiple values in ident field")]
    Several,
    #[error("\"{0}\" stands for members of a role, which halephant does not know; name the users")]
    Membership(String),
    #[error("regular expression \"{expression}\" has no group for the \\1 in \"{user}\"")]
    NoGroup { expression: String, user: String },
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

#[derive(Debug, thiserror::Error)]
pub enum IdentError {
    #[error(transparent)]
    Records(#[from] Misplaced<RecordsError>),
    #[error(transparent)]
    Line(#[from] Misplaced<IdentLineError>),
}

impl IdentMaps {
    /// Reads `path` and what it includes; every mistake is told. Blocks.
    pub fn load(path: &Path) -> Result<Self, Vec<IdentError>> {
        let records = read_records(path)
            .map_err(|mistakes| mistakes.into_iter().map(IdentError::from).collect::<Vec<_>>())?;
        let mut lines = Vec::with_capacity(records.len());
        let mut mistakes = Vec::new();
        for record in &records {
            match Line::parse(record) {
                Ok(line) => lines.push(line),
                Err(error) => mistakes.push(Misplaced { place: record.place.clone(), error }.into()),
            }
        }
        if mistakes.is_empty() { Ok(Self { lines }) } else { Err(mistakes) }
    }

    pub fn has(&self, map: &str) -> bool {
        self.lines.iter().any(|line| line.map == map)
    }

    /// Whether `identity` may log in as `user`: by a line of the map or, without a map, where it is the same name.
    pub fn permits(&self, map: Option<&str>, identity: &str, user: &str) -> bool {
        match map.filter(|map| !map.is_empty()) {
            None => identity == user,
            Some(map) => self.lines.iter().any(|line| line.map == map && line.permits(identity, user)),
        }
    }
}

impl Line {
    fn parse(record: &Record) -> Result<Self, IdentLineError> {
        let [map, system, user] = match &record.fields[..] {
            [map, system, user] => [map, system, user].map(single),
            [_, _, _, ..] => return Err(IdentLineError::Long),
            _ => return Err(IdentLineError::Short),
        };
        let (map, system, token) = (map?, system?, user?);
        let user = User::parse(token)?;
        let (system, user) = match (system.pattern(), user) {
            (None, User::Around(..)) => {
                // Without an expression there is nothing that it could stand for.
                (System::Is(system.text.clone()), User::Is(token.text.clone()))
            }
            (None, user) => (System::Is(system.text.clone()), user),
            (Some(expression), user) => {
                let pattern = Pattern::new(expression)?;
                match user {
                    User::Around(..) if !pattern.has_group() => {
                        let expression = system.text.clone();
                        return Err(IdentLineError::NoGroup { expression, user: token.text.clone() });
                    }
                    User::Around(..) => (System::Gives(Group::new(expression)?), user),
                    user => (System::Matches(pattern), user),
                }
            }
        };
        Ok(Self { map: map.text.clone(), system, user })
    }

    fn permits(&self, identity: &str, user: &str) -> bool {
        let group = match &self.system {
            System::Is(name) if name == identity => None,
            System::Matches(pattern) if pattern.is_match(identity) => None,
            System::Is(_) | System::Matches(_) => return false,
            System::Gives(group) => match group.of(identity) {
                None => return false,
                group => group,
            },
        };
        match &self.user {
            User::All => true,
            User::Is(name) => name == user,
            User::Matches(pattern) => pattern.is_match(user),
            User::Around(before, behind) => group.is_some_and(|group| {
                user.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(behind.as_str()))
                    == Some(group)
            }),
        }
    }
}

impl User {
    fn parse(token: &Token) -> Result<Self, IdentLineError> {
        if !token.quoted && token.text.starts_with('+') {
            return Err(IdentLineError::Membership(token.text.clone()));
        }
        if token.is_keyword("all") {
            return Ok(Self::All);
        }
        if let Some(expression) = token.pattern() {
            return Ok(Self::Matches(Pattern::new(expression)?));
        }
        Ok(match token.text.split_once("\\1") {
            Some((before, behind)) => Self::Around(before.to_owned(), behind.to_owned()),
            None => Self::Is(token.text.clone()),
        })
    }
}

fn single(field: &Field) -> Result<&Token, IdentLineError> {
    match &field[..] {
        [token] => Ok(token),
        _ => Err(IdentLineError::Several),
    }
}
