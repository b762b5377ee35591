//! [`walk`]: follows message headers over one chunk of a stream, carrying its position from chunk to chunk.
//!
//! The loop is written for the verifier, which follows every path of every turn: few branches, no counter that a branch
//! depends on, and no difference between the directions. No message is called Z from a client or X from a server.

use halephant_common::flow::{Reason, watched_bit};
use halephant_common::framing::{
    FUNCTION_CALL, Framing, HEADER_BYTES, MESSAGE_BYTES_MAX, QUERY, READY_FOR_QUERY, SYNC, TERMINATE, tag_of,
};

/// Headers in one run: what the verifier of 5.10 can follow, and more than a chunk of small results holds.
pub const HEADERS_MAX: u32 = 64;

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
    /// Messages that ask for a ReadyForQuery if a client sent them: Query, Sync, FunctionCall.
    pub asks: u32,
    /// ReadyForQuery by transaction status, 8 bits each; see [`Tally::ready`].
    statuses: u32,
}

/// Bits of the status bytes E, I and T that tell them apart, as shifts by whole bytes: 0, 8 and 16.
const STATUS_BITS: u32 = 0x18;

/// Has a bit for each message that asks for a ReadyForQuery, by the six low bits of its type byte.
const ASKS: u64 = watched_bit(QUERY) | watched_bit(SYNC) | watched_bit(FUNCTION_CALL);

/// Messages of the extended protocol that a Sync has yet to follow: Parse, Bind, Close, Describe, Execute, and Flush,
/// which may come behind them.
const UNSYNCED: u64 = watched_bit(b'P')
    | watched_bit(b'B')
    | watched_bit(b'C')
    | watched_bit(b'D')
    | watched_bit(b'E')
    | watched_bit(b'H');

/// After an error in those, these are skipped and not answered, so that requests and answers could no longer be counted.
const AFTER_SYNC: u64 = watched_bit(QUERY) | watched_bit(FUNCTION_CALL);

impl Tally {
    /// ReadyForQuery by transaction status: idle, in a transaction, failed.
    #[inline(always)]
    pub const fn ready(&self) -> [u32; 3] {
        [(self.statuses >> 8) & 0xff, (self.statuses >> 16) & 0xff, self.statuses & 0xff]
    }
}

/// Follows the headers in `chunk`. On an error the chunk shall go to userspace as a whole, from the position at its
/// beginning.
#[inline(always)]
pub fn walk<C: Chunk>(
    start: Framing,
    watched: u64,
    chunk: &mut C,
    tally: &mut Tally,
) -> Result<Framing, Reason> {
    let bytes = chunk.bytes();
    let mut framing = start;
    let mut at = 0;
    if framing.left > 0 {
        at = body(&mut framing, chunk, 0, bytes, tally)?;
    } else if framing.header_len > 0 {
        at = collect(&mut framing, chunk, 0, bytes)?;
        if framing.header_len < HEADER_BYTES as u8 {
            return partial(framing, watched);
        }
        open(&mut framing, watched, tally)?;
        at = body(&mut framing, chunk, at, bytes, tally)?;
    }
    let mut headers = 0;
    while headers < HEADERS_MAX {
        headers += 1;
        if bytes - at < HEADER_BYTES {
            break;
        }
        framing.header = chunk.header(at).ok_or(Reason::Framing)?;
        at += HEADER_BYTES;
        open(&mut framing, watched, tally)?;
        at = body(&mut framing, chunk, at, bytes, tally)?;
    }
    if tally.statuses >> 24 != 0 {
        return Err(Reason::Framing);
    }
    if bytes - at >= HEADER_BYTES {
        return Err(Reason::Dense);
    }
    if at < bytes {
        collect(&mut framing, chunk, at, bytes)?;
        return partial(framing, watched);
    }
    Ok(framing)
}

/// Takes body bytes; the new position.
#[inline(always)]
fn body<C: Chunk>(
    framing: &mut Framing,
    chunk: &mut C,
    at: u32,
    bytes: u32,
    tally: &mut Tally,
) -> Result<u32, Reason> {
    let there = bytes - at;
    if framing.tag == READY_FOR_QUERY && there > 0 {
        framing.status = chunk.byte(at).ok_or(Reason::Framing)?;
        tally.statuses += 1 << (framing.status as u32 & STATUS_BITS);
    }
    if framing.left > there {
        framing.left -= there;
        return Ok(bytes);
    }
    let next = at + framing.left;
    framing.left = 0;
    Ok(next)
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

/// The chunk ends within a header: fine, unless the header may become one that userspace has to see from its beginning.
#[inline(always)]
fn partial(framing: Framing, watched: u64) -> Result<Framing, Reason> {
    let tag = (framing.header >> ((8 * (framing.header_len as u32 - 1)) & 31)) as u8;
    if tag == TERMINATE {
        return Err(Reason::Terminate);
    }
    let unsynced = (UNSYNCED >> (framing.tag & 63)) & (AFTER_SYNC >> (tag & 63)) & 1;
    if unsynced | ((watched >> (tag & 63)) & 1) != 0 { Err(Reason::Watched) } else { Ok(framing) }
}

/// Starts the message whose whole header is in `framing`.
#[inline(always)]
fn open(framing: &mut Framing, watched: u64, tally: &mut Tally) -> Result<(), Reason> {
    let tag = tag_of(framing.header);
    if tag == TERMINATE {
        return Err(Reason::Terminate);
    }
    let unsynced = (UNSYNCED >> (framing.tag & 63)) & (AFTER_SYNC >> (tag & 63)) & 1;
    if unsynced | ((watched >> (tag & 63)) & 1) != 0 {
        return Err(Reason::Watched);
    }
    // A length below 4 becomes a huge one.
    let left = (framing.header as u32).wrapping_sub(4);
    if left > MESSAGE_BYTES_MAX || (tag == READY_FOR_QUERY && left != 1) {
        return Err(Reason::Framing);
    }
    framing.tag = tag;
    framing.left = left;
    framing.header = 0;
    framing.header_len = 0;
    tally.messages += 1;
    tally.asks += (ASKS >> (tag & 63)) as u32 & 1;
    Ok(())
}
