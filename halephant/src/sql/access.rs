//! Read-only or read-write: what a statement asks for, and what would take it back.

use super::boolean;
use super::effect::{Discard, Effect, Effects, Scope, Setting, Transaction, TransactionModes, Value};

/// What an effect asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessChange {
    pub mode: AccessMode,
    pub span: AccessSpan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    ReadOnly,
    ReadWrite,
    /// What the session began with.
    Default,
    /// It may be any of these.
    Unknown,
}

/// How long it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessSpan {
    /// The transaction that it begins or is in.
    Transaction,
    /// Each later transaction that does not say otherwise.
    Session,
}

impl AccessChange {
    /// Whether a read-only session might be writable after it, which a replica cannot grant.
    #[must_use]
    pub fn may_write(self) -> bool {
        matches!(self.mode, AccessMode::ReadWrite | AccessMode::Unknown)
    }
}

impl Effects<'_> {
    /// What the text asks for, in order.
    pub fn access(&self) -> impl Iterator<Item = AccessChange> {
        self.iter().filter_map(Effect::access)
    }
}

impl Effect<'_> {
    /// What the effect asks for, if it is about that at all. Code that the text does not show is not.
    #[must_use]
    pub fn access(&self) -> Option<AccessChange> {
        let session = |mode| Some(AccessChange { mode, span: AccessSpan::Session });
        match self {
            Effect::Transaction(Transaction::Begin(modes) | Transaction::Set(modes)) => named(*modes),
            Effect::Setting(setting) => parameter(setting),
            Effect::ResetAll | Effect::Discard(Discard::All) => session(AccessMode::Default),
            Effect::Unknown(_) => session(AccessMode::Unknown),
            _ => None,
        }
    }
}

fn named(modes: TransactionModes) -> Option<AccessChange> {
    let mode = if modes.read_only? { AccessMode::ReadOnly } else { AccessMode::ReadWrite };
    Some(AccessChange { mode, span: AccessSpan::Transaction })
}

fn parameter(setting: &Setting) -> Option<AccessChange> {
    let span = match (setting.name.text(), setting.scope) {
        (Some(b"transaction_read_only"), _) | (Some(b"default_transaction_read_only"), Scope::Local) => {
            AccessSpan::Transaction
        }
        (Some(b"default_transaction_read_only"), Scope::Session | Scope::Unknown) => AccessSpan::Session,
        (None, Scope::Local) => AccessSpan::Transaction,
        (None, Scope::Session | Scope::Unknown) => AccessSpan::Session,
        (Some(_), _) => return None,
    };
    let mode = match &setting.value {
        _ if !setting.certain => AccessMode::Unknown,
        Value::Default => AccessMode::Default,
        Value::Text(text) if setting.name.text().is_some() => match boolean(text) {
            Some(true) => AccessMode::ReadOnly,
            // The server refuses what is no boolean.
            Some(false) => AccessMode::ReadWrite,
            None => return None,
        },
        Value::Text(_) | Value::Parameter(_) | Value::Unknown => AccessMode::Unknown,
    };
    Some(AccessChange { mode, span })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Dialect, classify};

    fn check(text: &str, expected: &[(AccessMode, AccessSpan)]) {
        let effects = classify(text.as_bytes(), Dialect::default());
        let found: Vec<_> = effects.access().map(|change| (change.mode, change.span)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn transactions() {
        use AccessMode::{ReadOnly, ReadWrite};
        use AccessSpan::Transaction;
        check("begin", &[]);
        check("BEGIN /* x */ READ -- y\n ONLY", &[(ReadOnly, Transaction)]);
        check(
            "start transaction isolation level repeatable read, read only, deferrable",
            &[(ReadOnly, Transaction)],
        );
        check("begin read only, read write", &[(ReadWrite, Transaction)]);
        check("begin; set transaction read write", &[(ReadWrite, Transaction)]);
        check("set transaction_read_only to off", &[(ReadWrite, Transaction)]);
        check("set local default_transaction_read_only = f", &[(ReadWrite, Transaction)]);
    }

    #[test]
    fn sessions() {
        use AccessMode::{Default, ReadOnly, ReadWrite, Unknown};
        use AccessSpan::Session;
        check("set session characteristics as transaction read only", &[(ReadOnly, Session)]);
        check("SET SESSION Default_Transaction_Read_Only = 'ON'", &[(ReadOnly, Session)]);
        check("set \"default_transaction_read_only\" to U&'of'", &[(ReadWrite, Session)]);
        check("set default_transaction_read_only = 0", &[(ReadWrite, Session)]);
        check("set default_transaction_read_only = 'maybe'", &[]);
        check("reset default_transaction_read_only; reset all; discard all", &[(Default, Session); 3]);
        check("select set_config('default_transaction_read_only', 'no', false)", &[(ReadWrite, Session)]);
        check("select set_config('default_transaction_read_only', $1, false)", &[(Unknown, Session)]);
        check("select set_config($1, 'off', false)", &[(Unknown, Session)]);
        check(
            "select set_config('default_transaction_read_only', 'yes', false) from t",
            &[(Unknown, Session)],
        );
        check("update pg_settings set setting = 'off'", &[(Unknown, Session)]);
        check("set search_path = 'default_transaction_read_only'", &[]);
        check("select 'set default_transaction_read_only = off' -- set transaction read write", &[]);
    }
}
