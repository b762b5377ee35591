//! The names of databases and users in a rule.

use super::rule::RuleError;
use crate::auth::pattern::Pattern;
use crate::auth::records::Token;

/// One name of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    All,
    /// `sameuser`: the database is named like the user.
    SameUser,
    /// `replication`: whoever asks for physical replication, which nothing else stands for.
    Replication,
    Is(String),
    Matches(Pattern),
}

impl Name {
    pub(super) fn parse_database(token: &Token) -> Result<Self, RuleError> {
        if token.is_keyword("samerole") || token.is_keyword("samegroup") {
            return Err(RuleError::Membership(token.text.clone()));
        }
        match () {
            () if token.is_keyword("all") => Ok(Self::All),
            () if token.is_keyword("sameuser") => Ok(Self::SameUser),
            () if token.is_keyword("replication") => Ok(Self::Replication),
            () => Self::parse_name(token),
        }
    }

    pub(super) fn parse_user(token: &Token) -> Result<Self, RuleError> {
        if !token.quoted && token.text.starts_with('+') {
            return Err(RuleError::Membership(token.text.clone()));
        }
        if token.is_keyword("all") { Ok(Self::All) } else { Self::parse_name(token) }
    }

    fn parse_name(token: &Token) -> Result<Self, RuleError> {
        match token.pattern() {
            Some(expression) => Ok(Self::Matches(Pattern::new(expression)?)),
            None => Ok(Self::Is(token.text.clone())),
        }
    }

    pub(super) fn is_for_database(&self, name: &str, user: &str, replicates: bool) -> bool {
        match self {
            Self::Replication => replicates,
            name_of => !replicates && name_of.applies(name, user),
        }
    }

    pub(super) fn applies(&self, name: &str, user: &str) -> bool {
        match self {
            Self::All => true,
            Self::SameUser => name == user,
            Self::Replication => false,
            Self::Is(this) => this == name,
            Self::Matches(pattern) => pattern.is_match(name),
        }
    }
}
