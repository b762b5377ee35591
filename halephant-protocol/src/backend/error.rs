//! The fields of ErrorResponse and NoticeResponse (manual: Error and Notice Message Fields).

use super::tag;
use crate::encode::{self, EncodeError};
use crate::parse::{Cursor, ParseError};
use crate::sqlstate::SqlState;
use bytes::{BufMut, BytesMut};
use std::fmt;

/// The codes of the fields.
pub mod field {
    /// Localized; may be anything.
    pub const SEVERITY_LOCALIZED: u8 = b'S';
    /// Never localized; PostgreSQL 9.6 and later.
    pub const SEVERITY: u8 = b'V';
    pub const SQLSTATE: u8 = b'C';
    pub const MESSAGE: u8 = b'M';
    pub const DETAIL: u8 = b'D';
    pub const HINT: u8 = b'H';
    pub const POSITION: u8 = b'P';
    pub const INTERNAL_POSITION: u8 = b'p';
    pub const INTERNAL_QUERY: u8 = b'q';
    pub const WHERE: u8 = b'W';
    pub const SCHEMA: u8 = b's';
    pub const TABLE: u8 = b't';
    pub const COLUMN: u8 = b'c';
    pub const DATA_TYPE: u8 = b'd';
    pub const CONSTRAINT: u8 = b'n';
    pub const FILE: u8 = b'F';
    pub const LINE: u8 = b'L';
    pub const ROUTINE: u8 = b'R';
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Panic,
    Fatal,
    Error,
    Warning,
    Notice,
    Info,
    Log,
    Debug,
}

impl Severity {
    const ALL: [Self; 8] = [
        Self::Panic,
        Self::Fatal,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Log,
        Self::Debug,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
            Self::Log => "LOG",
            Self::Debug => "DEBUG",
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str().as_bytes() == text)
    }

    /// Does the server close the connection after it?
    pub const fn ends_session(self) -> bool {
        matches!(self, Self::Panic | Self::Fatal)
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// Without the byte that closes the list.
    raw: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(body);
        let mut bytes = 0;
        while cursor.u8()? != 0 {
            // The code, the string and its terminator.
            bytes += cursor.string()?.len() + 2;
        }
        cursor.finish()?;
        body.get(..bytes).map(|raw| Self { raw }).ok_or(ParseError::Truncated)
    }

    /// Each field's code and text, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + 'a {
        let mut cursor = Cursor::new(self.raw);
        std::iter::from_fn(move || Some((cursor.u8().ok()?, cursor.string().ok()?)))
    }

    /// The first field with this code.
    pub fn field(&self, code: u8) -> Option<&'a [u8]> {
        self.iter().find(|(this, _)| *this == code).map(|(_, text)| text)
    }

    /// `None` where the server neither sends `SEVERITY` nor an English `SEVERITY_LOCALIZED`.
    pub fn severity(&self) -> Option<Severity> {
        self.field(field::SEVERITY)
            .or_else(|| self.field(field::SEVERITY_LOCALIZED))
            .and_then(Severity::parse)
    }

    pub fn sqlstate(&self) -> Option<SqlState> {
        self.field(field::SQLSTATE).and_then(SqlState::parse)
    }

    /// Empty where there is none.
    pub fn message(&self) -> &'a [u8] {
        self.field(field::MESSAGE).unwrap_or_default()
    }

    pub fn encode_error(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(tag::ERROR_RESPONSE, out)
    }

    pub fn encode_notice(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(tag::NOTICE_RESPONSE, out)
    }

    fn encode(&self, tag: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::message(tag, out, |out| {
            encode::rest(out, self.raw)?;
            out.put_u8(0);
            Ok(())
        })
    }
}

impl fmt::Debug for ErrorFields<'_> {
    /// Severity and SQLSTATE only: the texts may quote a query or its values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorFields({:?}, {:?})", self.severity(), self.sqlstate())
    }
}

/// An error or notice that we originate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    pub severity: Severity,
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub routine: Option<Routine>,
}

/// PostgreSQL's function that reports an error: drivers tell some apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routine {
    RevalidateCachedQuery,
}

impl Routine {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RevalidateCachedQuery => "RevalidateCachedQuery",
        }
    }
}

impl ErrorReport {
    /// Each text is cut here, so that a report always fits into a message.
    pub const TEXT_BYTES_MAX: usize = 8 << 10;

    pub fn new(severity: Severity, sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self { severity, sqlstate, message: message.into(), detail: None, hint: None, routine: None }
    }

    /// The statement fails; the session goes on.
    pub fn error(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// The session ends.
    pub fn fatal(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn routine(mut self, routine: Routine) -> Self {
        self.routine = Some(routine);
        self
    }

    /// Appends it as an ErrorResponse.
    pub fn encode_error(&self, out: &mut BytesMut) {
        self.encode(tag::ERROR_RESPONSE, out);
    }

    /// Appends it as a NoticeResponse.
    pub fn encode_notice(&self, out: &mut BytesMut) {
        self.encode(tag::NOTICE_RESPONSE, out);
    }

    fn encode(&self, tag: u8, out: &mut BytesMut) {
        let written = encode::message(tag, out, |out| {
            text(field::SEVERITY_LOCALIZED, self.severity.as_str(), out);
            text(field::SEVERITY, self.severity.as_str(), out);
            text(field::SQLSTATE, self.sqlstate.as_str(), out);
            text(field::MESSAGE, &self.message, out);
            if let Some(detail) = &self.detail {
                text(field::DETAIL, detail, out);
            }
            if let Some(hint) = &self.hint {
                text(field::HINT, hint, out);
            }
            if let Some(routine) = self.routine {
                text(field::ROUTINE, routine.as_str(), out);
            }
            out.put_u8(0);
            Ok(())
        });
        debug_assert_eq!(written, Ok(()), "seven bounded texts fit into a message");
    }
}

/// Appends a field. An error must get through, so a NUL is left out and a long text is cut instead of refused.
fn text(code: u8, text: &str, out: &mut BytesMut) {
    out.put_u8(code);
    let end = text.floor_char_boundary(ErrorReport::TEXT_BYTES_MAX);
    out.extend(text.bytes().take(end).filter(|&b| b != 0));
    out.put_u8(0);
}
