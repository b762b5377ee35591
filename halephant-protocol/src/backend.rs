//! What a server sends (manual: Message Formats, those marked B).

mod authentication;
mod copy;
mod error;
mod notification;
mod query;
mod row;
mod session;
pub mod tag;

pub use crate::copy::{CopyData, CopyDone};
pub use authentication::Authentication;
pub use copy::{CopyBothResponse, CopyInResponse, CopyOutResponse};
pub use error::{ErrorFields, ErrorReport, Routine, Severity, field};
pub use notification::NotificationResponse;
pub use query::{
    BindComplete, CloseComplete, CommandComplete, EmptyQueryResponse, FunctionCallResponse, NoData,
    ParameterDescription, ParseComplete, PortalSuspended,
};
pub use row::{DataRow, Field, FieldsBuf, RowDescription};
pub(crate) use session::check_secret_key;
pub use session::{
    BackendKeyData, NegotiateProtocolVersion, ParameterStatus, ReadyForQuery, SECRET_KEY_BYTES_MAX,
    SECRET_KEY_BYTES_MIN, TransactionStatus,
};

use crate::encode::EncodeError;
use crate::parse::ParseError;
use bytes::BytesMut;

/// Any message of a server, borrowed from its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Authentication(Authentication<'a>),
    BackendKeyData(BackendKeyData<'a>),
    BindComplete(BindComplete),
    CloseComplete(CloseComplete),
    CommandComplete(CommandComplete<'a>),
    CopyBothResponse(CopyBothResponse<'a>),
    CopyData(CopyData<'a>),
    CopyDone(CopyDone),
    CopyInResponse(CopyInResponse<'a>),
    CopyOutResponse(CopyOutResponse<'a>),
    DataRow(DataRow<'a>),
    EmptyQueryResponse(EmptyQueryResponse),
    ErrorResponse(ErrorFields<'a>),
    FunctionCallResponse(FunctionCallResponse<'a>),
    NegotiateProtocolVersion(NegotiateProtocolVersion<'a>),
    NoData(NoData),
    NoticeResponse(ErrorFields<'a>),
    NotificationResponse(NotificationResponse<'a>),
    ParameterDescription(ParameterDescription<'a>),
    ParameterStatus(ParameterStatus<'a>),
    ParseComplete(ParseComplete),
    PortalSuspended(PortalSuspended),
    ReadyForQuery(ReadyForQuery),
    RowDescription(RowDescription<'a>),
}

impl<'a> Message<'a> {
    pub fn parse(tag: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(match tag {
            tag::AUTHENTICATION => Self::Authentication(Authentication::parse(body)?),
            tag::BACKEND_KEY_DATA => Self::BackendKeyData(BackendKeyData::parse(body)?),
            tag::BIND_COMPLETE => Self::BindComplete(BindComplete::parse(body)?),
            tag::CLOSE_COMPLETE => Self::CloseComplete(CloseComplete::parse(body)?),
            tag::COMMAND_COMPLETE => Self::CommandComplete(CommandComplete::parse(body)?),
            tag::COPY_BOTH_RESPONSE => Self::CopyBothResponse(CopyBothResponse::parse(body)?),
            tag::COPY_DATA => Self::CopyData(CopyData::parse(body)?),
            tag::COPY_DONE => Self::CopyDone(CopyDone::parse(body)?),
            tag::COPY_IN_RESPONSE => Self::CopyInResponse(CopyInResponse::parse(body)?),
            tag::COPY_OUT_RESPONSE => Self::CopyOutResponse(CopyOutResponse::parse(body)?),
            tag::DATA_ROW => Self::DataRow(DataRow::parse(body)?),
            tag::EMPTY_QUERY_RESPONSE => Self::EmptyQueryResponse(EmptyQueryResponse::parse(body)?),
            tag::ERROR_RESPONSE => Self::ErrorResponse(ErrorFields::parse(body)?),
            tag::FUNCTION_CALL_RESPONSE => Self::FunctionCallResponse(FunctionCallResponse::parse(body)?),
            tag::NEGOTIATE_PROTOCOL_VERSION => {
                Self::NegotiateProtocolVersion(NegotiateProtocolVersion::parse(body)?)
            }
            tag::NO_DATA => Self::NoData(NoData::parse(body)?),
            tag::NOTICE_RESPONSE => Self::NoticeResponse(ErrorFields::parse(body)?),
            tag::NOTIFICATION_RESPONSE => Self::NotificationResponse(NotificationResponse::parse(body)?),
            tag::PARAMETER_DESCRIPTION => Self::ParameterDescription(ParameterDescription::parse(body)?),
            tag::PARAMETER_STATUS => Self::ParameterStatus(ParameterStatus::parse(body)?),
            tag::PARSE_COMPLETE => Self::ParseComplete(ParseComplete::parse(body)?),
            tag::PORTAL_SUSPENDED => Self::PortalSuspended(PortalSuspended::parse(body)?),
            tag::READY_FOR_QUERY => Self::ReadyForQuery(ReadyForQuery::parse(body)?),
            tag::ROW_DESCRIPTION => Self::RowDescription(RowDescription::parse(body)?),
            tag => return Err(ParseError::Tag { tag }),
        })
    }

    pub const fn tag(&self) -> u8 {
        match self {
            Self::Authentication(_) => tag::AUTHENTICATION,
            Self::BackendKeyData(_) => tag::BACKEND_KEY_DATA,
            Self::BindComplete(_) => tag::BIND_COMPLETE,
            Self::CloseComplete(_) => tag::CLOSE_COMPLETE,
            Self::CommandComplete(_) => tag::COMMAND_COMPLETE,
            Self::CopyBothResponse(_) => tag::COPY_BOTH_RESPONSE,
            Self::CopyData(_) => tag::COPY_DATA,
            Self::CopyDone(_) => tag::COPY_DONE,
            Self::CopyInResponse(_) => tag::COPY_IN_RESPONSE,
            Self::CopyOutResponse(_) => tag::COPY_OUT_RESPONSE,
            Self::DataRow(_) => tag::DATA_ROW,
            Self::EmptyQueryResponse(_) => tag::EMPTY_QUERY_RESPONSE,
            Self::ErrorResponse(_) => tag::ERROR_RESPONSE,
            Self::FunctionCallResponse(_) => tag::FUNCTION_CALL_RESPONSE,
            Self::NegotiateProtocolVersion(_) => tag::NEGOTIATE_PROTOCOL_VERSION,
            Self::NoData(_) => tag::NO_DATA,
            Self::NoticeResponse(_) => tag::NOTICE_RESPONSE,
            Self::NotificationResponse(_) => tag::NOTIFICATION_RESPONSE,
            Self::ParameterDescription(_) => tag::PARAMETER_DESCRIPTION,
            Self::ParameterStatus(_) => tag::PARAMETER_STATUS,
            Self::ParseComplete(_) => tag::PARSE_COMPLETE,
            Self::PortalSuspended(_) => tag::PORTAL_SUSPENDED,
            Self::ReadyForQuery(_) => tag::READY_FOR_QUERY,
            Self::RowDescription(_) => tag::ROW_DESCRIPTION,
        }
    }

    /// Appends the message, header included; on an error `out` is as it was before.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Authentication(message) => return message.encode(out),
            Self::BackendKeyData(message) => return message.encode(out),
            Self::BindComplete(message) => message.encode(out),
            Self::CloseComplete(message) => message.encode(out),
            Self::CommandComplete(message) => return message.encode(out),
            Self::CopyBothResponse(message) => return message.encode(out),
            Self::CopyData(message) => return message.encode(out),
            Self::CopyDone(message) => message.encode(out),
            Self::CopyInResponse(message) => return message.encode(out),
            Self::CopyOutResponse(message) => return message.encode(out),
            Self::DataRow(message) => return message.encode(out),
            Self::EmptyQueryResponse(message) => message.encode(out),
            Self::ErrorResponse(fields) => return fields.encode_error(out),
            Self::FunctionCallResponse(message) => return message.encode(out),
            Self::NegotiateProtocolVersion(message) => return message.encode(out),
            Self::NoData(message) => message.encode(out),
            Self::NoticeResponse(fields) => return fields.encode_notice(out),
            Self::NotificationResponse(message) => return message.encode(out),
            Self::ParameterDescription(message) => return message.encode(out),
            Self::ParameterStatus(message) => return message.encode(out),
            Self::ParseComplete(message) => message.encode(out),
            Self::PortalSuspended(message) => message.encode(out),
            Self::ReadyForQuery(message) => message.encode(out),
            Self::RowDescription(message) => return message.encode(out),
        }
        Ok(())
    }
}
