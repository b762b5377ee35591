//! [`walk`]: follows message headers over one chunk of a stream, carrying its position from chunk to chunk.

use halephant_common::flow::{CLIENT_TO_SERVER, Reason};
use halephant_common::framing::{
    FUNCTION_CALL, Framing, HEADER_BYTES, QUERY, READY_FOR_QUERY, SYNC, TERMINATE, body_bytes, tag_of,
};

/// Headers in one run: what the verifier of 5.10 can follow, and more than a chunk of small results holds.
pub const HEADERS_MAX: u32 = 256;

/// Bytes of one run of a program: a message that is being sent, or a packet that was received.
pub trait Chunk {
    fn bytes(&self) -> u32;

    /// The byte at `at`; `None` where the kernel does not give it.
    fn byte(&mut self, at: u32) -> Option<u8>;

    /// The [`HEADER_BYTES`] bytes from `at`, the latest lowest. The caller knows that they are there.
    fn header(&mut self, at: u32) -> Option<u64>;
}

/// What was seen in one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub messages: u32,
    /// Messages that ask for a ReadyForQuery (Query, Sync, FunctionCall), from the client.
    pub asks: u32,
    /// ReadyForQuery by status: idle, in a transaction, failed.
    pub ready: [u32; 3],
}

/// Follows the headers in `chunk`. On an error the chunk shall go to userspace as a whole, from the position at its
/// beginning.
#[inline(always)]
pub fn walk<C: Chunk>(
    start: Framing,
    direction: u32,
    chunk: &mut C,
    tally: &mut Tally,
) -> Result<Framing, Reason> {
    let bytes = chunk.bytes();
    let mut framing = start;
    let mut at = 0;
    if framing.left > 0 {
        at = skip(&mut framing, direction, chunk, at, bytes, tally)?;
    }
    if framing.header_len > 0 {
        at = collect(&mut framing, chunk, at, bytes)?;
        if framing.header_len < HEADER_BYTES as u8 {
            return partial(framing, direction);
        }
        open(&mut framing, direction, tally)?;
        at = skip(&mut framing, direction, chunk, at, bytes, tally)?;
    }
    let mut headers = 0;
    while headers < HEADERS_MAX {
        headers += 1;
        if at >= bytes {
            return Ok(framing);
        }
        if bytes - at < HEADER_BYTES {
            collect(&mut framing, chunk, at, bytes)?;
            return partial(framing, direction);
        }
        framing.header = chunk.header(at).ok_or(Reason::Framing)?;
        at += HEADER_BYTES;
        open(&mut framing, direction, tally)?;
        at = skip(&mut framing, direction, chunk, at, bytes, tally)?;
    }
    if at >= bytes { Ok(framing) } else { Err(Reason::Dense) }
}

/// Takes body bytes; the new position.
#[inline(always)]
fn skip<C: Chunk>(
    framing: &mut Framing,
    direction: u32,
    chunk: &mut C,
    at: u32,
    bytes: u32,
    tally: &mut Tally,
) -> Result<u32, Reason> {
    let there = bytes - at;
    if there == 0 || framing.left == 0 {
        return Ok(at);
    }
    if direction != CLIENT_TO_SERVER && framing.tag == READY_FOR_QUERY {
        framing.status = chunk.byte(at).ok_or(Reason::Framing)?;
        match framing.status {
            b'I' => tally.ready[0] += 1,
            b'T' => tally.ready[1] += 1,
            b'E' => tally.ready[2] += 1,
            _ => return Err(Reason::Framing),
        }
    }
    let taken = if framing.left < there { framing.left } else { there };
    framing.left -= taken;
    Ok(at + taken)
}

/// Takes header bytes one by one, up to a whole header; the new position.
#[inline(always)]
fn collect<C: Chunk>(framing: &mut Framing, chunk: &mut C, at: u32, bytes: u32) -> Result<u32, Reason> {
    let mut at = at;
    let mut steps = 0;
    while steps < HEADER_BYTES {
        steps += 1;
        if at >= bytes || framing.header_len >= HEADER_BYTES as u8 {
            break;
        }
        let byte = chunk.byte(at).ok_or(Reason::Framing)?;
        framing.header = (framing.header << 8) | byte as u64;
        framing.header_len += 1;
        at += 1;
    }
    Ok(at)
}

/// The chunk ends within a header: fine, unless the header may become a Terminate's.
#[inline(always)]
fn partial(framing: Framing, direction: u32) -> Result<Framing, Reason> {
    let tag = (framing.header >> ((8 * (framing.header_len as u32 - 1)) & 31)) as u8;
    if direction == CLIENT_TO_SERVER && tag == TERMINATE {
        return Err(Reason::Terminate);
    }
    Ok(framing)
}

/// Starts the message whose whole header is in `framing`.
#[inline(always)]
fn open(framing: &mut Framing, direction: u32, tally: &mut Tally) -> Result<(), Reason> {
    let tag = tag_of(framing.header);
    if direction == CLIENT_TO_SERVER && tag == TERMINATE {
        return Err(Reason::Terminate);
    }
    let left = body_bytes(framing.header).ok_or(Reason::Framing)?;
    if direction != CLIENT_TO_SERVER && tag == READY_FOR_QUERY && left != 1 {
        return Err(Reason::Framing);
    }
    framing.tag = tag;
    framing.left = left;
    framing.header = 0;
    framing.header_len = 0;
    tally.messages += 1;
    if direction == CLIENT_TO_SERVER && matches!(tag, QUERY | SYNC | FUNCTION_CALL) {
        tally.asks += 1;
    }
    Ok(())
}
