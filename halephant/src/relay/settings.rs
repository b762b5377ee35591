//! Parameters that PostgreSQL does not report: what a client's statements may have set is read back when its connection is about
//! to change hands, and follows the client.
//!
//! What a statement says is not what comes of it: it may fail, be rolled back, or be overridden by SET LOCAL. The server knows,
//! and is asked once, behind the last answer of the transaction.

use super::pin::PinReason;
use super::{Relay, RelayEnd};
use crate::prepared::changes_meaning;
use crate::server::parameters::SessionParameters;
use crate::sql::effect::Value;
use bytes::BytesMut;
use halephant_protocol::backend::{self, DataRow, ReadyForQuery, TransactionStatus};
use halephant_protocol::frame::Header;

/// Parameters that are read back at a time. A client that sets more keeps its connection.
const NAMES_MAX: usize = 64;
/// Longest value that follows a client.
const VALUE_BYTES_MAX: usize = 4096;

/// One row for each name: its value, whether it is too long, and where the value comes from, as far as that is to be seen.
/// Nothing in it depends on the session's search_path.
const READ_BACK: &str = "SELECT n, pg_catalog.substr(v, 1, 4097), s.source FROM (SELECT n, pg_catalog.current_setting(n, true) AS v \
FROM pg_catalog.unnest(pg_catalog.string_to_array($1::pg_catalog.text, ',')) AS n) AS q \
LEFT JOIN pg_catalog.pg_settings AS s ON pg_catalog.lower(s.name) OPERATOR(pg_catalog.=) n";

/// What the statements of a transaction may have set.
#[derive(Debug, Default)]
pub(super) struct Settings {
    names: Vec<Mentioned>,
    /// RESET ALL is among them.
    all: bool,
    /// A name among them changes what a text means, and the client's texts are read by themselves since.
    unsettled: Unsettled,
    reading: Option<Vec<Read>>,
    failed: bool,
}

#[derive(Debug)]
struct Mentioned {
    name: String,
    /// It may have been set to nothing, which is not the same as RESET.
    emptied: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unsettled {
    #[default]
    No,
    Changed,
    Noted,
}

/// What the server says about one parameter.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    name: String,
    found: Found,
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is what the connection began with.
    Beginning,
    Set(String),
    /// No list has the parameter: its value may be either.
    Unlisted(String),
    /// It cannot be carried to another connection.
    Uncarried,
}

impl Relay<'_> {
    /// A statement may set a parameter that is not reported, or take it back.
    pub(super) fn follow(&mut self, name: &[u8], value: &Value<'_>) {
        let name = String::from_utf8_lossy(name);
        let settings = &mut self.state.settings;
        let emptied = match value {
            Value::Text(text) => is_nothing(&name, text),
            Value::Parameter(_) | Value::Unknown => true,
            Value::Default => false,
        };
        if changes_meaning(&name) {
            settings.unsettled = Unsettled::Changed;
        }
        let full = settings.names.len() >= NAMES_MAX;
        match settings.names.iter_mut().find(|known| known.name == name) {
            Some(known) => known.emptied |= emptied,
            None if full => return self.pin(PinReason::Parameter),
            None => settings.names.push(Mentioned { name: name.into_owned(), emptied }),
        }
        self.lease.connection().unsettled = true;
    }

    /// A statement may take back all of them.
    pub(super) fn follow_all(&mut self) {
        self.state.settings.all = true;
        self.state.settings.unsettled = Unsettled::Changed;
        self.lease.connection().unsettled = true;
    }

    /// The parameters of now are known to the server alone. `Some`: whether that is new since it was last asked.
    pub(super) fn take_unsettled(&mut self) -> Option<bool> {
        let unsettled = &mut self.state.settings.unsettled;
        match unsettled {
            Unsettled::No => None,
            Unsettled::Noted => Some(false),
            Unsettled::Changed => {
                *unsettled = Unsettled::Noted;
                Some(true)
            }
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state.settings.unsettled == Unsettled::No
    }

    /// The client may have set what the server was not asked for yet.
    pub(super) fn has_unread(&self) -> bool {
        !self.state.settings.names.is_empty()
    }

    /// Asks the server for what the client has set, if it may have. `false`: there is nothing to ask.
    pub(super) fn reads_back(&mut self) -> bool {
        let settings = &mut self.state.settings;
        if settings.names.is_empty() && !settings.all {
            return false;
        }
        if self.state.terminated {
            // Nobody wants to know any more: the connection is reset.
            return false;
        }
        let server = self.lease.connection();
        let mut names: Vec<&str> = settings.names.iter().map(|it| it.name.as_str()).collect();
        if settings.all {
            names.extend(server.applied.iter().map(|(name, _)| name));
            names.sort_unstable();
            names.dedup();
        }
        if names.is_empty() {
            // RESET ALL, and there was nothing to reset.
            self.settle(Vec::new());
            return false;
        }
        let mut out = BytesMut::new();
        if crate::server::apply::encode_question(READ_BACK, &names.join(","), &mut out).is_err() {
            // Names are checked to hold no NUL.
            self.pin(PinReason::Parameter);
            return true;
        }
        server.busy = true;
        self.state.to_server = out;
        self.state.swallowing = true;
        self.state.settings.reading = Some(Vec::new());
        self.state.settings.failed = false;
        // The question takes its place.
        self.state.statements.unnamed_is_gone();
        true
    }

    /// Whether what is swallowed now answers the question.
    pub(super) fn is_reading_back(&self) -> bool {
        self.state.settings.reading.is_some()
    }

    /// One answer to it.
    pub(super) fn swallow_read_back(&mut self, header: Header, body: &[u8]) -> Option<RelayEnd> {
        match header.tag {
            backend::tag::DATA_ROW => {
                let row = DataRow::parse(body).ok().and_then(|row| read(&row));
                match (row, &mut self.state.settings.reading) {
                    (Some(row), Some(rows)) => rows.push(row),
                    _ => return Some(RelayEnd::ServerViolation),
                }
            }
            // A statement_timeout of the client's, or a parameter that may not be read.
            backend::tag::ERROR_RESPONSE if !super::scan::is_fatal(body) => self.state.settings.failed = true,
            backend::tag::READY_FOR_QUERY => return self.read_back(body),
            _ => return self.swallow_answer(header, body),
        }
        None
    }

    fn read_back(&mut self, body: &[u8]) -> Option<RelayEnd> {
        let ready = ReadyForQuery::parse(body).map(|ready| ready.status);
        if ready != Ok(TransactionStatus::Idle) {
            return Some(RelayEnd::ServerViolation);
        }
        self.state.swallowing = false;
        self.lease.connection().busy = false;
        let rows = self.state.settings.reading.take().unwrap_or_default();
        if self.state.settings.failed || rows.iter().any(|row| row.found == Found::Uncarried) {
            self.pin(PinReason::Parameter);
        } else {
            self.settle(rows);
        }
        None
    }

    fn settle(&mut self, rows: Vec<Read>) {
        let settings = std::mem::take(&mut self.state.settings);
        let server = self.lease.connection();
        let client = &mut *self.client;
        for Read { name, found } in rows {
            let is_emptied = settings.names.iter().any(|it| it.name == name && it.emptied);
            // No list says where it comes from: it is what the connection began with, unless somebody asked for nothing.
            let is_beginning = |value: &str| {
                is_nothing(&name, value.as_bytes())
                    && !is_emptied
                    && client.wanted.value(&name) != Some(value)
            };
            let value = match found {
                Found::Set(value) => Some(value),
                Found::Unlisted(value) if !is_beginning(&value) => Some(value),
                _ => None,
            };
            match value {
                Some(value) => {
                    server.applied.set(&name, &value);
                    client.wanted.set(&name, &value);
                }
                None => {
                    server.applied.restore(&name, &SessionParameters::default());
                    client.wanted.restore(&name, &client.startup);
                }
            }
        }
        server.unsettled = false;
    }
}

/// What a parameter has in no list shows that nobody has set.
fn is_nothing(name: &str, value: &[u8]) -> bool {
    if name == "role" { value.eq_ignore_ascii_case(b"none") } else { value.is_empty() }
}

fn read(row: &DataRow<'_>) -> Option<Read> {
    let mut columns = row.columns.iter();
    let (name, value, source) = (columns.next()??, columns.next()?, columns.next()?);
    let found = match (value, source) {
        (None, _) => Found::Beginning,
        (Some(_), Some(source)) if source != b"session" => Found::Beginning,
        // What is not ASCII is another value under another client_encoding.
        (Some(value), _) if value.is_ascii() && value.len() <= VALUE_BYTES_MAX => {
            let value = String::from_utf8_lossy(value).into_owned();
            if source.is_some() { Found::Set(value) } else { Found::Unlisted(value) }
        }
        _ => Found::Uncarried,
    };
    Some(Read { name: std::str::from_utf8(name).ok()?.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use halephant_protocol::list::ValuesBuf;

    fn check(value: Option<&[u8]>, source: Option<&[u8]>, expected: Found) {
        let mut columns = ValuesBuf::new();
        for column in [Some(&b"a.b"[..]), value, source] {
            columns.push(column).expect("a short value");
        }
        let row = DataRow { columns: columns.as_values() };
        assert_eq!(read(&row), Some(Read { name: "a.b".into(), found: expected }));
    }

    #[test]
    fn only_what_the_session_set_is_its_own() {
        let set = |text: &str| Found::Set(text.to_owned());
        check(Some(b"64MB"), Some(b"session"), set("64MB"));
        check(Some(b"4MB"), Some(b"default"), Found::Beginning);
        check(Some(b"4MB"), Some(b"client"), Found::Beginning);
        // One that nobody defined is in no list.
        check(Some(b"mine"), None, Found::Unlisted("mine".into()));
        check(Some(b""), None, Found::Unlisted(String::new()));
        check(None, None, Found::Beginning);
    }

    #[test]
    fn what_another_connection_might_take_for_something_else_is_not_carried() {
        check(Some("é".as_bytes()), None, Found::Uncarried);
        check(Some(b"\xe9"), Some(b"session"), Found::Uncarried);
        check(Some(&[b'x'; VALUE_BYTES_MAX]), None, Found::Unlisted("x".repeat(VALUE_BYTES_MAX)));
        check(Some(&[b'x'; VALUE_BYTES_MAX + 1]), None, Found::Uncarried);
    }

    #[test]
    fn the_question_asks_for_one_byte_too_many() {
        assert!(READ_BACK.contains(&format!("1, {})", VALUE_BYTES_MAX + 1)));
    }
}
