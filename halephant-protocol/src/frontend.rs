//! What a client sends after its startup packet (manual: Message Formats, those marked F).

mod copy;
mod extended;
mod password;
mod simple;
pub mod tag;

pub use crate::copy::{CopyData, CopyDone};
pub use copy::CopyFail;
pub use extended::{Bind, Close, Describe, Execute, Flush, Parse, Sync, Target};
pub use password::{AuthenticationResponse, GssResponse, PasswordMessage, SaslInitialResponse, SaslResponse};
pub use simple::{FunctionCall, Query, Terminate};

use crate::encode::EncodeError;
use crate::parse::ParseError;
use bytes::BytesMut;

/// Any message of a client, borrowed from its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Bind(Bind<'a>),
    Close(Close<'a>),
    CopyData(CopyData<'a>),
    CopyDone(CopyDone),
    CopyFail(CopyFail<'a>),
    Describe(Describe<'a>),
    Execute(Execute<'a>),
    Flush(Flush),
    FunctionCall(FunctionCall<'a>),
    Parse(Parse<'a>),
    /// PasswordMessage, SASLInitialResponse, SASLResponse or GSSResponse: they share a tag, and only the
    /// authentication request that was sent tells which it is.
    AuthenticationResponse(AuthenticationResponse<'a>),
    Query(Query<'a>),
    Sync(Sync),
    Terminate(Terminate),
}

impl<'a> Message<'a> {
    pub fn parse(tag: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        Ok(match tag {
            tag::BIND => Self::Bind(Bind::parse(body)?),
            tag::CLOSE => Self::Close(Close::parse(body)?),
            tag::COPY_DATA => Self::CopyData(CopyData::parse(body)?),
            tag::COPY_DONE => Self::CopyDone(CopyDone::parse(body)?),
            tag::COPY_FAIL => Self::CopyFail(CopyFail::parse(body)?),
            tag::DESCRIBE => Self::Describe(Describe::parse(body)?),
            tag::EXECUTE => Self::Execute(Execute::parse(body)?),
            tag::FLUSH => Self::Flush(Flush::parse(body)?),
            tag::FUNCTION_CALL => Self::FunctionCall(FunctionCall::parse(body)?),
            tag::PARSE => Self::Parse(Parse::parse(body)?),
            tag::AUTHENTICATION_RESPONSE => {
                Self::AuthenticationResponse(AuthenticationResponse::parse(body)?)
            }
            tag::QUERY => Self::Query(Query::parse(body)?),
            tag::SYNC => Self::Sync(Sync::parse(body)?),
            tag::TERMINATE => Self::Terminate(Terminate::parse(body)?),
            tag => return Err(ParseError::Tag { tag }),
        })
    }

    pub const fn tag(&self) -> u8 {
        match self {
            Self::Bind(_) => tag::BIND,
            Self::Close(_) => tag::CLOSE,
            Self::CopyData(_) => tag::COPY_DATA,
            Self::CopyDone(_) => tag::COPY_DONE,
            Self::CopyFail(_) => tag::COPY_FAIL,
            Self::Describe(_) => tag::DESCRIBE,
            Self::Execute(_) => tag::EXECUTE,
            Self::Flush(_) => tag::FLUSH,
            Self::FunctionCall(_) => tag::FUNCTION_CALL,
            Self::Parse(_) => tag::PARSE,
            Self::AuthenticationResponse(_) => tag::AUTHENTICATION_RESPONSE,
            Self::Query(_) => tag::QUERY,
            Self::Sync(_) => tag::SYNC,
            Self::Terminate(_) => tag::TERMINATE,
        }
    }

    /// Appends the message, header included; on an error `out` is as it was before.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Bind(message) => return message.encode(out),
            Self::Close(message) => return message.encode(out),
            Self::CopyData(message) => return message.encode(out),
            Self::CopyDone(message) => message.encode(out),
            Self::CopyFail(message) => return message.encode(out),
            Self::Describe(message) => return message.encode(out),
            Self::Execute(message) => return message.encode(out),
            Self::Flush(message) => message.encode(out),
            Self::FunctionCall(message) => return message.encode(out),
            Self::Parse(message) => return message.encode(out),
            Self::AuthenticationResponse(message) => return message.encode(out),
            Self::Query(message) => return message.encode(out),
            Self::Sync(message) => message.encode(out),
            Self::Terminate(message) => message.encode(out),
        }
        Ok(())
    }
}
