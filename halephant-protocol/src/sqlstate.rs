//! SQLSTATE codes, and those that the pooler itself originates (manual: Appendix A, PostgreSQL Error Codes).

use std::fmt;

/// Five characters out of `0-9A-Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `None` unless all five are digits or upper-case letters.
    pub const fn parse(code: &[u8]) -> Option<Self> {
        let [a, b, c, d, e] = *code else { return None };
        let code = [a, b, c, d, e];
        let mut i = 0;
        while i < 5 {
            if !(code[i].is_ascii_digit() || code[i].is_ascii_uppercase()) {
                return None;
            }
            i += 1;
        }
        Some(Self(code))
    }

    /// For the table below, where a bad code does not compile.
    const fn literal(code: &str) -> Self {
        match Self::parse(code.as_bytes()) {
            Some(state) => state,
            None => panic!("a SQLSTATE has five characters, digits or upper-case letters"),
        }
    }

    pub const fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        // Only ASCII gets past `parse`.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The class: the first two characters.
    pub const fn class(&self) -> [u8; 2] {
        [self.0[0], self.0[1]]
    }

    /// The condition name of a code that is in the table.
    pub fn condition_name(&self) -> Option<&'static str> {
        TABLE.iter().find(|(state, _)| state == self).map(|(_, name)| *name)
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! conditions {
    ($($constant:ident = $code:literal $name:literal,)*) => {
        impl SqlState {
            $(#[doc = concat!("`", $name, "`")] pub const $constant: SqlState = SqlState::literal($code);)*
        }

        /// Every condition named here, with PostgreSQL's name for it.
        pub const TABLE: &[(SqlState, &str)] = &[$((SqlState::$constant, $name),)*];
    };
}

conditions! {
    SUCCESSFUL_COMPLETION = "00000" "successful_completion",
    WARNING = "01000" "warning",
    CONNECTION_EXCEPTION = "08000" "connection_exception",
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION = "08001" "sqlclient_unable_to_establish_sqlconnection",
    CONNECTION_DOES_NOT_EXIST = "08003" "connection_does_not_exist",
    SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION = "08004"
        "sqlserver_rejected_establishment_of_sqlconnection",
    CONNECTION_FAILURE = "08006" "connection_failure",
    PROTOCOL_VIOLATION = "08P01" "protocol_violation",
    FEATURE_NOT_SUPPORTED = "0A000" "feature_not_supported",
    INVALID_PARAMETER_VALUE = "22023" "invalid_parameter_value",
    INVALID_TRANSACTION_STATE = "25000" "invalid_transaction_state",
    ACTIVE_SQL_TRANSACTION = "25001" "active_sql_transaction",
    READ_ONLY_SQL_TRANSACTION = "25006" "read_only_sql_transaction",
    IN_FAILED_SQL_TRANSACTION = "25P02" "in_failed_sql_transaction",
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03" "idle_in_transaction_session_timeout",
    INVALID_SQL_STATEMENT_NAME = "26000" "invalid_sql_statement_name",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000" "invalid_authorization_specification",
    INVALID_PASSWORD = "28P01" "invalid_password",
    INVALID_CURSOR_NAME = "34000" "invalid_cursor_name",
    INVALID_CATALOG_NAME = "3D000" "invalid_catalog_name",
    SERIALIZATION_FAILURE = "40001" "serialization_failure",
    SYNTAX_ERROR = "42601" "syntax_error",
    UNDEFINED_OBJECT = "42704" "undefined_object",
    INSUFFICIENT_PRIVILEGE = "42501" "insufficient_privilege",
    DUPLICATE_PREPARED_STATEMENT = "42P05" "duplicate_prepared_statement",
    OUT_OF_MEMORY = "53200" "out_of_memory",
    TOO_MANY_CONNECTIONS = "53300" "too_many_connections",
    CONFIGURATION_LIMIT_EXCEEDED = "53400" "configuration_limit_exceeded",
    PROGRAM_LIMIT_EXCEEDED = "54000" "program_limit_exceeded",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000" "object_not_in_prerequisite_state",
    QUERY_CANCELED = "57014" "query_canceled",
    ADMIN_SHUTDOWN = "57P01" "admin_shutdown",
    CRASH_SHUTDOWN = "57P02" "crash_shutdown",
    CANNOT_CONNECT_NOW = "57P03" "cannot_connect_now",
    DATABASE_DROPPED = "57P04" "database_dropped",
    IDLE_SESSION_TIMEOUT = "57P05" "idle_session_timeout",
    SYSTEM_ERROR = "58000" "system_error",
    CONFIG_FILE_ERROR = "F0000" "config_file_error",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_never_internal_error() {
        for (i, (state, name)) in TABLE.iter().enumerate() {
            assert_ne!(state.class(), *b"XX", "{name}");
            assert!(
                TABLE[..i].iter().all(|(other, other_name)| other != state && other_name != name),
                "{name}"
            );
            assert_eq!(state.condition_name(), Some(*name));
        }
    }

    #[test]
    fn parse_refuses_what_is_no_code() {
        for bad in [&b""[..], b"0800", b"080060", b"08p01", b"08 01", "08é1".as_bytes()] {
            assert_eq!(SqlState::parse(bad), None, "{bad:?}");
        }
        assert_eq!(SqlState::parse(b"08P01"), Some(SqlState::PROTOCOL_VIOLATION));
        assert_eq!(SqlState::PROTOCOL_VIOLATION.to_string(), "08P01");
    }
}
