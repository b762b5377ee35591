//! The PostgreSQL wire protocol, versions 3.0 and 3.2, without I/O: values from bytes and bytes from values.
//!
//! Nothing here blocks, allocates without a bound, reads a clock or logs, and no input makes it panic. Incomplete
//! input is not an error: functions that look at a stream answer `Ok(None)` until enough bytes are there.

pub mod backend;
pub mod copy;
mod encode;
pub mod frame;
pub mod frontend;
pub mod list;
pub mod md5;
mod parse;
mod saslprep;
pub mod scram;
pub mod sqlstate;
pub mod startup;

pub use encode::EncodeError;
pub use parse::ParseError;
pub use sqlstate::SqlState;
