//! The proxy's own statements on a server connection: reset, probe, auth query.

use super::connection::ServerConnection;
use super::error::ServerError;
use crate::wire::{MessageBuffer, ReadError};
use bytes::BytesMut;
use halephant_protocol::backend::{self, TransactionStatus};
use halephant_protocol::frontend::{Bind, Execute, Parse, Query, Sync};
use halephant_protocol::list::ValuesBuf;
use halephant_protocol::{EncodeError, ParseError};
use std::io;

/// No row, notice or error of the proxy's own statements is larger.
const BODY_BYTES_MAX: u32 = 1 << 20;
/// All rows of an own statement together.
const ROWS_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the server answered with {0}")]
    Server(ServerError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] io::Error),
    #[error("the server broke the protocol: {0}")]
    Parse(#[from] ParseError),
    #[error("the statement cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    #[error("the server returned more than {ROWS_BYTES_MAX} bytes of rows")]
    TooMuch,
    #[error("the server was left in a transaction")]
    NotIdle,
    #[error("the server sent more than it was asked for")]
    OutOfPlace,
}

/// The columns of one row as text.
pub type Row = Vec<Option<String>>;

impl ServerConnection {
    /// Runs statements by the simple protocol; rows are dropped. Not cancel safe.
    pub async fn command(&mut self, sql: &str) -> Result<(), QueryError> {
        self.commands(&[sql]).await
    }

    /// Runs each text as a Query of its own, all sent at once. Not cancel safe.
    pub async fn commands(&mut self, texts: &[&str]) -> Result<(), QueryError> {
        let mut out = BytesMut::new();
        for text in texts {
            Query { query: text.as_bytes() }.encode(&mut out)?;
        }
        self.converse(&out, texts.len()).await.map(drop)
    }

    /// Runs one statement with text parameters by the extended protocol. Not cancel safe.
    pub async fn query(&mut self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, QueryError> {
        let mut values = ValuesBuf::new();
        for parameter in parameters {
            values.push(Some(parameter.as_bytes()))?;
        }
        let mut out = BytesMut::new();
        let unnamed = &b""[..];
        Parse { statement: unnamed, query: sql.as_bytes(), parameter_types: Default::default() }
            .encode(&mut out)?;
        Bind {
            portal: unnamed,
            statement: unnamed,
            parameter_formats: Default::default(),
            parameters: values.as_values(),
            result_formats: Default::default(),
        }
        .encode(&mut out)?;
        Execute { portal: unnamed, rows_max: 0 }.encode(&mut out)?;
        Sync.encode(&mut out);
        self.exchange(&out).await
    }

    /// Sends `request` and reads up to its ReadyForQuery.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Vec<Row>, QueryError> {
        self.converse(request, 1).await
    }

    /// Sends `request` and reads up to the last of its ReadyForQuery messages. The first error is told.
    async fn converse(&mut self, request: &[u8], mut answers: usize) -> Result<Vec<Row>, QueryError> {
        self.busy = true;
        self.stream.write_all(request).await?;
        let mut buffer = MessageBuffer::default();
        let (mut rows, mut taken) = (Vec::new(), 0);
        let mut failed = None;
        while answers > 0 {
            let message = buffer.read_message(&mut self.stream, BODY_BYTES_MAX).await?;
            match backend::Message::parse(message.tag, &message.body)? {
                backend::Message::DataRow(row) => {
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    let row: Row = row.columns.iter().map(|value| value.map(text)).collect();
                    // A row without columns takes room, too, and so does a column without a value.
                    taken += message.body.len() + size_of::<Row>() + size_of_val(row.as_slice());
                    if taken > ROWS_BYTES_MAX {
                        return Err(QueryError::TooMuch);
                    }
                    rows.push(row);
                }
                backend::Message::ErrorResponse(fields) => {
                    let error = ServerError::from_fields(&fields);
                    // After a fatal error there is no ReadyForQuery to wait for.
                    if fields.severity().is_some_and(|severity| severity.ends_session()) {
                        return Err(QueryError::Server(error));
                    }
                    failed.get_or_insert(error);
                }
                backend::Message::ParameterStatus(_) if !self.report(&message.body) => {
                    return Err(QueryError::OutOfPlace);
                }
                backend::Message::ReadyForQuery(ready) if ready.status == TransactionStatus::Idle => {
                    answers -= 1
                }
                backend::Message::ReadyForQuery(_) => return Err(QueryError::NotIdle),
                _ => {}
            }
        }
        if !buffer.bytes().is_empty() {
            return Err(QueryError::OutOfPlace);
        }
        self.busy = false;
        failed.map_or(Ok(rows), |error| Err(QueryError::Server(error)))
    }
}
