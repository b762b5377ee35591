//! Byte streams that carry the protocol, and the buffers they are read into.
//!
//! A [`Stream`] is deliberately not `AsyncRead`: a reader takes what is there into the worker's scratch buffer, walks
//! the message headers and hands whole runs on, so that an idle connection owns no buffer at all.

#[cfg(test)]
pub(crate) mod fake;
pub mod messages;
pub mod scratch;
pub mod stream;

pub use messages::{MessageBuffer, ReadError};
pub use scratch::{SCRATCH_BYTES, with_scratch};
pub use stream::Stream;
